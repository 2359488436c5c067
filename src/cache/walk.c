/* Over all caches, one after the other, with nothing held between two of them.
 *
 * A process may have ten thousand threads, and those that start or end are not to wait for who looks at all
 * caches. So a walk goes over their records (cache_locks.c), which stay where they are, and takes no lock but
 * that of a cache that it comes to: as long as it has that, the cache stays, too. What is quiet costs one
 * load, of a line that the CPU has fetched ahead. */
#include "cache/walk.h"

#include "arena/policy.h"
#include "cache/caches.h"

void cache_walk_begin(struct cache_walk *walk) {
	*walk = (struct cache_walk){ atomic_load_explicit(&cache_chunks, memory_order_acquire), 0,
		                         caches.generation };
}

/* The next record that is a cache's of this process. NULL: the walk is over. */
static struct cache_record *next_record(struct cache_walk *walk) {
	if (walk->generation != caches.generation) return NULL; /* in the child of a fork */
	for (; walk->chunk != NULL; walk->chunk = walk->chunk->next, walk->next = 0) {
		const size_t used = atomic_load_explicit(&walk->chunk->used, memory_order_acquire);
		while (walk->next < used) {
			struct cache_record *r = &walk->chunk->records[walk->next++];
			if (atomic_load_explicit(&r->cache, memory_order_acquire) != NULL &&
			    atomic_load_explicit(&r->generation, memory_order_relaxed) == walk->generation)
				return r;
		}
	}
	return NULL;
}

/* Under its lock, which is dropped if the cache has gone. */
static struct tcache *still_there(struct cache_record *r) {
	struct tcache *tc = atomic_load_explicit(&r->cache, memory_order_acquire);
	if (unlikely(tc == NULL)) lock_drop(&r->lock, RANK_CACHE);
	return tc;
}

struct tcache *cache_walk_next(struct cache_walk *walk) {
	for (struct cache_record *r; (r = next_record(walk)) != NULL;) {
		lock_take(&r->lock, RANK_CACHE);
		struct tcache *tc = still_there(r);
		if (tc != NULL) return tc;
	}
	return NULL;
}

struct tcache *cache_walk_next_idle(struct cache_walk *walk, const unsigned *turn, bool *busy) {
	for (struct cache_record *r; (r = next_record(walk)) != NULL;) {
		const bool passed = turn != NULL && (walk->next + *turn) % QUIET_TURNS != 0;
		if (passed && atomic_load_explicit(&r->quiet, memory_order_relaxed)) continue;
		if (!lock_try(&r->lock, RANK_CACHE)) {
			*busy = true;
			continue;
		}
		struct tcache *tc = still_there(r);
		if (tc == NULL) continue;
		if (!atomic_load_explicit(&tc->parked, memory_order_relaxed) && tc->drain == NULL) return tc;
		*busy |= tc->drain != NULL;
		lock_drop(&r->lock, RANK_CACHE);
	}
	return NULL;
}

void cache_walk_leave(struct tcache *tc) { lock_drop(tc->lock, RANK_CACHE); }
