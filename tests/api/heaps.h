/* What the tests of heaps share. */
#ifndef HEAPS_H
#define HEAPS_H

#include "stamp.h"
#include "support.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static inline struct arenal_heap_stats stats_of(arenal_heap *heap) {
	struct arenal_heap_stats stats;
	if (arenal_heap_stats_get(heap, &stats, sizeof stats) != 0) abort();
	return stats;
}

static inline size_t allocated_now(void) {
	struct arenal_stats stats;
	if (arenal_stats_get(&stats, sizeof stats) != 0) abort();
	return stats.allocated;
}

static inline bool environment_is(const char *name, const char *value) {
	const char *set = getenv(name);
	return set != NULL && (*value == 0 || strcmp(set, value) == 0);
}

static inline bool is_hardened(void) { return environment_is("ARENAL_HARDEN", "1"); }
static inline bool is_guarded(void) { return environment_is("ARENAL_GUARD_SAMPLE", "1"); }
static inline bool is_profiled(void) { return environment_is("ARENAL_CONF", ""); }

/* The mode has places of its own for blocks, and the heap only knows which are its. */
static inline bool blocks_lie_elsewhere(void) { return is_hardened() || environment_is("ARENAL_TRACE_FILE", ""); }

#endif
