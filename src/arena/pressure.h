/* How near is the process to the memory that it may have? Near the limit of its cgroup (or the tunable memory_limit), or
 * while the system is short of memory, free memory is not kept: better some page faults more than a process that is killed.
 * The limit is no cap: no allocation fails for it.
 *
 * To ask the kernel takes tens of microseconds. So memory is counted as it is handed out, and the kernel is asked when a part
 * of what was left has gone, or after a while; never in a process that is small. */
#ifndef ARENA_PRESSURE_H
#define ARENA_PRESSURE_H

#include <stdatomic.h>

#include "base/base.h"

/* Before so much was handed out, nobody looks. */
#define PRESSURE_FIRST_LOOK ((int64_t)(16 * MIB))

/* While memory is short, so much free memory is kept all the same: a system call for each slice would be too dear. */
#define PRESSURE_KEEP_LEAST MIB

/* What all thread caches together may hold, and while memory is short. */
#define PRESSURE_CACHES (16 * MIB)
#define PRESSURE_CACHES_LEAST MIB

/* Written by anyone who looks; everybody reads, and is content with a value of a moment ago. */
struct pressure {
	_Atomic int64_t left;       /* bytes until the limit at the last look, less those handed out since; may be negative */
	_Atomic int64_t look_below; /* bytes: with less left than this, it is time to look */
	_Atomic uint64_t look_from; /* milliseconds: from then on, it is time to look */
	_Atomic size_t keep;        /* bytes: free memory kept in slices, and in mappings, is bounded by this; SIZE_MAX: all is well */
	_Atomic size_t caches;      /* bytes: all thread caches together hold no more */
	_Atomic bool due;           /* it is time to look */
};
extern struct pressure pressure;

static inline bool pressure_is_on(void) {
	return unlikely(atomic_load_explicit(&pressure.keep, memory_order_relaxed) != SIZE_MAX);
}

/* The bound on free memory that the caller would keep `limit` bytes of. */
static inline size_t pressure_bound(size_t limit) {
	if (pressure_is_on()) limit = min_size(limit, atomic_load_explicit(&pressure.keep, memory_order_relaxed));
	return limit;
}

/* Said by those who hand out memory that the kernel does not back yet. May be called with locks held. */
void pressure_count(size_t bytes);

/* Said by those who decay, who know the time. May be called with locks held. */
static inline void pressure_tick(uint64_t now) {
	if (unlikely(now >= atomic_load_explicit(&pressure.look_from, memory_order_relaxed)))
		atomic_store_explicit(&pressure.due, true, memory_order_relaxed);
}

/* Looks, and gives all free memory back when the limit has come near. */
void pressure_look(void);

/* Called by those who allocate, without any lock but a cache's own, before the program writes to what they got. */
static inline void pressure_poke(void) {
	if (unlikely(atomic_load_explicit(&pressure.due, memory_order_relaxed))) pressure_look();
}

/* In the child of a fork, where nobody else is looking. */
void pressure_after_fork(void);

#endif
