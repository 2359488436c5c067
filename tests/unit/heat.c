/* cache/: threads that have much to do may cache more than their share, where there are many. */
#include "barrier.h"
#include "unit.h"

#include <pthread.h>

#include "arena/depot.h"
#include "arena/policy.h"
#include "arena/pressure.h"
#include "cache/caches.h"

enum { THREADS = 1000, BLOCKS = 400 };
#define SHARE (tcache_room(false))
#define HOT_SHARED (PRESSURE_CACHES / HOT_SHARE)

/* As if so many threads had caches. The others are not there. */
static int many_threads(void **state) {
	start_arenal(state);
	conf.background = 0; /* who looks, the test says */
	atomic_store(&purged_in_background, true);
	tcache_flush_all();
	tcache_drain(IDLE_LOOKS);
	assert_true(tcache_count() >= 1);
	caches.count += THREADS - 1;
	return 0;
}

static int as_before(void **state) {
	(void)state;
	caches.count -= THREADS - 1;
	tcache_flush_all();
	tcache_drain(IDLE_LOOKS);
	assert_int_equal(caches.hot, 0);
	depots_drain(0);
	atomic_store(&purged_in_background, false);
	return 0;
}

/* Refills and flushes of all sizes up to 2 KiB. */
static void work(void) {
	static __thread void *blocks[BLOCKS];
	for (int round = 0; round < 8; round++) {
		for (size_t i = 0; i < BLOCKS; i++) blocks[i] = arenal_test_malloc(1 + i * 5);
		for (size_t i = 0; i < BLOCKS; i++) arenal_test_free(blocks[i]);
	}
}

/* So many of them. */
static void work_little(uint32_t events) {
	const size_t size = 64;
	const unsigned c = class_of_size(size);
	const uint32_t before = tcache_current->heat;
	while (tcache_current->heat - before < events) {
		magazine_dispose(tcache_current, c);
		arenal_test_free(arenal_test_malloc(size));
	}
}

/* Two looks that find it at work, and it is hot. */
static void be_hot(void) {
	for (int look = 0; look < 2; look++) {
		assert_false(cache_is_hot(tcache_current));
		work();
		tcache_drain(IDLE_LOOKS);
	}
	assert_true(cache_is_hot(tcache_current));
}

static bool is_hot(void) { return cache_is_hot(tcache_current); }

static void who_works_has_more(void **state) {
	(void)state;
	assert_true(SHARE >= CACHE_LEAST_ROOM && SHARE < 2 * CACHE_LEAST_ROOM);
	work();
	assert_false(is_hot()); /* it is, when somebody has looked twice */
	assert_true(tcache_current->room <= SHARE);
	be_hot();
	assert_int_equal(caches.hot, 1);
	work();
	assert_true(tcache_current->room > 8 * SHARE);
	assert_true(tcache_current->room <= HOT_TIMES * (size_t)conf.tcache_max);
	/* With a longer cache it has less to do. */
	tcache_drain(IDLE_LOOKS);
	work_little(HOT_STILL);
	tcache_drain(IDLE_LOOKS);
	assert_true(is_hot());
	work_little(HOT_STILL - 2);
	tcache_drain(IDLE_LOOKS);
	assert_false(is_hot());
	assert_int_equal(caches.hot, 0);
}

/* What it may have no more, it does not keep, although it needs no refill. */
static void who_has_worked_has_its_share_again(void **state) {
	(void)state;
	need_barrier();
	be_hot();
	work();
	assert_true(tcache_current->room > 8 * SHARE);
	tcache_drain(IDLE_LOOKS);
	/* At once, though nothing was found unchanged: the next look is worth it. */
	tcache_current->heat = 0;
	arenal_test_free(arenal_test_malloc(64));
	size_t bytes, run_bytes, threads;
	assert_true(tcache_drain(IDLE_LOOKS));
	assert_false(is_hot());
	tcache_stats_get(&bytes, &run_bytes, &threads);
	depots_drain(0);
	assert_true(bytes <= 3 * SHARE);
	for (int look = 0; look < 12; look++) {
		work();
		assert_false(is_hot());
		tcache_current->heat = 0; /* as if it had less to do */
		tcache_drain(IDLE_LOOKS);
	}
	assert_true(tcache_current->room <= SHARE);
}

static void who_has_little_to_do_has_its_share(void **state) {
	(void)state;
	tcache_drain(IDLE_LOOKS);
	for (int look = 0; look < 2; look++) {
		work_little(HOT_EVENTS - 2);
		tcache_drain(IDLE_LOOKS);
		assert_false(is_hot());
	}
	work_little(HOT_EVENTS);
	tcache_drain(IDLE_LOOKS);
	assert_false(is_hot());
	work_little(HOT_STILL);
	tcache_drain(IDLE_LOOKS);
	assert_true(is_hot());
}

static pthread_barrier_t barrier;

static void *works_too(void *room) {
	for (int look = 0; look < 2; look++) {
		assert_false(is_hot());
		work();
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier); /* somebody looks in between */
	}
	work();
	*(size_t *)room = tcache_current->room;
	assert_true(is_hot());
	return NULL;
}

static void those_who_work_share(void **state) {
	(void)state;
	enum { WORKERS = 9 };
	static pthread_t threads[WORKERS];
	static size_t rooms[WORKERS];
	pthread_barrier_init(&barrier, NULL, WORKERS + 1);
	for (size_t i = 0; i < WORKERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, works_too, &rooms[i]), 0);
	for (int look = 0; look < 2; look++) {
		pthread_barrier_wait(&barrier);
		tcache_drain(IDLE_LOOKS);
		assert_int_equal(caches.hot, WORKERS); /* before anybody has a share */
		if (look == 0) pthread_barrier_wait(&barrier);
	}
	assert_int_equal(tcache_room(true), SHARE + HOT_SHARED / WORKERS);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], NULL);
		assert_true(rooms[i] > 4 * SHARE);
		assert_true(rooms[i] <= SHARE + HOT_SHARED / WORKERS);
	}
	pthread_barrier_destroy(&barrier);
	/* They are not there any more. */
	tcache_drain(IDLE_LOOKS);
	assert_int_equal(caches.hot, 0);
}

static void all_of_them_have_little_more(void **state) {
	(void)state;
	caches.hot = THREADS;
	assert_int_equal(tcache_room(true), SHARE + HOT_SHARED / THREADS);
	pressure.caches = PRESSURE_CACHES_LEAST; /* memory is short */
	caches.hot = 2;
	assert_int_equal(tcache_room(true), CACHE_LEAST_ROOM + PRESSURE_CACHES_LEAST / HOT_SHARE / 2);
	pressure.caches = PRESSURE_CACHES;
	caches.hot = 0;
}

static void a_few_have_more_than_all_others(void **state) {
	(void)state;
	caches.count -= THREADS - 1;
	assert_int_equal(tcache_room(false), conf.tcache_max);
	assert_int_equal(tcache_room(true), HOT_TIMES * conf.tcache_max);
	conf.tcache_max = 0; /* no caches */
	assert_int_equal(tcache_room(true), 0);
	conf.tcache_max = MIB;
	caches.count += THREADS - 1;
}

static size_t magazines_begun(void) {
	size_t count = 0;
	for (unsigned c = 1; c < CLASS_COUNT; c++) count += tcache_current->slots[c].count > 0;
	return count;
}

static void *is_hot_and_sleeps(void *count) {
	be_hot();
	work();
	*(size_t *)count = magazines_begun();
	pthread_barrier_wait(&barrier);
	return NULL;
}

/* A thousand threads that were hot, one after the other, sleep: one block stays in each magazine. So not all of them start
 * magazines because of that. */
static void few_start_magazines(void **state) {
	(void)state;
	need_barrier();
	pthread_t thread;
	size_t with, without;
	pthread_barrier_init(&barrier, NULL, 2);
	assert_int_equal(caches.starters, 0);
	assert_int_equal(pthread_create(&thread, NULL, is_hot_and_sleeps, &with), 0);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	tcache_end_parked();
	assert_int_equal(caches.starters, 0); /* it has ended */
	caches.starters = HOT_STARTERS;
	assert_int_equal(pthread_create(&thread, NULL, is_hot_and_sleeps, &without), 0);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	assert_int_equal(caches.starters, HOT_STARTERS);
	assert_true(without < with);
	caches.starters = 0;
	/* One that holds no more than others may does not count any more. */
	be_hot();
	work();
	assert_int_equal(caches.starters, 1);
	for (int look = 0; look < 20 && caches.starters > 0; look++) {
		work();
		tcache_current->heat = 0;
		tcache_drain(IDLE_LOOKS);
	}
	assert_true(tcache_current->room <= SHARE);
	assert_int_equal(caches.starters, 0);
	pthread_barrier_destroy(&barrier);
}

static pthread_barrier_t hot_now, may_end;

static void *becomes_hot(void *unused) {
	(void)unused;
	be_hot();
	work();
	pthread_barrier_wait(&hot_now);
	pthread_barrier_wait(&may_end);
	return NULL;
}

/* Their room, which nobody takes from them while they sleep, has a bound. */
static void those_who_were_hot_have_a_bound(void **state) {
	(void)state;
	enum { SLEEPERS = 40 };
	pthread_t threads[SLEEPERS];
	pthread_barrier_init(&hot_now, NULL, 2);
	pthread_barrier_init(&may_end, NULL, SLEEPERS + 1);
	assert_int_equal(caches.extra, 0);
	size_t after_a_few = 0, without = 0, rooms = 0, extra = 0;
	for (size_t i = 0; i < SLEEPERS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, becomes_hot, NULL), 0);
		pthread_barrier_wait(&hot_now);
		if (i == 1) after_a_few = caches.extra;
		/* The next one is the only one that is hot. */
		for (int look = 0; look < 2; look++) tcache_drain(IDLE_LOOKS);
		assert_int_equal(caches.hot, 0);
	}
	for (const struct tcache *tc = caches.first; tc != NULL; tc = tc->next) {
		rooms += tc->room;
		extra += tc->extra;
		without += tc->extra == 0;
	}
	assert_true(after_a_few > 16 * SHARE);
	assert_int_equal(caches.extra, extra);
	assert_true(extra <= PRESSURE_CACHES / HOT_EXTRA_SHARE);
	assert_true(rooms <= extra + (SLEEPERS + 1) * PRESSURE_CACHES / THREADS);
	assert_true(without > 0); /* the last ones had to do with their shares */
	pthread_barrier_wait(&may_end);
	for (size_t i = 0; i < SLEEPERS; i++) pthread_join(threads[i], NULL);
	tcache_end_parked();
	assert_int_equal(caches.extra, 0);
}

/* The last looks tell; and nobody is hot where none comes: in a child, or without a purger. */
static void heat_is_over(void **state) {
	(void)state;
	be_hot();
	caches.looks += HOT_LOOKS; /* they passed it */
	assert_true(is_hot());
	caches.looks++;
	assert_false(is_hot());
	tcache_drain(IDLE_LOOKS);
	be_hot();
	atomic_store(&purged_in_background, false);
	assert_false(is_hot());
	work();
	assert_true(tcache_current->room <= SHARE);
	caches.looks = UINT32_MAX; /* 0 is the number of no look */
	atomic_store(&purged_in_background, true);
	be_hot();
	assert_int_equal(caches.looks, 2);
}

static void long_magazines_for_few_that_work(void **state) {
	(void)state;
	static void *blocks[8 * MAGAZINE_LIMIT_SLOTS];
	for (int look = 0; look < 3; look++) {
		for (int round = 0; round < 40; round++) {
			for (size_t i = 0; i < 8 * MAGAZINE_LIMIT_SLOTS; i++) blocks[i] = arenal_test_malloc(16);
			for (size_t i = 0; i < 8 * MAGAZINE_LIMIT_SLOTS; i++) arenal_test_free(blocks[i]);
		}
		assert_int_equal(tcache_current->slots[class_of_size(16)].count > MAGAZINE_LIMIT_SLOTS, look == 2);
		tcache_drain(IDLE_LOOKS);
	}
}

/* Large blocks that come: kept runs, which a thousand threads have no room for. */
static void runs_are_kept(void **state) {
	(void)state;
	need_barrier();
	enum { SIZE = 100000 };
	assert_false(is_hot());
	arenal_test_free(arenal_test_malloc(SIZE));
	assert_int_equal(tcache_current->run_cache.slices, 0);
	for (int look = 0; look < 2; look++) {
		assert_false(is_hot());
		for (uint32_t i = 0; i < HOT_EVENTS; i++) arenal_test_free(arenal_test_malloc(SIZE));
		tcache_drain(IDLE_LOOKS);
	}
	assert_true(is_hot());
	arenal_test_free(arenal_test_malloc(SIZE));
	assert_int_equal(tcache_current->run_cache.slices, (SIZE + SLICE_SIZE - 1) / SLICE_SIZE);
	/* Of many that are hot, each has its share. */
	caches.hot = 8;
	void *block = arenal_test_malloc(SIZE);
	tcache_current->run_cache.limit = 0; /* as after a drain: it is found anew */
	arenal_test_free(block);
	assert_int_equal(tcache_current->run_cache.limit, PRESSURE_CACHES / RUN_CACHE_SHARE / HOT_SHARE / 8 / SLICE_SIZE);
	/* When it is not any more, a look takes them away. */
	tcache_drain(IDLE_LOOKS);
	assert_false(is_hot());
	tcache_drain(IDLE_LOOKS);
	assert_int_equal(tcache_current->run_cache.slices, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_works_has_more, many_threads, as_before),
		cmocka_unit_test_setup_teardown(who_has_worked_has_its_share_again, many_threads, as_before),
		cmocka_unit_test_setup_teardown(who_has_little_to_do_has_its_share, many_threads, as_before),
		cmocka_unit_test_setup_teardown(those_who_work_share, many_threads, as_before),
		cmocka_unit_test_setup_teardown(all_of_them_have_little_more, many_threads, as_before),
		cmocka_unit_test_setup_teardown(a_few_have_more_than_all_others, many_threads, as_before),
		cmocka_unit_test_setup_teardown(few_start_magazines, many_threads, as_before),
		cmocka_unit_test_setup_teardown(those_who_were_hot_have_a_bound, many_threads, as_before),
		cmocka_unit_test_setup_teardown(heat_is_over, many_threads, as_before),
		cmocka_unit_test_setup_teardown(long_magazines_for_few_that_work, many_threads, as_before),
		cmocka_unit_test_setup_teardown(runs_are_kept, many_threads, as_before),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
