#include "available.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_text(char *text, size_t size, const char *path) {
	FILE *file = fopen(path, "re");
	const size_t length = file != NULL ? fread(text, 1, size - 1, file) : 0;
	if (file != NULL) fclose(file);
	text[length] = 0;
	return length > 0;
}

/* The number behind the word, at the start of a line; none: `otherwise`. */
static uint64_t number_after(const char *text, const char *word, uint64_t otherwise) {
	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, word, strlen(word)) == 0) return strtoull(line + strlen(word), NULL, 10);
	}
	return otherwise;
}

static uint64_t number_in(const char *folder, const char *name, uint64_t otherwise) {
	char path[4200], text[64];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return read_text(text, sizeof text, path) && *text >= '0' && *text <= '9' ? strtoull(text, NULL, 10) : otherwise;
}

/* Of one cgroup. What lies idle in the page cache would make room. */
static uint64_t left_in(const char *folder, bool second) {
	char path[4200], text[8192];
	const uint64_t limit = number_in(folder, second ? "memory.max" : "memory.limit_in_bytes", UINT64_MAX);
	uint64_t used = number_in(folder, second ? "memory.current" : "memory.usage_in_bytes", 0);
	snprintf(path, sizeof path, "%s/memory.stat", folder);
	const uint64_t idle = read_text(text, sizeof text, path)
	                              ? number_after(text, second ? "inactive_file " : "total_inactive_file ", 0)
	                              : 0;
	used -= idle < used ? idle : used;
	return limit == UINT64_MAX ? limit : limit - (used < limit ? used : limit);
}

/* Of the cgroup and all above it. */
static uint64_t left_above(const char *top, const char *group, bool second) {
	char folder[4096];
	uint64_t least = UINT64_MAX;
	snprintf(folder, sizeof folder, "%s%s", top, group);
	for (char *end = folder + strlen(folder); end >= folder + strlen(top); end = strrchr(folder, '/')) {
		*end = 0;
		const uint64_t left = left_in(folder, second);
		if (left < least) least = left;
	}
	return least;
}

uint64_t memory_available(void) {
	char text[8192], *rest = text;
	uint64_t least = read_text(text, sizeof text, "/proc/meminfo") ? number_after(text, "MemAvailable:", UINT64_MAX >> 10) << 10 : UINT64_MAX;
	if (!read_text(text, sizeof text, "/proc/self/cgroup")) return least;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		char *names = strchr(line, ':'), *group = names != NULL ? strchr(names + 1, ':') : NULL;
		if (group == NULL) continue;
		*group++ = 0;
		uint64_t left = UINT64_MAX;
		if (names[1] == 0)
			left = left_above("/sys/fs/cgroup", group, true);
		else if (strstr(names, "memory") != NULL)
			left = left_above("/sys/fs/cgroup/memory", group, false);
		if (left < least) least = left;
	}
	return least;
}
