/* The nodes prof.* and thread.prof.*: the heap profile, which can be switched on at any time here. */
#include <string.h>

#include "base/conf_jemalloc.h"
#include "cache/tcache.h"
#include "jemalloc/ctl.h"
#include "jemalloc/profile_dump.h"
#include "jemalloc/thread.h"
#include "observe/profile.h"

enum { ACTIVE, THREAD_ACTIVE, GROWTH_DUMP, PREFIX, SAMPLE, DUMP, RESET };

/* What was collected stays. */
static int set_active(bool on) {
	if (on == sample_is_on()) return 0;
	if (!on) {
		profile_stop();
		return 0;
	}
	const uint64_t mean = profile_mean();
	if (mean != 0) return tcache_sample(mean) ? 0 : EAGAIN;
	return profile_start(0) == 0 ? 0 : EFAULT;
}

static int set_thread_active(bool on) {
	tcache_exit_is_noticed(); /* it has a cache then */
	thread_counts.not_profiled = !on;
	tcache_sample_busy(!on);
	return 0;
}

static int set_prefix(const char *prefix) {
	if (prefix == NULL || strlen(prefix) >= sizeof conf_jemalloc.prof_prefix) return EFAULT;
	tcache_lock();
	memcpy(conf_jemalloc.prof_prefix, prefix, strlen(prefix) + 1);
	tcache_unlock();
	return 0;
}

static int get(const struct ctl_at *at, uint64_t *value) {
	const uint64_t mean = profile_mean();
	switch (at->node->detail) {
	case ACTIVE: *value = sample_is_on(); return 0;
	case THREAD_ACTIVE: *value = !thread_counts.not_profiled; return 0;
	case GROWTH_DUMP: *value = false; return 0;
	default:
		*value = 63 - (uint64_t)__builtin_clzll(mean != 0 ? mean : (uint64_t)conf.profile_sample);
		return 0;
	}
}

static int set(const struct ctl_at *at, uint64_t value) {
	switch (at->node->detail) {
	case ACTIVE: return set_active(value);
	case THREAD_ACTIVE: return set_thread_active(value);
	case GROWTH_DUMP: return value ? ENOENT : 0;
	default: return set_prefix((const char *)(uintptr_t)value);
	}
}

static int dump(const char *name) {
	if (profile_mean() == 0) return ENOENT;
	return profile_dump_as_jemalloc(name, 'm') == 0 ? 0 : EFAULT;
}

/* Forgets what was collected; with a number, one byte in 2^number is sampled from then on. */
static int reset(bool is_given, uint64_t number) {
	const bool on = sample_is_on();
	if (is_given && number >= 63) return EFAULT;
	const size_t mean = is_given ? (size_t)1 << number : (size_t)profile_mean();
	if (profile_start(min_size(mean, SAMPLE_MEAN_MAX)) != 0) return EFAULT;
	if (!on) profile_stop();
	return 0;
}

static int ask(const struct ctl_at *at, bool is_given, uint64_t *value) {
	if (at->node->detail == RESET) return reset(is_given, *value);
	return dump(is_given ? (const char *)(uintptr_t)*value : NULL);
}

static const struct ctl_node nodes[] = {
	{ .name = "thread.prof.active", CTL_BOOL, CTL_OWN, THREAD_ACTIVE, .sets = true },
	{ .name = "prof.thread_active_init", CTL_BOOL, CTL_CONSTANT, true },
	{ .name = "prof.active", CTL_BOOL, CTL_OWN, ACTIVE, .sets = true },
	{ .name = "prof.dump", CTL_VOID, .detail = DUMP, .asks = true, .asked = CTL_STRING },
	{ .name = "prof.prefix", CTL_STRING, .detail = PREFIX, .sets = true },
	{ .name = "prof.gdump", CTL_BOOL, CTL_OWN, GROWTH_DUMP, .sets = true },
	{ .name = "prof.reset", CTL_VOID, .detail = RESET, .asks = true, .asked = CTL_SIZE },
	{ .name = "prof.lg_sample", CTL_SIZE, CTL_OWN, SAMPLE },
	{ .name = "prof.interval", CTL_UINT64, CTL_CONSTANT, 0 },
};
const struct ctl_subject ctl_profile = { nodes, sizeof nodes / sizeof *nodes, get, set, ask };
