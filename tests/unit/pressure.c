/* arena/pressure: when free memory is given back near a limit. The clock stands still, so no patience passes. */
#include "unit.h"

#include "arena/heap.h"
#include "arena/pressure.h"
#include "base/conf.h"
#include "base/limits.h"

#define MIB ((size_t)1 << 20)

/* The linker leads the library here. */
uint64_t __wrap_os_milliseconds(void);
uint64_t __wrap_os_milliseconds(void) { return 1000000; }

enum { BLOCKS = 64, MANY = 5 * BLOCKS };

static void *blocks[MANY]; /* of a MiB each */

static void take(int count) {
	for (int i = 0; i < count; i++) {
		blocks[i] = arenal_test_malloc(MIB);
		assert_non_null(blocks[i]);
		memset(blocks[i], 1, MIB);
	}
}

static void free_all(void) {
	for (int i = 0; i < MANY; i++) {
		arenal_test_free(blocks[i]);
		blocks[i] = NULL;
	}
}

static size_t free_and_kept(void) {
	struct heap_stats heap;
	heap_stats_get(&heap);
	return heap.dirty + heap.unsure;
}

/* So much is left of a limit that is far above it. */
static void leave(size_t bytes) {
	conf.memory_limit = (int64_t)(limits_resident("") + bytes);
	pressure_measure(true);
}

static int far_from_any_limit(void **state) {
	conf.dirty_max = INT64_MAX; /* what is given back is so for the limit's sake */
	conf.trim_threshold = -1;
	conf.decay = -1;
	start_arenal(state);
	leave(1024 * MIB);
	return 0;
}

/* When it became critical first there was nothing to give back. Then much was freed, and it is critical again: that goes at
 * once, however short the time between. */
static void what_is_surely_free_goes_at_once(void **state) {
	(void)state;
	take(BLOCKS);
	leave(0);
	assert_int_equal(atomic_load(&pressure.level), PRESSURE_CRITICAL);
	leave(1024 * MIB);
	assert_int_equal(atomic_load(&pressure.level), PRESSURE_NONE);
	free_all();
	assert_true(free_and_kept() >= (BLOCKS - 8) * MIB);
	leave(0);
	assert_true(free_and_kept() <= PRESSURE_KEEP_LEAST);
}

static int asked;

static void ask(void) { asked++; }

/* So much was in use and is free, and the limit is near by what was measured then. */
static void come_near(int count, bool purger) {
	leave(64 * 1024 * MIB); /* under ThreadSanitizer, the process grows by several times what is taken */
	take(count);
	free_all();
	pressure_measure(true);
	assert_true(free_and_kept() >= (size_t)(count - 8) * MIB);
	asked = 0;
	atomic_store(&pressure_ask, purger ? ask : NULL);
	conf.memory_limit = (int64_t)(limits_resident("") / 15 * 16);
	pressure_look();
	assert_int_equal(asked, purger);
}

/* The purger is there: who allocates near the limit tells it, and does not wait. */
static void near_the_limit_the_purger_does_it(void **state) {
	(void)state;
	come_near(MANY, true);
	assert_int_equal(atomic_load(&pressure.level), PRESSURE_NEAR);
	assert_true(free_and_kept() >= (MANY - 8) * MIB);
	pressure_measure(true);
	assert_true(free_and_kept() <= PRESSURE_KEEP_LEAST);
	atomic_store(&pressure_ask, NULL);
}

/* Where it is not, who allocates does. */
static void near_the_limit_without_a_purger(void **state) {
	(void)state;
	come_near(MANY, false);
	assert_true(free_and_kept() <= PRESSURE_KEEP_LEAST);
}

/* Nor is a small limit left to the purger: that comes too late. */
static void near_a_small_limit(void **state) {
	(void)state;
	come_near(BLOCKS, true);
	assert_true(free_and_kept() <= PRESSURE_KEEP_LEAST);
	atomic_store(&pressure_ask, NULL);
}

/* It is gone before it did what it was woken for, as in the child of a fork: who allocates does. */
static void what_the_purger_left_undone_is_done(void **state) {
	(void)state;
	come_near(MANY, true);
	assert_int_equal(atomic_load(&pressure.level), PRESSURE_NEAR);
	assert_true(free_and_kept() >= (MANY - 8) * MIB);
	atomic_store(&pressure_ask, NULL);
	pressure_look();
	assert_true(free_and_kept() <= PRESSURE_KEEP_LEAST);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_surely_free_goes_at_once),
		cmocka_unit_test(near_the_limit_the_purger_does_it),
		cmocka_unit_test(near_the_limit_without_a_purger),
		cmocka_unit_test(near_a_small_limit),
		cmocka_unit_test(what_the_purger_left_undone_is_done),
	};

	return cmocka_run_group_tests(tests, far_from_any_limit, NULL);
}
