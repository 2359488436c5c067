/* Draining: blocks leave caches, those of the calling thread and those of others, which need not come by.
 *
 * Invariant: of a magazine, the blocks in [empty, top) are free. malloc and free, without a lock, only move
 * `top`, and only their own thread's; `empty`, `full` and the array between move under the cache's lock, so
 * that slow paths and each step of a drain exclude each other. A drain first moves `empty` up to below the
 * top, and takes what lies under it when each thread has passed a barrier (magazine_drain.c, with the
 * reasons). So a block is handed out by malloc or given back here, never both.
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

/* Caches with which a drain has begun: they wait for a barrier. One is for so many. */
#define DRAIN_CACHES 64

/* Owner: who drains, on its stack. */
struct drain {
	struct cache_record *records[DRAIN_CACHES];
	size_t count;
	uint32_t generation; /* of the process that it began in */
	unsigned looks;
	size_t hot;    /* caches of those that were met: their threads have much to do */
	uint32_t look; /* its number */
	bool more_later;
};

void drain_call_off(struct tcache *tc) {
	magazines_call_off_drain(tc);
	run_cache_call_off_drain(&tc->run_cache);
	tc->drain = NULL;
	cache_stirs(tc); /* what the drain was for is still there */
}

/* Under the cache's lock. True when there is something to wait for. */
static bool begin(struct drain *d, struct tcache *tc) {
	bool more_later = false;
	/* It may hold less than it does: it was hot, or there are more threads by now. */
	const bool too_long = d->looks > 0 && tc->room > tcache_room(cache_is_hot(tc));
	if (unlikely(too_long)) magazines_look_too_long(tc);
	const bool magazines = magazines_begin_drain(tc, too_long ? 0 : d->looks, &more_later);
	more_later |= too_long && magazines;
	const bool runs = run_cache_begin_drain(tc, d->looks, &more_later);
	atomic_store_explicit(&cache_record_of(tc)->quiet, !more_later, memory_order_relaxed);
	d->more_later |= more_later;
	if (!magazines && !runs) return false;
	tc->called_off = false;
	tc->drain = d;
	return true;
}

/* Under the cache's lock, after the barrier. True when all that was due has gone. */
static bool end(struct tcache *tc, bool passed) {
	bool done = true;
	if (passed)
		done = magazines_end_drain(tc);
	else
		magazines_call_off_drain(tc);
	tc->drain = NULL;
	return run_cache_end_drain(&tc->run_cache, passed) && done;
}

static bool second_barrier(void) { return STORES_ARE_SEEN_IN_ORDER || os_barrier_in_all_threads(); }

/* All of one cache goes now, under its lock, which its thread waits for if it comes to a slow path: would
 * that call the drain off, somebody who has asked for all might get nothing. */
static void drain_now(struct drain *d, struct tcache *tc) {
	if (tc->drain != NULL) drain_call_off(tc); /* the purger's, which this one serves as well */
	if (!begin(d, tc)) return;
	bool passed = os_barrier_in_all_threads();
	if (passed) magazines_look_after_barrier(tc);
	passed = passed && second_barrier();
	if (end(tc, passed)) return;
	cache_stirs(tc);
	d->more_later = true;
}

/* The cache, under its lock, if nobody wanted all of it since it began; else NULL. A handler of a signal may
 * have forked meanwhile: in its child, others' caches are orphans. */
static struct tcache *still_begun(const struct drain *d, struct cache_record *r) {
	lock_take(&r->lock, RANK_CACHE);
	struct tcache *tc = atomic_load_explicit(&r->cache, memory_order_acquire);
	if (likely(tc != NULL && tc->drain == d && d->generation == caches.generation)) return tc;
	lock_drop(&r->lock, RANK_CACHE);
	return NULL;
}

static void look_after_barrier(const struct drain *d) {
	for (size_t i = 0; i < d->count; i++) {
		struct tcache *tc = still_begun(d, d->records[i]);
		if (tc == NULL) continue;
		magazines_look_after_barrier(tc);
		lock_drop(tc->lock, RANK_CACHE);
	}
}

/* With all caches that it has begun with. */
static void finish(struct drain *d) {
	if (d->count == 0) return;
	bool passed = os_barrier_in_all_threads();
	if (passed) look_after_barrier(d);
	passed = passed && second_barrier();
	for (size_t i = 0; i < d->count; i++) {
		struct tcache *tc = still_begun(d, d->records[i]);
		const bool done = tc != NULL && end(tc, passed);
		if (tc != NULL && !done) cache_stirs(tc);
		if (tc != NULL) lock_drop(tc->lock, RANK_CACHE);
		d->more_later |= !done;
	}
	d->count = 0;
}

/* What is parked, end_parked sees to; the next thread that starts is not to wait for a drain of it. */
static bool is_parked(const struct tcache *tc) {
	return atomic_load_explicit(&tc->parked, memory_order_relaxed);
}

/* What is in all caches, one by one. */
static bool drain_all_now(void) {
	struct cache_walk walk;
	cache_walk_begin(&walk);
	struct drain d = { .generation = walk.generation };
	for (struct tcache *tc; (tc = cache_walk_next(&walk)) != NULL; cache_walk_leave(tc))
		if (!is_parked(tc)) drain_now(&d, tc);
	return d.more_later;
}

/* Those that are hot share what they have room for. So a look counts them all, and only the next one says
 * that they are: a thousand that become hot at once would each take the share of the few that were met
 * before. */
static void feel_heat(struct drain *d, struct tcache *tc) {
	const uint32_t heat = atomic_exchange_explicit(&tc->heat, 0, memory_order_relaxed);
	const bool was_warm = tc->warm_look != 0 && d->look - tc->warm_look <= HOT_LOOKS,
	           warm = heat >= (was_warm ? HOT_STILL : HOT_EVENTS);
	atomic_store_explicit(&tc->hot_look, warm && was_warm ? d->look : 0, memory_order_relaxed);
	tc->warm_look = warm ? d->look : 0;
	d->hot += warm;
	if (!warm && tc->room <= tcache_room(false)) cache_starts_no_more(tc);
	if (d->hot > atomic_load_explicit(&caches.hot, memory_order_relaxed))
		atomic_store_explicit(&caches.hot, d->hot, memory_order_relaxed);
}

/* What is idle, of all caches; `turn`: of those that are quiet, some. */
static bool drain_idle(unsigned looks, const unsigned *turn) {
	struct cache_walk walk;
	bool busy = false;
	cache_walk_begin(&walk);
	const uint32_t look = atomic_load_explicit(&caches.looks, memory_order_relaxed) + 1;
	struct drain d = { .generation = walk.generation, .looks = looks, .look = look != 0 ? look : 1 };
	atomic_store_explicit(&caches.looks, d.look, memory_order_relaxed);
	for (struct tcache *tc; (tc = cache_walk_next_idle(&walk, turn, &busy)) != NULL;) {
		feel_heat(&d, tc);
		if (begin(&d, tc)) d.records[d.count++] = cache_record_of(tc);
		cache_walk_leave(tc);
		if (d.count == DRAIN_CACHES) finish(&d);
	}
	finish(&d);
	atomic_store_explicit(&caches.hot, d.hot, memory_order_relaxed);
	return d.more_later || busy;
}

static bool drain(unsigned looks, const unsigned *turn) {
	bool more_later = adopt_orphan();
	while (looks == 0 && more_later) more_later = adopt_orphan();
	more_later |= end_parked(looks);
	more_later |= looks == 0 ? drain_all_now() : drain_idle(looks, turn);
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
