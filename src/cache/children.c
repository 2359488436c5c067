/* Caches in children. Of a parent's threads, only the one that called fork is there. The caches of the
 * others become orphans, wherever in malloc or free these threads were: each is given back later, by who
 * comes by. In a child that no handler of fork hears of, they stay in the list of all caches. */
#include "arena/depot.h"
#include "arena/policy.h"
#include "arena/shelf.h"
#include "arena/zero.h"
#include "base/meta.h"
#include "cache/caches.h"
#include "cache/heap_cache.h"
#include "cache/magazine.h"

static _Atomic uint64_t adopt_from; /* milliseconds: the next one is not adopted before */
static _Atomic bool has_inherited;  /* orphans; or runs on shelves and blocks in depots, which go last */

/* Who drains is not there any more. */
static void forget_drain(struct tcache *tc) {
	if (tc != NULL && tc->drain != NULL) drain_call_off(tc);
}

/* ---- by fork ---- */

void tcache_lock_all(void) {
	lock_take(&caches.lock, RANK_THREADS);
	lock_close(RANK_CACHE);
	cache_locks_await();
}

void tcache_unlock_all(void) { lock_drop(&caches.lock, RANK_THREADS); }

/* The orphans are neither written to, but for a link or two, nor looked at: each is a page that the child
 * would get a copy of, and there may be ten thousand. */
void tcache_after_fork(void) {
	struct tcache *own = own_cache();
	if (own != NULL) unlink_cache(own);
	if (caches.last != NULL) {
		caches.last->next = caches.orphans;
		caches.orphans = caches.first;
	}
	has_inherited = caches.orphans != NULL || shelves_bytes() > 0 || !depots_are_empty();
	if (has_inherited) adopt_from = os_milliseconds() + ADOPTION_PACE;
	caches.first = caches.last = own;
	caches.generation++; /* no walk meets the records of others */
	if (own != NULL)
		atomic_store_explicit(&cache_record_of(own)->generation, caches.generation, memory_order_relaxed);
	heap_caches_after_fork(own);
	forget_parked();
	forget_drain(own);
	caches.count = own != NULL;
	if (own != NULL) {
		arena_thread_comes(own->arena);
		own->uncounted = false;
	}
	cache_locks_found();
	lock_drop(&caches.lock, RANK_THREADS);
}

/* ---- orphans ---- */

bool adopt_orphan(void) {
	if (likely(atomic_load_explicit(&caches.orphans, memory_order_relaxed) == NULL)) return false;
	/* This lock is held to the end, so that everything is either in an orphan or back, for those who count
	 * and those who fork. */
	lock_take(&caches.lock, RANK_THREADS);
	struct tcache *tc = atomic_load_explicit(&caches.orphans, memory_order_relaxed);
	if (tc != NULL) {
		forget_drain(tc);
		for (unsigned c = 1; c < CLASS_COUNT; c++) magazine_inherit(tc, c);
		run_cache_inherit(&tc->run_cache);
		empty_cache(tc);
		if (tc->quarantine != NULL) quarantine_inherit(tc->quarantine);
		end_attached(tc);
		cache_starts_no_more(tc);
		atomic_store_explicit(&caches.orphans, tc->next, memory_order_relaxed);
		cache_lock_free(tc->lock);
		meta_free(tc, sizeof *tc);
	}
	const bool more = atomic_load_explicit(&caches.orphans, memory_order_relaxed) != NULL;
	lock_drop(&caches.lock, RANK_THREADS);
	return more;
}

void tcache_adopt_in_time(void) {
	if (likely(!atomic_load_explicit(&has_inherited, memory_order_relaxed))) return;
	const uint64_t now = os_milliseconds();
	if (now < atomic_load_explicit(&adopt_from, memory_order_relaxed)) return;
	atomic_store_explicit(&adopt_from, now + ADOPTION_PACE, memory_order_relaxed);
	if (atomic_load_explicit(&caches.orphans, memory_order_relaxed) != NULL)
		adopt_orphan();
	else if (!shelves_drain(0) && !depots_drain(0)) /* true: a fork is under way, and so later */
		atomic_store_explicit(&has_inherited, false, memory_order_relaxed);
}

/* ---- without handlers of fork ---- */

void tcache_reseed(void) {
	struct tcache *own = own_cache();
	if (own == NULL) return;
	draw_turns(own);
	if (own->quarantine != NULL) own->quarantine->random.state = random_next(&own->guard.random);
}

void tcache_in_new_process(void) {
	const struct tcache *own = own_cache();
	lock_take(&caches.lock, RANK_THREADS);
	for (struct tcache *tc = caches.first; tc != NULL; tc = tc->next) {
		forget_drain(tc);
		if (tc == own || tc->uncounted || tc->parked) continue;
		tc->uncounted = true;
		caches.count--;
	}
	lock_drop(&caches.lock, RANK_THREADS);
	tcache_count_own();
	tcache_reseed();
	zero_reseed();
}

void tcache_count_own(void) {
	struct tcache *own = own_cache();
	if (own == NULL || !own->uncounted) return;
	lock_take(&caches.lock, RANK_THREADS);
	own->uncounted = false;
	caches.count++;
	lock_drop(&caches.lock, RANK_THREADS);
}
