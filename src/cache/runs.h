/* Freed runs that wait in a thread's cache for the next large block of the same length: a program that
 * takes and returns one buffer again and again needs no lock of the page heap for it. */
#ifndef CACHE_RUNS_H
#define CACHE_RUNS_H

#include "arena/policy.h"
#include "arena/region.h"

struct tcache;

/* Owner: the cache's lock. */
struct run_cache {
	struct span *runs[RUN_CACHE_ENTRIES]; /* oldest first; their kind is SPAN_KEPT */
	size_t bytes;                         /* of all of them */
	uint8_t count;
	uint8_t idle_looks; /* of the purger, since the thread last came by */
};

/* A run of exactly so many slices, its kind SPAN_RUN again; NULL when none is kept. */
struct span *run_cache_take(struct tcache *tc, size_t slices);

/* Keeps the run, and frees what has no place any more: the oldest ones, or this one. See also tcache_room. */
void run_cache_put(struct tcache *tc, struct span *run);

/* Frees all of them. */
void run_cache_dispose(struct tcache *tc);

/* For any thread's cache, under the threads lock: frees runs that were not asked for during `looks` calls.
 * True when there are runs that may turn out to be idle later. */
bool run_cache_drain(struct tcache *tc, unsigned looks);

#endif
