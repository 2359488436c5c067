/* The functions of include/arenal/arenal.h. */
#include "arenal/arenal.h"

#include <string.h>

#include "api/api.h"
#include "arena/pressure.h"
#include "base/conf.h"
#include "cache/tcache.h"
#include "harden/harden.h"
#include "observe/profile.h"
#include "observe/stats.h"
#include "observe/window.h"

const char *arenal_version(void) { return ARENAL_VERSION_STRING; }

size_t arenal_purge(void) {
	ensure_started();
	tcache_flush_all();
	return harden_purge_all(0);
}

int arenal_stats_get(struct arenal_stats *out, size_t size) {
	if (out == NULL || size == 0) return EINVAL;
	ensure_started();
	struct arenal_stats all;
	stats_get(&all);
	if (size > sizeof all) memset((char *)out + sizeof all, 0, size - sizeof all);
	memcpy(out, &all, min_size(size, sizeof all));
	return 0;
}

int arenal_stats_print(int fd) {
	ensure_started();
	return stats_print(fd);
}

int arenal_profile_start(size_t bytes) {
	ensure_started();
	return profile_start(bytes);
}

void arenal_profile_stop(void) {
	ensure_started();
	profile_stop();
}

int arenal_profile_dump(int fd) {
	ensure_started();
	return profile_dump(fd);
}

int arenal_get(const char *name, int64_t *value) {
	if (name == NULL || value == NULL) return EINVAL;
	ensure_started();
	return conf_get(name, value);
}

int arenal_set(const char *name, int64_t value) {
	if (name == NULL) return ENOENT;
	ensure_started();
	const int error = conf_set(name, value);
	if (error == 0) pressure_look_again();
	if (error == 0) window_look();
	return error;
}
