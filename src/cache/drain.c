/* Draining: blocks leave caches, those of the calling thread and those of others, which need not come by.
 *
 * Invariant: of a magazine, the blocks in [empty, top) are free. malloc and free, without a lock, only move
 * `top`, and only their own thread's; `empty`, `full` and the array between move under the cache's lock, so
 * that slow paths and drains exclude each other. A drain first moves `empty` up to below the top, and takes
 * what lies under it when each thread has passed a barrier (magazine_drain.c, with the reasons). So a
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

/* Caches with which a drain has begun: they wait for a barrier. One is for so many. */
#define DRAIN_CACHES 64

/* Owner: who drains, on its stack. */
struct drain {
	struct cache_record *records[DRAIN_CACHES];
	size_t count;
	uint32_t generation; /* of the process that it began in */
	unsigned looks;
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
	if (tc->drain != NULL) drain_call_off(tc); /* another one's, which this one serves as well */
	const bool magazines = magazines_begin_drain(tc, d->looks, &more_later);
	const bool runs = run_cache_begin_drain(&tc->run_cache, d->looks, &more_later);
	atomic_store_explicit(&cache_record_of(tc)->quiet, !more_later, memory_order_relaxed);
	d->more_later |= more_later;
	if (!magazines && !runs) return false;
	tc->called_off = false;
	tc->drain = d;
	return true;
}

/* The cache, under its lock, if it is there; else NULL. A handler of a signal may have forked meanwhile: in
 * its child, others' caches are orphans. */
static struct tcache *still_there(const struct drain *d, struct cache_record *r) {
	lock_take(&r->lock, RANK_CACHE);
	struct tcache *tc = atomic_load_explicit(&r->cache, memory_order_acquire);
	if (likely(tc != NULL && d->generation == caches.generation)) return tc;
	lock_drop(&r->lock, RANK_CACHE);
	return NULL;
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

/* Its thread, or somebody else, called the drain off, and yet all is to go now: so the lock is held over the
 * barrier. */
static bool drain_alone(struct drain *d, struct tcache *tc) {
	if (!begin(d, tc)) return true;
	bool passed = os_barrier_in_all_threads();
	if (passed) magazines_look_after_barrier(tc);
	passed = passed && second_barrier();
	return end(tc, passed);
}

static void look_after_barrier(const struct drain *d) {
	for (size_t i = 0; i < d->count; i++) {
		struct tcache *tc = still_there(d, d->records[i]);
		if (tc == NULL) continue;
		if (tc->drain == d) magazines_look_after_barrier(tc);
		lock_drop(tc->lock, RANK_CACHE);
	}
}

static void end_one(struct drain *d, struct cache_record *r, bool passed) {
	struct tcache *tc = still_there(d, r);
	if (tc == NULL) return;
	bool done = tc->drain == d && end(tc, passed);
	if (!done && passed && d->looks == 0) done = drain_alone(d, tc);
	if (!done) cache_stirs(tc);
	d->more_later |= !done;
	lock_drop(tc->lock, RANK_CACHE);
}

/* Of all caches that it has begun with. */
static void finish(struct drain *d) {
	if (d->count == 0) return;
	bool passed = os_barrier_in_all_threads();
	if (passed) look_after_barrier(d);
	passed = passed && second_barrier();
	for (size_t i = 0; i < d->count; i++) end_one(d, d->records[i], passed);
	d->count = 0;
}

/* Of all caches; `turn`: of those that are quiet, some. */
static bool drain_caches(unsigned looks, const unsigned *turn) {
	struct cache_walk walk;
	bool busy = false;
	cache_walk_begin(&walk);
	struct drain d = { .generation = walk.generation, .looks = looks };
	for (struct tcache *tc;
	     (tc = looks > 0 ? cache_walk_next_idle(&walk, turn, &busy) : cache_walk_next(&walk)) != NULL;) {
		/* What is parked, end_parked sees to; the next thread that starts is not to wait for a drain of it.
		 */
		if (!atomic_load_explicit(&tc->parked, memory_order_relaxed) && begin(&d, tc))
			d.records[d.count++] = cache_record_of(tc);
		cache_walk_leave(tc);
		if (d.count == DRAIN_CACHES) finish(&d);
	}
	finish(&d);
	return d.more_later || busy;
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
