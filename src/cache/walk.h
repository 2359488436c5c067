/* A walk over all caches of threads, see walk.c. */
#ifndef CACHE_WALK_H
#define CACHE_WALK_H

#include "cache/tcache.h"

/* Its owner's, on its stack: what comes next. */
struct cache_walk {
	struct cache_chunk *chunk;
	size_t next;
	uint32_t generation; /* of the process that it began in: in the child of a fork, it is over */
};

/* Meets each cache that is there from now on until the walk is over, and some of those that come meanwhile.
 * To be followed by calls of one of the next two until that says NULL, with no lock held. */
void cache_walk_begin(struct cache_walk *walk);

/* The next cache, which is there, and whose lock is held, until cache_walk_leave. NULL: the walk is over. */
struct tcache *cache_walk_next(struct cache_walk *walk);

/* The same, without those that are parked, and without those whose lock somebody has, or with which a drain
 * has begun; then, `busy` becomes true. And, of those that are quiet, only each QUIET_TURNS-th, others in
 * each turn; `turn` NULL: all. */
struct tcache *cache_walk_next_idle(struct cache_walk *walk, const unsigned *turn, bool *busy);

void cache_walk_leave(struct tcache *tc);

#endif
