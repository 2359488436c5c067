/* Shared by the tests of jemalloc's interface: its own header, and mallctl in few words. */
#ifndef JEMALLOC_SUPPORT_H
#define JEMALLOC_SUPPORT_H

#include "support.h"

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#define PAGE ((size_t)4096)
#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* The node's value, which has this type; the test fails where there is none. */
#define READ(type, name) \
	({ \
		type read_value = 0; \
		size_t read_length = sizeof read_value; \
		if (mallctl(name, &read_value, &read_length, NULL, 0) != 0 || read_length != sizeof read_value) \
			fail_msg("%s cannot be read", name); \
		read_value; \
	})

/* Gives the node a value of this type. Returns what mallctl does. */
#define WRITE(type, name, value) \
	({ \
		type written_value = (value); \
		mallctl(name, NULL, NULL, &written_value, sizeof written_value); \
	})

static inline int act(const char *name) { return mallctl(name, NULL, NULL, NULL, 0); }

/* "arena.7.purge" */
static inline const char *of_arena(unsigned arena, const char *what) {
	static char name[96];
	snprintf(name, sizeof name, "arena.%u.%s", arena, what);
	return name;
}

static inline int is_on(const char *variable, const char *value) {
	const char *found = getenv(variable);
	return found != NULL && strstr(found, value) != NULL;
}

/* In these modes, a block has the bytes that were asked for. */
static inline int sizes_are_exact(void) { return is_on("ARENAL_HARDEN", "1"); }

#endif
