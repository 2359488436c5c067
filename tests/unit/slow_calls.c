/* cache/slow_calls.h, base/times.h: which calls are timed, and in which bucket a time is counted. */
#include "unit.h"

#include <pthread.h>

#include "base/sandbox.h"
#include "cache/caches.h"
#include "observe/stats.h"

static void buckets_begin_above_the_limits_of_those_before(void **state) {
	(void)state;
	assert_int_equal(times_bucket(0), 0);
	assert_int_equal(times_bucket(1), 0);
	for (unsigned i = 0; i < TIMES_BUCKETS - 1; i++) {
		const uint64_t limit = (uint64_t)128 << i;
		assert_int_equal(times_bucket(limit - 1), i);
		assert_int_equal(times_bucket(limit), i);
		assert_int_equal(times_bucket(limit + 1), i + 1);
	}
	assert_int_equal(times_bucket(UINT64_MAX), TIMES_BUCKETS - 1);
}

static void a_time_is_counted_once(void **state) {
	(void)state;
	struct times times = { 0 };
	times_add(&times, 5000);
	times_add(&times, 5001);
	times_add(&times, 1);
	for (unsigned i = 0; i < TIMES_BUCKETS; i++) assert_int_equal(times.counts[i], i == 6 ? 2 : i == 0);
	assert_int_equal(times.nanoseconds, 10002);
}

/* One of each 16 in a row, and each of them as often as any other: no rhythm of the program's hides a call. */
static void any_one_of_each_sixteen_is_timed(void **state) {
	(void)state;
	enum { ROUNDS = 16000 };
	struct random random = { 1 };
	struct slow_turn turn;
	unsigned at[SLOW_CALLS_EACH] = { 0 };
	slow_turn_draw(&turn, &random);
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned timed = 0;
		for (unsigned i = 0; i < SLOW_CALLS_EACH; i++) {
			if (--turn.left >= 0) continue;
			slow_turn_pass(&turn, &random);
			at[i]++;
			timed++;
		}
		assert_int_equal(timed, 1);
	}
	for (unsigned i = 0; i < SLOW_CALLS_EACH; i++) assert_in_range(at[i], 850, 1150); /* 1000 +- 5 sigma */
}

/* The handler of a signal came in the middle, made a call of its own, and took the turn. */
static void a_turn_that_was_taken_twice_goes_on(void **state) {
	(void)state;
	struct random random = { 1 };
	struct slow_turn turn = { .left = -1 };
	assert_true(--turn.left < 0);
	slow_turn_pass(&turn, &random);
	assert_in_range(turn.left, 0, 2 * SLOW_CALLS_EACH);
}

/* ---- calls that take long ---- */

enum { DELAY = 300000 /* ns */, CALLS = 4 * SLOW_CALLS_EACH };

static void take_long(void) {
	for (const uint64_t begin = os_nanoseconds(); os_nanoseconds() - begin < DELAY;) {
	}
}

static struct arenal_times malloc_small(void) {
	struct arenal_stats stats;
	stats_get(&stats);
	return stats.malloc_small;
}

/* A new thread, whose calls begin with the first of sixteen. */
static void *make_calls(void *blocks) {
	for (int i = 0; i < CALLS; i++) ((void **)blocks)[i] = tcache_alloc(class_of_size(100), 100);
	for (int i = 0; i < CALLS; i++) arenal_test_free(((void **)blocks)[i]);
	return NULL;
}

/* What the thread counted stays when it has ended. */
static void slow_calls_land_in_the_right_bucket(void **state) {
	(void)state;
	static void *blocks[CALLS];
	pthread_t thread;
	const struct arenal_times before = malloc_small();
	atomic_store(&cache_hooks.slow_moment, take_long);
	const uint64_t begin = os_nanoseconds();
	assert_int_equal(pthread_create(&thread, NULL, make_calls, blocks), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	const uint64_t whole = os_nanoseconds() - begin;
	atomic_store(&cache_hooks.slow_moment, NULL);
	const struct arenal_times after = malloc_small();
	unsigned counted = 0;
	for (unsigned i = 0; i < TIMES_BUCKETS; i++) {
		const uint64_t more = after.counts[i] - before.counts[i];
		if (i < times_bucket(DELAY) || i > times_bucket(whole)) assert_int_equal(more, 0);
		counted += (unsigned)more;
	}
	assert_in_range(counted, CALLS / SLOW_CALLS_EACH, CALLS / SLOW_CALLS_EACH + 1); /* libc may call, too */
	assert_in_range(after.nanoseconds - before.nanoseconds, counted * (uint64_t)DELAY, whole);
}

/* Where the clock might be a system call. */
static void nothing_is_timed_in_a_sandbox(void **state) {
	(void)state;
	const struct arenal_times before = malloc_small();
	atomic_store(&sandbox_on, true);
	for (int i = 0; i < CALLS; i++) arenal_test_free(tcache_alloc(class_of_size(100), 100));
	atomic_store(&sandbox_on, false);
	const struct arenal_times after = malloc_small();
	assert_memory_equal(&after, &before, sizeof after);
}

static void table_tells_limits(void **state) {
	(void)state;
	struct arenal_stats stats = { 0 };
	char text[128];
	assert_false(stats_times_line(&stats, 0, text, sizeof text));
	stats.lock_wait.counts[0] = 98;
	stats.lock_wait.counts[4] = 1;
	stats.lock_wait.counts[13] = 1;
	stats.lock_wait.nanoseconds = 1234567;
	assert_true(stats_times_line(&stats, 0, text, sizeof text));
	assert_string_equal(text, "lock_wait           1          100          128 ns          2.0 us"
	                          "          1.0 ms         1.2 ms");
	assert_int_equal(strlen(text), strlen(stats_times_head));
	stats.lock_wait.counts[TIMES_BUCKETS - 1] = 1;
	assert_true(stats_times_line(&stats, 0, text, sizeof text));
	assert_non_null(strstr(text, " more "));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_begin_above_the_limits_of_those_before),
		cmocka_unit_test(a_time_is_counted_once),
		cmocka_unit_test(any_one_of_each_sixteen_is_timed),
		cmocka_unit_test(a_turn_that_was_taken_twice_goes_on),
		cmocka_unit_test(slow_calls_land_in_the_right_bucket),
		cmocka_unit_test(nothing_is_timed_in_a_sandbox),
		cmocka_unit_test(table_tells_limits),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
