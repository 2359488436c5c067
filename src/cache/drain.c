/* Draining: blocks leave caches, those of the calling thread and those of others, which need not come by.
 *
 * Invariant: of a magazine, the blocks in [empty, top) are free. malloc and free, without a lock, only move
 * `top`, and only their own thread's; `empty`, `full` and the array between move under the cache's lock, so
 * that slow paths and drains exclude each other. A drain first moves `empty` up to below the top, and takes
 * what lies under it when each thread has passed a barrier (drain in magazine.c, with the reasons). So a
 * block is handed out by malloc or given back here, never both.
 * The fast paths rely on it, which need no atomics for that. Wrong variants of it fail in
 * tests/models/drain.pml; what is handed over, helgrind.drain watches. */
#include "cache/caches.h"
#include "cache/heap_cache.h"
#include "cache/magazine.h"
#include "cache/walk.h"

void empty_cache(struct tcache *tc) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) magazine_dispose(tc, c);
	run_cache_dispose(tc);
}

void tcache_flush(void) {
	struct tcache *tc = get_cache();
	if (tc == NULL) return;
	heap_caches_leave(tc);
	empty_cache(tc);
}

/* Each cache in turn; `turn`: of those that are quiet, some. */
static bool drain_caches(unsigned looks, const unsigned *turn) {
	struct cache_walk walk;
	bool busy = false, more_later = false;
	cache_walk_begin(&walk);
	for (struct tcache *tc;
	     (tc = looks > 0 ? cache_walk_next_idle(&walk, turn, &busy) : cache_walk_next(&walk)) != NULL;) {
		/* What is parked, end_parked sees to; the next thread that starts is not to wait for a drain of it.
		 */
		if (!atomic_load_explicit(&tc->parked, memory_order_relaxed)) {
			bool later = magazine_drain(tc, looks);
			later |= run_cache_drain(tc, looks);
			atomic_store_explicit(&cache_record_of(tc)->quiet, !later, memory_order_relaxed);
			more_later |= later;
		}
		cache_walk_leave(tc);
	}
	return more_later || busy;
}

static bool drain(unsigned looks, const unsigned *turn) {
	bool more_later = adopt_orphan();
	while (looks == 0 && more_later) more_later = adopt_orphan();
	more_later |= end_parked(looks);
	more_later |= drain_caches(looks, turn);
	more_later |= heap_caches_drain(looks);
	return more_later;
}

bool tcache_drain(unsigned looks) { return drain(looks, NULL); }

bool tcache_drain_some(unsigned looks) {
	static unsigned turn, calm; /* the purger's */
	if (tcache_count() <= QUIET_FROM) return drain(looks, NULL);
	const bool more_later = drain(looks, &turn);
	turn++;
	calm = more_later ? 0 : calm + 1;
	return calm < QUIET_TURNS; /* all were met then, and nothing was there */
}

void tcache_flush_all(void) {
	tcache_flush();
	tcache_drain(0);
}
