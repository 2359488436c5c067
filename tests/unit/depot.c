/* arena/depot.c: blocks that one thread has no room for, and another one takes, without their bins. */
#include "passing.h"
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena/bin.h"
#include "arena/depot.h"
#include "arena/policy.h"
#include "arena/pressure.h"
#include "arena/wave.h"
#include "base/conf.h"
#include "base/gate.h"
#include "cache/caches.h"
#include "cache/purger.h"
#include "harden/harden.h"
#include "observe/stats.h"

enum { SIZE = 8192, BLOCKS = 600 };

static void *blocks[BLOCKS];

static size_t waiting(size_t size) {
	size_t counts[CLASS_COUNT] = { 0 };
	depots_count(counts);
	for (unsigned c = 1; c < DEPOT_FIRST; c++) assert_int_equal(counts[c], 0);
	return counts[class_of_size(size)];
}

static size_t most(size_t size) { return min_size(DEPOT_BYTES / size_classes[class_of_size(size)].size, DEPOT_LONGEST); }

static uint64_t out(size_t size) {
	uint64_t all = 0;
	for (uint32_t a = 0; a < arena_count; a++) all += arena_list[a]->bins[class_of_size(size)].blocks_out;
	return all;
}

/* Nothing waits anywhere, and a purger is said to come by. */
static void begin(void) {
	atomic_store(&purged_in_background, true);
	tcache_flush_all();
	tcache_end_parked();
	depots_drain(0);
	assert_true(depots_are_empty());
}

static void take_all(size_t size) {
	for (size_t i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = arenal_test_malloc(size));
}

static void free_all(void) {
	for (size_t i = 0; i < BLOCKS; i++) arenal_test_free(blocks[i]);
}

static void *free_them(void *unused) {
	(void)unused;
	free_all();
	tcache_flush();
	return NULL;
}

static bool is_ours(const void *block) {
	bool found = false;
	for (size_t i = 0; i < BLOCKS; i++) found |= blocks[i] == block;
	return found;
}

static void threads_pass_on(void **state) {
	(void)state;
	begin();
	const uint64_t before = out(SIZE);
	take_all(SIZE);
	tcache_flush();
	assert_int_equal(out(SIZE), before + BLOCKS);
	in_thread(free_them, NULL);
	assert_int_equal(waiting(SIZE), most(SIZE));
	assert_int_equal(out(SIZE), before + most(SIZE)); /* all others are home */
	/* They come back, each once, and their bins hear nothing of it: the figures do. */
	void *again[DEPOT_LONGEST];
	const uint64_t there = out(SIZE);
	struct class_stats figures, figures_after;
	stats_of_class(class_of_size(SIZE), &figures);
	for (size_t i = 0; i < most(SIZE); i++) {
		again[i] = arenal_test_malloc(SIZE);
		assert_true(is_ours(again[i]));
		for (size_t j = 0; j < i; j++) assert_ptr_not_equal(again[i], again[j]);
	}
	assert_int_equal(waiting(SIZE), 0);
	assert_int_equal(out(SIZE), there);
	stats_of_class(class_of_size(SIZE), &figures_after);
	assert_true(figures.flushes > 0 && figures_after.refills > figures.refills);
	for (size_t i = 0; i < most(SIZE); i++) arenal_test_free(again[i]);
	begin();
	assert_int_equal(out(SIZE), before);
}

/* ... and each class has no more than its part. */
static void from_one_kilobyte_on(void **state) {
	(void)state;
	begin();
	assert_int_equal(size_classes[DEPOT_FIRST].size, 1024);
	static const size_t sizes[] = { 16, 960, 1024, 4096, 32768 };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		take_all(sizes[i]);
		in_thread(free_them, NULL);
		assert_int_equal(waiting(sizes[i]), sizes[i] < 1024 ? 0 : most(sizes[i]));
		begin();
	}
}

static void not_where_nobody_would_come_by(void **state) {
	(void)state;
	begin();
	atomic_store(&purged_in_background, false);
	take_all(SIZE);
	in_thread(free_them, NULL);
	assert_true(depots_are_empty());
	/* Nor while memory is short; then all of it goes with the next look. */
	atomic_store(&purged_in_background, true);
	take_all(SIZE);
	in_thread(free_them, NULL);
	assert_int_equal(waiting(SIZE), most(SIZE));
	atomic_store(&pressure.keep, MIB);
	assert_false(depots_drain(IDLE_LOOKS));
	assert_true(depots_are_empty());
	take_all(SIZE);
	in_thread(free_them, NULL);
	assert_true(depots_are_empty());
	atomic_store(&pressure.keep, SIZE_MAX);
	/* Nor of hardened threads, whose blocks come by chance. */
	const struct arena hardened = { .kind = REGION_GUARDED };
	take_all(SIZE);
	assert_int_equal(depot_put(&hardened, class_of_size(SIZE), blocks, 4), 0);
	assert_int_equal(depot_put(arena_list[0], class_of_size(SIZE), blocks, 4), 4);
	void *taken[4];
	assert_int_equal(depot_take(&hardened, class_of_size(SIZE), taken + 4, 4), 0);
	assert_int_equal(depot_take(arena_list[0], class_of_size(SIZE), taken + 4, 9), 4);
	free_all();
	begin();
}

/* Of a magazine without slots, too. And none waits where caches are not wanted. */
static void one_block_goes_on(void **state) {
	(void)state;
	begin();
	void *block = arenal_test_malloc(SIZE);
	tcache_flush();
	conf.tcache_max = SIZE - 1;
	arenal_test_free(block);
	assert_int_equal(waiting(SIZE), 1);
	size_t counts[CLASS_COUNT];
	tcache_blocks_get(counts);
	assert_int_equal(counts[class_of_size(SIZE)], 1);
	assert_ptr_equal(arenal_test_malloc(SIZE), block);
	assert_int_equal(waiting(SIZE), 0);
	conf.tcache_max = 0;
	arenal_test_free(block);
	assert_int_equal(waiting(SIZE), 0);
	conf.tcache_max = MIB;
	begin();
}

static void what_nobody_wants_goes(void **state) {
	(void)state;
	begin();
	take_all(SIZE);
	const uint64_t all = out(SIZE);
	in_thread(free_them, NULL);
	for (unsigned look = 1; look < IDLE_LOOKS; look++) assert_true(depots_drain(IDLE_LOOKS));
	tcache_flush();
	arenal_test_free(arenal_test_malloc(SIZE)); /* somebody does */
	assert_true(depots_drain(IDLE_LOOKS));
	for (unsigned look = 1; look < IDLE_LOOKS; look++) assert_true(depots_drain(IDLE_LOOKS));
	assert_false(depots_are_empty());
	assert_false(depots_drain(IDLE_LOOKS));
	assert_true(depots_are_empty());
	tcache_flush();
	assert_int_equal(out(SIZE), all - BLOCKS);
	begin();
}

static void all_goes_at_once(void **state) {
	(void)state;
	for (int way = 0; way < 2; way++) {
		begin();
		take_all(SIZE);
		in_thread(free_them, NULL);
		assert_false(depots_are_empty());
		if (way == 0)
			arena_purge_all(0);
		else
			assert_true(harden_reclaim(SLICE_SIZE));
		assert_true(depots_are_empty());
	}
	begin();
}

/* What waits there is free, and cached. */
static void it_is_counted(void **state) {
	(void)state;
	begin();
	struct arenal_stats before, after;
	take_all(SIZE);
	tcache_flush();
	stats_get(&before);
	assert_int_equal(depot_put(arena_list[0], class_of_size(SIZE), blocks, 5), 5);
	stats_get(&after);
	assert_int_equal(before.allocated - after.allocated, 5 * SIZE);
	assert_int_equal(after.cached - before.cached, 5 * SIZE);
	assert_int_equal(after.active, before.active);
	for (size_t i = 5; i < BLOCKS; i++) arenal_test_free(blocks[i]);
	begin();
}

/* One that waits, and goes on to. */
static void *one_that_waits(void) {
	void *block = NULL;
	close(2);
	atomic_store(&purged_in_background, true); /* in a child: as if it had a purger by now */
	if (depot_take(arena_list[0], class_of_size(SIZE), &block + 1, 1) != 1) _exit(2);
	if (depot_put(arena_list[0], class_of_size(SIZE), &block, 1) != 1) _exit(3);
	return block;
}

static void resize_it(void) { arenal_test_realloc(one_that_waits(), 2 * SIZE); }

/* The second one who would get it does not. */
static void free_it(void) {
	arenal_test_free(one_that_waits());
	for (int i = 0; i < 2 * BLOCKS; i++) arenal_test_malloc(SIZE);
}

/* A child has what waits there, once. */
static void take_in_child(void) {
	atomic_store(&purged_in_background, true);
	const size_t there = waiting(SIZE);
	tcache_flush();
	for (size_t i = 0; i < there; i++)
		if (!is_ours(arenal_test_malloc(SIZE))) _exit(1);
	_exit(waiting(SIZE) > 0);
}

/* Nobody in the child would look at it: it goes as what its parent's other threads kept does, by and by. */
static void free_in_child(void) {
	if (depots_are_empty()) _exit(1);
	const time_t end = time(NULL) + 20;
	while (!depots_are_empty() && time(NULL) < end) arenal_test_free(arenal_test_malloc(40 * SLICE_SIZE));
	_exit(!depots_are_empty());
}

static void children_and_second_frees(void **state) {
	(void)state;
	begin();
	take_all(SIZE);
	in_thread(free_them, NULL);
	void (*const mistakes[])(void) = { resize_it, free_it };
	for (int i = 0; i < 2; i++) {
		const int status = status_of(mistakes[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
	assert_int_equal(status_of(take_in_child), 0);
	assert_int_equal(status_of(free_in_child), 0);
	assert_int_equal(waiting(SIZE), most(SIZE));
	void *block = NULL;
	assert_int_equal(depot_take(arena_list[0], class_of_size(SIZE), &block + 1, 1), 1);
	assert_int_equal(depot_put(arena_list[0], class_of_size(SIZE), &block, 1), 1);
	assert_string_equal(tcache_where_free(span_of(block), block), ", and waits for another thread");
	begin();
}

/* In a child, whatever was under way. */
static void take_some(void) {
	atomic_store(&purged_in_background, true);
	for (size_t size = 1024; size <= 32768; size *= 2)
		for (int i = 0; i < 200; i++)
			if (arenal_test_malloc(size) == NULL) _exit(1);
}

static size_t size_by_turns(uintptr_t number) { return (size_t)1024 << number % 6; }

static void drain_all_and_fork(void) {
	static int round;
	depots_drain(1);
	tcache_drain(IDLE_LOOKS);
	if (round++ % 64 == 0) assert_int_equal(status_of(take_some), 0);
}

static void passed_on_while_drained(void **state) {
	(void)state;
	begin();
	pass_on(size_by_turns, 60000, drain_all_and_fork);
	begin();
}

static _Atomic bool readers_may_end;

static void read_figures(void) {
	struct class_stats figures;
	for (unsigned c = 1; c < CLASS_COUNT; c++) stats_of_class(c, &figures);
}

static void *read_all_the_time(void *unused) {
	(void)unused;
	while (!readers_may_end) {
		read_figures();
		tcache_where_free(span_of(blocks[0]), blocks[0]);
	}
	return NULL;
}

/* Who reads is under no lock that the child would wait for, for ever. */
static void read_in_child(void) {
	alarm(20);
	read_figures();
}

static void forks_beside_readers(void **state) {
	(void)state;
	begin();
	pthread_t readers[2];
	readers_may_end = false;
	blocks[0] = arenal_test_malloc(64);
	for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&readers[i], NULL, read_all_the_time, NULL), 0);
	for (int i = 0; i < 300; i++) assert_int_equal(status_of(read_in_child), 0);
	readers_may_end = true;
	for (int i = 0; i < 2; i++) pthread_join(readers[i], NULL);
	arenal_test_free(blocks[0]);
}

/* ---- with a purger ---- */

static bool comes_true(bool (*it)(void)) {
	const time_t end = time(NULL) + 20;
	while (!it() && time(NULL) < end) usleep(1000);
	return it();
}

static bool purger_is_off(void) { return purger_state == PURGER_OFF && !atomic_load(&purged_in_background); }

/* The one of the process gives back what nobody wants, while others work; and all, when it ends. */
static void the_purger_empties_them(void **state) {
	(void)state;
	begin();
	atomic_store(&purged_in_background, false);
	atomic_store(&wave_highest, 2 * SMALL_PROCESS_MAX);
	const pthread_t thread = other_thread();
	conf.background = 1;
	purger_start();
	assert_true(atomic_load(&purged_in_background));
	take_all(SIZE);
	in_thread(free_them, NULL);
	assert_false(depots_are_empty());
	assert_true(comes_true(depots_are_empty));
	conf.decay = 3600 * 1000; /* it does not look meanwhile */
	take_all(SIZE);
	in_thread(free_them, NULL);
	conf.background = 0;
	purger_end();
	assert_true(comes_true(purger_is_off));
	assert_true(comes_true(depots_are_empty));
	conf.decay = CONF_DECAY;
	end_other_thread(thread);
}

/* No purger starts unless a test wants one: what is drained, and when, the tests say. */
static int start_alone(void **state) {
	conf.background = 0;
	return start_arenal(state);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_pass_on),           cmocka_unit_test(from_one_kilobyte_on),
		cmocka_unit_test(not_where_nobody_would_come_by), cmocka_unit_test(what_nobody_wants_goes),
		cmocka_unit_test(all_goes_at_once),          cmocka_unit_test(it_is_counted),
		cmocka_unit_test(children_and_second_frees), cmocka_unit_test(passed_on_while_drained),
		cmocka_unit_test(one_block_goes_on),         cmocka_unit_test(the_purger_empties_them),
		cmocka_unit_test(forks_beside_readers),
	};
	return cmocka_run_group_tests(tests, start_alone, NULL);
}
