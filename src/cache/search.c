/* The search for a free block, before a program is ended that resizes one, or that malloc is about to give
 * one that is in use: in the thread's own cache, in the block's arena, in the caches of all threads.
 *
 * Invariant: what is said to be found was in a magazine, below its top, at one moment of the search: so the
 * block was free then, whatever its thread did meanwhile. The other way round is not promised: a block may be
 * missed. realloc ends the program for nothing else (look_for_free in api/realloc.c); malloc only says where
 * it was. tests/models/search.pml fails for wrong variants. */
#include "arena/depot.h"
#include "cache/caches.h"
#include "cache/heap_cache.h"
#include "cache/magazine.h"

/* Does the magazine hold the block? Its thread may be at work, but in no slow path: a block that it takes
 * out or adds now may be missed. What is found was there at one moment: a slot below the top has what was
 * last written there. Where a thread's stores may be seen in another order, the top may be seen before
 * that: then the slot is looked at once more behind a barrier, without which nothing counts as found. */
__attribute__((no_sanitize("thread"))) static bool holds(const struct tcache *tc, unsigned class_,
                                                         const void *block) {
	bool found = false;
	const struct magazine *m = &tc->magazines[class_];
	void **top = *(void **const volatile *)&m->top;
	void **begun = magazine_begun_at(tc, class_); /* a drain waits, which has not taken them yet */
	for (void **slot = begun != NULL ? begun : m->empty; slot < top && !found; slot++) {
		if (*(void *volatile *)slot != block) continue;
		found = STORES_ARE_SEEN_IN_ORDER || (os_barrier_in_all_threads() && *(void *volatile *)slot == block);
	}
	return found;
}

/* Does the magazine of a thread that may be in a slow path hold the block? */
static bool holds_locked(struct tcache *tc, unsigned class_, const void *block) {
	lock_take(tc->lock, RANK_CACHE);
	const bool found = holds(tc, class_, block);
	lock_drop(tc->lock, RANK_CACHE);
	return found;
}

/* Looking through the caches of all threads holds up who starts or ends one. A program that copies out of
 * blocks that it has freed makes blocks that look free, and would have each of them looked for: after a
 * search that found nothing, the next one comes no sooner than so many milliseconds later, and each time
 * twice as many. A second free that is not looked for is found when the block gets back to its bin. */
#define SEARCH_PAUSE_LEAST 1
#define SEARCH_PAUSE_MOST 1024

static struct {
	_Atomic uint64_t from; /* milliseconds: the next search */
	_Atomic uint64_t pause;
} search;

/* They are few, and short. */
static bool in_a_parked_cache(const struct span *s, const void *block) {
	bool found = false;
	if (atomic_load_explicit(&caches.parked_count, memory_order_relaxed) == 0) return false;
	lock_take(&caches.lock, RANK_THREADS);
	for (const struct tcache *tc = caches.parked; tc != NULL && !found; tc = tc->next_parked)
		found = holds(tc, s->class_, block);
	lock_drop(&caches.lock, RANK_THREADS);
	return found;
}

static bool in_any_cache(const struct span *s, const void *block) {
	const uint64_t now = os_milliseconds();
	if (now < atomic_load_explicit(&search.from, memory_order_relaxed)) return false;
	bool found = false;
	lock_take(&caches.lock, RANK_THREADS);
	for (struct tcache *tc = caches.first; tc != NULL && !found; tc = tc->next)
		found = holds_locked(tc, s->class_, block);
	for (const struct tcache *tc = caches.orphans; tc != NULL && !found; tc = tc->next)
		found = holds(tc, s->class_, block);
	lock_drop(&caches.lock, RANK_THREADS);
	if (!found) {
		const uint64_t before = atomic_load_explicit(&search.pause, memory_order_relaxed);
		const uint64_t pause = max_size(before, SEARCH_PAUSE_LEAST);
		atomic_store_explicit(&search.from, os_milliseconds() + pause, memory_order_relaxed);
		atomic_store_explicit(&search.pause, min_size(2 * pause, SEARCH_PAUSE_MOST), memory_order_relaxed);
	}
	return found;
}

const char *tcache_where_free(const struct span *s, const void *block) {
	struct tcache *own = own_cache();
	if (own != NULL && holds_locked(own, s->class_, block)) return ", and is in the cache of this thread";
	if (arena_has_free(s, block)) return ", and is back in its arena";
	if (depot_has(s, block)) return ", and waits for another thread";
	if (heap_caches_hold(s, block)) return ", and waits for its heap";
	if (in_a_parked_cache(s, block)) return ", and is in the cache of a thread that ended";
	return in_any_cache(s, block) ? ", and is in the cache of another thread" : NULL;
}
