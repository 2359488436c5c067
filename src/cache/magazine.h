/* Refill, flush and size of one magazine. Called by the thread that owns the cache, where nothing else is said. */
#ifndef CACHE_MAGAZINE_H
#define CACHE_MAGAZINE_H

#include "cache/tcache.h"

/* Does another thread, and the child of a fork, see a thread's stores in the order in which it made them? Magazines are looked into without a
 * lock. */
#if defined(__x86_64__)
#define STORES_ARE_SEEN_IN_ORDER true
#else
#define STORES_ARE_SEEN_IN_ORDER false
#endif

/* A block of the class; when the magazine is empty, it is refilled first. NULL when out of memory. */
void *magazine_pop(struct tcache *tc, unsigned class_);

/* Adds a block; when the magazine is full, half of it is given back first. */
void magazine_push(struct tcache *tc, unsigned class_, void *block);

/* Gives all blocks but one of each magazine back that was found unchanged by `looks` calls; 0: of each. For any thread's
 * cache, under the threads lock. True when others may turn out to be idle later. */
bool magazine_drain(struct tcache *tc, unsigned looks);

/* Gives all blocks back and the array of slots too. */
void magazine_dispose(struct tcache *tc, unsigned class_);

/* Makes the magazine of a thread that is not there any more, wherever that was in malloc or free, one that holds free blocks. */
void magazine_inherit(struct tcache *tc, unsigned class_);

#endif
