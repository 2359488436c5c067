/* How near is the process to the memory that it may have? Near the limit of its cgroup (or the tunable
 * memory_limit), or while the system is short of memory, free memory is not kept: better some page faults
 * more than a process that is killed. The limit is no cap: no allocation fails for it.
 *
 * The kernel tells that in files, which need a descriptor: it is asked at the start, and by the purger, which
 * has a table of its own, never by a thread of the program. Memory is counted as it is handed out; when a
 * part of what was left has gone, or after a while, who allocates works out what is left by what was said
 * last, and by what we hold now and held then. */
#ifndef ARENA_PRESSURE_H
#define ARENA_PRESSURE_H

#include <stdatomic.h>

#include "arena/policy.h"
#include "base/base.h"

/* As the statistics tell it. */
enum pressure_level { PRESSURE_NONE, PRESSURE_NEAR, PRESSURE_CRITICAL };

/* Written by anyone who looks; everybody reads, and is content with a value of a moment ago. */
struct pressure {
	_Atomic int64_t left;       /* bytes until the limit at the last look, less those handed out since; may be
	                               negative */
	_Atomic int64_t look_below; /* bytes: with less left than this, it is time to look */
	_Atomic uint64_t look_from; /* milliseconds: from then on, it is time to look */
	_Atomic size_t keep;        /* bytes: free memory kept in slices, and in mappings, is bounded by this;
	                               SIZE_MAX: all is well */
	_Atomic size_t caches;      /* bytes: all thread caches together hold no more */
	_Atomic size_t above;       /* bytes: memory of layers above that is not the heap's (hardened large
	                               blocks); they write it */
	_Atomic bool due;           /* it is time to look */
	_Atomic uint32_t level;     /* enum pressure_level, of the last look */
	_Atomic uint64_t failures;  /* allocations that there was no memory for; pressure_failed counts */
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

/* Works out what is left. When the limit has come near, all free memory is to go back: by the purger, if it
 * is there; by the caller, if not, or if it is critical. */
void pressure_look(void);

/* At the start, when the tunables are known. */
void pressure_start(void);

/* Asks the kernel, if it is time, or `wanted`, and looks. For a thread with a table of descriptors of its
 * own. */
void pressure_measure(bool wanted);

/* Asks for that: the purger's, while it is there and can. */
extern void (*_Atomic pressure_ask)(void);

/* The limit is another one, by hand. */
static inline void pressure_look_again(void) {
	atomic_store_explicit(&pressure.due, true, memory_order_relaxed);
}

/* Called by those who allocate, without any lock but a cache's own, before the program writes to what they
 * got. */
static inline void pressure_poke(void) {
	if (unlikely(atomic_load_explicit(&pressure.due, memory_order_relaxed))) pressure_look();
}

/* There was no memory for an allocation, nor any that could be given back for it. */
COLD void pressure_failed(void);

/* In the child of a fork, where nobody else is looking. */
void pressure_after_fork(void);

#endif
