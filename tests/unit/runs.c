/* cache/runs.c: freed large blocks that wait in their thread's cache, and go when others want them back. */
#include "barrier.h"
#include "unit.h"

#include <pthread.h>

#include "arena/heap.h"
#include "arena/policy.h"
#include "arena/wave.h"
#include "base/conf.h"
#include "cache/tcache.h"

enum { SLICES = RUN_CACHE_SLICES };

static struct run_cache *own(void) { return &tcache_current->run_cache; }

static size_t kept_bytes(void) {
	size_t bytes, run_bytes, threads;
	tcache_stats_get(&bytes, &run_bytes, &threads);
	return run_bytes;
}

static void *take(size_t slices) {
	void *block = arenal_test_malloc(slices * SLICE_SIZE);
	assert_non_null(block);
	return block;
}

/* ---- of one thread ---- */

static void each_length_is_kept(void **state) {
	(void)state;
	for (size_t slices = 1; slices <= SLICES; slices++) {
		tcache_flush();
		const size_t size = slices * SLICE_SIZE, less = size - SLICE_SIZE / 3;
		void *block = take(slices);
		arenal_test_free(block);
		assert_int_equal(kept_bytes(), size);
		/* For its length, whatever is said of alignment up to a slice. */
		void *shorter = slices > 1 ? take(slices - 1) : NULL, *longer = take(slices + 1);
		assert_ptr_equal(arenal_test_malloc(less), block);
		assert_int_equal(kept_bytes(), 0);
		arenal_test_free(block);
		assert_ptr_equal(arenal_test_aligned_alloc(4096, less), block);
		arenal_test_free(block);
		assert_ptr_equal(arenal_test_aligned_alloc(SLICE_SIZE, less), block);
		arenal_test_free(block);
		assert_int_equal(kept_bytes(), size);
		arenal_test_free(shorter);
		arenal_test_free(longer);
	}
	tcache_flush();
	arenal_test_free(take(SLICES + 1));
	assert_int_equal(kept_bytes(), 0);
}

static void longer_alignments_are_kept_too(void **state) {
	(void)state;
	tcache_flush();
	char *block = arenal_test_aligned_alloc(4 * SLICE_SIZE, 2 * SLICE_SIZE);
	assert_int_equal((uintptr_t)block % (4 * SLICE_SIZE), 0);
	arenal_test_free(block);
	assert_int_equal(kept_bytes(), 2 * SLICE_SIZE);
	assert_ptr_equal(arenal_test_aligned_alloc(4 * SLICE_SIZE, 2 * SLICE_SIZE), block);
	assert_int_equal(kept_bytes(), 0);
	/* It is found behind one that does not lie so, which stays. */
	char *odd = take(2), *more = NULL;
	if ((uintptr_t)odd % (4 * SLICE_SIZE) == 0) {
		more = odd;
		odd = take(2);
	}
	assert_int_not_equal((uintptr_t)odd % (4 * SLICE_SIZE), 0);
	arenal_test_free(block);
	arenal_test_free(odd);
	assert_ptr_equal(arenal_test_aligned_alloc(4 * SLICE_SIZE, SLICE_SIZE + 1), block);
	assert_int_equal(kept_bytes(), 2 * SLICE_SIZE);
	char *other = arenal_test_aligned_alloc(4 * SLICE_SIZE, 2 * SLICE_SIZE);
	assert_ptr_not_equal(other, odd);
	assert_int_equal((uintptr_t)other % (4 * SLICE_SIZE), 0);
	assert_ptr_equal(take_run(2 * SLICE_SIZE), odd);
	arenal_test_free(other);
	arenal_test_free(block);
	arenal_test_free(odd);
	arenal_test_free(more);
	assert_null(run_take_aligned(own(), RUN_CACHE_BYTES + 1, 2 * SLICE_SIZE));
	tcache_flush();
}

static void other_lengths_make_room(void **state) {
	(void)state;
	void *small = take(1), *middle = take(2), *long_ = take(SLICES - 3), *last = take(4), *many[SLICES + 3];
	tcache_flush();
	arenal_test_free(small);
	arenal_test_free(middle);
	arenal_test_free(long_);
	assert_int_equal(kept_bytes(), RUN_CACHE_BYTES);
	arenal_test_free(last);
	assert_true(kept_bytes() <= RUN_CACHE_BYTES && kept_bytes() >= 4 * SLICE_SIZE);
	assert_ptr_equal(take(4), last);
	arenal_test_free(last);
	for (size_t i = 0; i < SLICES + 3; i++) many[i] = take(1);
	for (size_t i = 0; i < SLICES + 3; i++) arenal_test_free(many[i]);
	assert_int_equal(kept_bytes(), RUN_CACHE_BYTES);
	assert_ptr_equal(take(1), many[SLICES - 1]);
	arenal_test_free(many[SLICES - 1]);
	tcache_flush();
	assert_int_equal(kept_bytes(), 0);
	assert_int_equal(own()->limit, 0);
}

/* While every malloc is to take its slow path, it does; and finds what is kept. */
static void the_slow_path_finds_them_too(void **state) {
	(void)state;
	tcache_flush();
	void *block = take(2);
	arenal_test_free(block);
	assert_true(tcache_sample(GIB));
	assert_null(take_run(2 * SLICE_SIZE));
	assert_ptr_equal(arenal_test_malloc(2 * SLICE_SIZE), block);
	arenal_test_free(block);
	assert_true(tcache_sample(0));
	assert_ptr_equal(take_run(2 * SLICE_SIZE), block);
	arenal_test_free(block);
	tcache_flush();
}

/* ---- its thread was interrupted, or others come ---- */

/* The handler of a signal comes while its thread is inside: it does without, and leaves all as it is. */
static void who_is_inside_already_does_without(void **state) {
	(void)state;
	tcache_flush();
	void *block = take(2);
	arenal_test_free(block);
	own()->turn = RUN_INSIDE;
	assert_null(run_take_aligned(own(), 2 * SLICE_SIZE, 1));
	void *other = take(2);
	assert_ptr_not_equal(other, block);
	arenal_test_free(other);
	tcache_flush();
	assert_int_equal(kept_bytes(), 2 * SLICE_SIZE);
	assert_int_equal(own()->turn, RUN_INSIDE);
	own()->turn = RUN_OUTSIDE;
	assert_ptr_equal(take(2), block);
	arenal_test_free(block);
	tcache_flush();
	assert_int_equal(kept_bytes(), 0);
}

static void a_drain_spares_who_is_inside(void **state) {
	(void)state;
	need_barrier();
	tcache_flush();
	void *block = take(2);
	arenal_test_free(block);
	own()->turn = RUN_INSIDE;
	assert_true(tcache_drain(0));
	assert_int_equal(kept_bytes(), 2 * SLICE_SIZE);
	own()->turn = RUN_OUTSIDE;
	assert_ptr_equal(take_run(2 * SLICE_SIZE), block);
	arenal_test_free(block);
	assert_false(tcache_drain(0));
	assert_int_equal(kept_bytes(), 0);
}

static struct span *brought;
static int met;

static bool take_and_bring(void) {
	met++;
	assert_null(run_take(own(), 2 * SLICE_SIZE));
	assert_null(run_take_aligned(own(), 2 * SLICE_SIZE, 1));
	assert_false(run_keep(own(), brought));
	return true;
}

static void a_drain_closes_the_way_first(void **state) {
	(void)state;
	need_barrier();
	tcache_flush();
	void *block = take(2), *other = take(3);
	arenal_test_free(block);
	brought = span_of(other);
	met = 0;
	during_barrier = take_and_bring;
	tcache_drain(0);
	during_barrier = NULL;
	assert_true(met > 0);
	assert_int_equal(kept_bytes(), 0);
	assert_int_equal(brought->kind, SPAN_RUN);
	arenal_test_free(other);
	assert_int_equal(kept_bytes(), 3 * SLICE_SIZE);
	tcache_flush();
}

/* A free that finds room pokes nobody: so looks go on while there is room, also while the only block is out. */
static void looks_go_on_while_there_is_room(void **state) {
	(void)state;
	need_barrier();
	tcache_flush();
	void *block = take(2);
	arenal_test_free(block);
	assert_ptr_equal(take(2), block);
	for (int look = 0; look < IDLE_LOOKS; look++) assert_true(tcache_drain(IDLE_LOOKS));
	assert_false(tcache_drain(IDLE_LOOKS));
	assert_false(run_keep(own(), span_of(block)));
	arenal_test_free(block); /* by the slow path, which pokes */
	assert_int_equal(kept_bytes(), 2 * SLICE_SIZE);
	/* One that is in use stays. */
	for (int look = 0; look < 3 * IDLE_LOOKS; look++) {
		assert_true(tcache_drain(IDLE_LOOKS));
		assert_ptr_equal(take_run(2 * SLICE_SIZE), block);
		arenal_test_free(block);
	}
	tcache_flush();
}

/* ---- in a child ---- */

static void of_who_was_inside_all_are_lost(void **state) {
	(void)state;
	tcache_flush();
	void *block = take(2);
	arenal_test_free(block);
	own()->turn = RUN_INSIDE;
	run_cache_inherit(own());
	assert_int_equal(kept_bytes(), 0);
	assert_int_equal(own()->turn, RUN_OUTSIDE);
	assert_null(take_run(2 * SLICE_SIZE));
	heap_free(span_of(block));
	tcache_flush();
}

static void what_is_not_kept_ends_a_list(void **state) {
	(void)state;
	tcache_flush();
	void *first = take(2), *second = take(2), *other = take(1);
	arenal_test_free(second);
	arenal_test_free(first);
	arenal_test_free(other);
	run_cache_inherit(own());
	assert_int_equal(kept_bytes(), 5 * SLICE_SIZE);
	span_of(second)->kind = SPAN_RUN; /* as the child's page has it */
	run_cache_inherit(own());
	assert_int_equal(kept_bytes(), 3 * SLICE_SIZE);
	assert_ptr_equal(take(2), first);
	assert_null(take_run(2 * SLICE_SIZE));
	arenal_test_free(first);
	arenal_test_free(second);
	tcache_flush();
}

/* Two records as they were before and after their runs changed places. */
static void a_ring_ends(void **state) {
	(void)state;
	tcache_flush();
	void *first = take(2), *second = take(2);
	arenal_test_free(second);
	arenal_test_free(first);
	span_of(second)->next = span_of(first);
	run_cache_inherit(own());
	assert_int_equal(kept_bytes(), 4 * SLICE_SIZE);
	assert_ptr_equal(take_run(2 * SLICE_SIZE), first);
	assert_ptr_equal(take_run(2 * SLICE_SIZE), second);
	assert_null(take_run(2 * SLICE_SIZE));
	assert_int_equal(kept_bytes(), 0);
	arenal_test_free(first);
	arenal_test_free(second);
	tcache_flush();
}

/* ---- of several threads ---- */

enum { THREADS = 12, PAIRS = 20000 };
static pthread_barrier_t together;

/* Has a cache, then keeps as many slices as it may, and sleeps. */
static void *keep_what_it_may(void *unused) {
	(void)unused;
	arenal_test_free(arenal_test_malloc(16));
	pthread_barrier_wait(&together);
	void *blocks[SLICES];
	for (int i = 0; i < SLICES; i++) blocks[i] = take(1);
	for (int i = 0; i < SLICES; i++) arenal_test_free(blocks[i]);
	pthread_barrier_wait(&together);
	pthread_barrier_wait(&together);
	return NULL;
}

static void begin(pthread_t *threads) {
	assert_int_equal(pthread_barrier_init(&together, NULL, THREADS + 1), 0);
	for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, keep_what_it_may, NULL), 0);
	pthread_barrier_wait(&together);
	pthread_barrier_wait(&together);
}

static void end(pthread_t *threads) {
	pthread_barrier_wait(&together);
	for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&together);
}

/* Who was there first has no more than who comes later. */
static void each_has_its_share(void **state) {
	(void)state;
	need_barrier();
	pthread_t threads[THREADS];
	for (int round = 0; round < 3; round++) {
		/* Less where no purger sees to those that sleep. */
		const bool watched = round == 1;
		const size_t all = PRESSURE_CACHES / (watched ? RUN_CACHE_SHARE : RUN_CACHE_SHARE_UNWATCHED);
		const size_t share = all / (THREADS + 1) / SLICE_SIZE * SLICE_SIZE;
		assert_true(share < RUN_CACHE_BYTES && share > 0);
		tcache_flush();
		arenal_test_free(take(SLICES));
		assert_int_equal(kept_bytes(), RUN_CACHE_BYTES);
		atomic_store(&purged_in_background, watched);
		begin(threads);
		assert_int_equal(kept_bytes(), RUN_CACHE_BYTES + THREADS * share);
		assert_true(tcache_drain(IDLE_LOOKS));
		assert_int_equal(kept_bytes(), THREADS * share);
		arenal_test_free(take(1));
		assert_int_equal(kept_bytes(), THREADS * share + SLICE_SIZE);
		atomic_store(&purged_in_background, false); /* nor are caches parked */
		end(threads);
		tcache_flush();
		assert_int_equal(kept_bytes(), 0);
	}
}

static void who_sleeps_leaves_room_for_others(void **state) {
	(void)state;
	need_barrier();
	pthread_t threads[THREADS];
	tcache_flush();
	begin(threads);
	assert_true(kept_bytes() > 0);
	for (int look = 0; look <= IDLE_LOOKS; look++) tcache_drain(IDLE_LOOKS);
	assert_int_equal(kept_bytes(), 0);
	end(threads);
	tcache_flush();
}

/* There are so many threads now that each may keep less: a look is enough. */
static void less_room_is_found_at_once(void **state) {
	(void)state;
	need_barrier();
	tcache_flush();
	conf.tcache_max = 4 * SLICE_SIZE;
	arenal_test_free(take(4));
	assert_true(tcache_drain(IDLE_LOOKS));
	assert_int_equal(kept_bytes(), 4 * SLICE_SIZE);
	conf.tcache_max = 4 * SLICE_SIZE - 1;
	assert_false(tcache_drain(IDLE_LOOKS));
	assert_int_equal(kept_bytes(), 0);
	arenal_test_free(take(4));
	assert_int_equal(kept_bytes(), 0);
	conf.tcache_max = MIB;
}

/* Blocks of all lengths, of which each holds whose it is, at both ends. */
static void *work(void *working) {
	uintptr_t *held[4] = { NULL };
	size_t words[4];
	uint64_t random = (uintptr_t)held;
	for (int i = 0; i < PAIRS; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		const size_t at = random >> 33 & 3, slices = 1 + (random >> 40) % SLICES;
		if (held[at] != NULL) {
			assert_true(held[at][0] == (uintptr_t)&held[at] && held[at][words[at]] == (uintptr_t)&held[at]);
			arenal_test_free(held[at]);
		}
		held[at] = arenal_test_malloc(slices * SLICE_SIZE);
		words[at] = slices * SLICE_SIZE / sizeof(uintptr_t) - 1;
		held[at][0] = held[at][words[at]] = (uintptr_t)&held[at];
	}
	for (int i = 0; i < 4; i++) arenal_test_free(held[i]);
	atomic_fetch_sub((_Atomic int *)working, 1);
	return NULL;
}

/* Nobody's block is ever another one's, too. */
static void drains_while_threads_work(void **state) {
	(void)state;
	pthread_t threads[3];
	_Atomic int working = 3;
	tcache_flush();
	for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, work, &working), 0);
	while (atomic_load(&working) > 0) {
		tcache_drain(0);
		kept_bytes();
	}
	for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
	assert_int_equal(kept_bytes(), 0);
}

static bool refuse(void) { return false; }

static void *keep_and_free_again(void *unused) {
	(void)unused;
	void *block = take(1);
	arenal_test_free(take(2));
	assert_int_equal(run_cache_bytes(own()), 2 * SLICE_SIZE);
	pthread_barrier_wait(&together);
	pthread_barrier_wait(&together);
	assert_null(take_run(2 * SLICE_SIZE));
	arenal_test_free(block);
	assert_int_equal(run_cache_bytes(own()), 0);
	return NULL;
}

/* The barrier is refused: what others keep stays, until they free the next run, and then they keep no more. The last
 * test, since that stays so. */
static void nothing_is_kept_without_the_barrier(void **state) {
	(void)state;
	need_barrier();
	pthread_t thread;
	tcache_flush();
	void *block = take(2);
	assert_int_equal(pthread_barrier_init(&together, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, keep_and_free_again, NULL), 0);
	pthread_barrier_wait(&together);
	during_barrier = refuse;
	tcache_drain(0);
	assert_int_equal(kept_bytes(), 2 * SLICE_SIZE);
	during_barrier = NULL;
	pthread_barrier_wait(&together);
	pthread_join(thread, NULL);
	/* A thread that is alone has nobody to leave anything to. */
	arenal_test_free(block);
	assert_int_equal(kept_bytes(), 2 * SLICE_SIZE);
	tcache_flush();
	assert_int_equal(kept_bytes(), 0);
}

/* No purger starts: what is drained, and when, the tests say. */
static int start_alone(void **state) {
	conf.background = 0;
	return start_arenal(state);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_length_is_kept),
		cmocka_unit_test(longer_alignments_are_kept_too),
		cmocka_unit_test(other_lengths_make_room),
		cmocka_unit_test(the_slow_path_finds_them_too),
		cmocka_unit_test(who_is_inside_already_does_without),
		cmocka_unit_test(a_drain_spares_who_is_inside),
		cmocka_unit_test(a_drain_closes_the_way_first),
		cmocka_unit_test(looks_go_on_while_there_is_room),
		cmocka_unit_test(of_who_was_inside_all_are_lost),
		cmocka_unit_test(what_is_not_kept_ends_a_list),
		cmocka_unit_test(a_ring_ends),
		cmocka_unit_test(each_has_its_share),
		cmocka_unit_test(who_sleeps_leaves_room_for_others),
		cmocka_unit_test(less_room_is_found_at_once),
		cmocka_unit_test(drains_while_threads_work),
		cmocka_unit_test(nothing_is_kept_without_the_barrier),
	};
	return cmocka_run_group_tests(tests, start_alone, NULL);
}
