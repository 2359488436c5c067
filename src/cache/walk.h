/* A walk over all caches of threads, see walk.c. */
#ifndef CACHE_WALK_H
#define CACHE_WALK_H

#include "cache/tcache.h"

/* Its owner's, on its stack. The fields are under the threads lock. */
struct cache_walk {
	struct tcache *next; /* what comes next; NULL: nothing */
	struct cache_walk *other;
};

/* From the first cache of now on: later ones are not met. To be followed by calls of one of the next two
 * until that says NULL, with no lock held. */
void cache_walk_begin(struct cache_walk *walk);

/* The next cache, which is there, and whose lock is held, until cache_walk_leave. NULL: the walk is over. */
struct tcache *cache_walk_next(struct cache_walk *walk);

/* The same, without those that are parked or whose lock somebody has; then, `busy` becomes true. */
struct tcache *cache_walk_next_idle(struct cache_walk *walk, bool *busy);

void cache_walk_leave(struct tcache *tc);

/* The cache leaves the list, in which it still is. Under the threads lock. */
void cache_walks_pass(const struct tcache *tc);

/* In the child of a fork, which has another list: if its own thread is on a walk, that ends. */
void cache_walks_forget(void);

#endif
