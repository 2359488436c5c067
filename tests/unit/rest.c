/* cache/rest.h: when a process rests; and the processor time that tells (base/os.c). */
#include "unit.h"

#include <pthread.h>
#include <time.h>

#include "base/os.h"
#include "cache/rest.h"

#define MICROSECOND UINT64_C(1000)
#define MS (1000 * MICROSECOND)
#define INTERVAL (250 * MS)

static uint64_t now, cpu;
static struct rest rest;

static int anew(void **state) {
	(void)state;
	now = 1000000 * MS;
	cpu = 7000 * MS;
	rest = (struct rest){ .cpu = cpu };
	return 0;
}

/* An interval in which the process took so much time on the CPUs. */
static bool rests_after(uint64_t taken) {
	now += INTERVAL;
	cpu += taken;
	return rest_look(&rest, now, cpu, INTERVAL);
}

static void who_takes_next_to_nothing_rests(void **state) {
	(void)state;
	assert_true(rests_after(0));
	assert_true(rests_after(REST_CPU * MICROSECOND));
	assert_true(rests_after(-(uint64_t)1000));
	assert_false(rests_after(REST_CPU * MICROSECOND + 1));
	assert_false(rests_after(8 * INTERVAL));
}

/* It uses memory each time, and less than a hundredth of a CPU. */
static void who_works_little_but_often_does_not(void **state) {
	(void)state;
	for (unsigned i = 0; i < 100; i++) assert_false(rests_after(300 * MICROSECOND));
}

static void without_a_clock_nobody_rests(void **state) {
	(void)state;
	rest.cpu = cpu = 0;
	assert_false(rests_after(0));
	assert_false(rests_after(0));
}

static void after_a_short_rest_the_next_ones_wait(void **state) {
	(void)state;
	assert_true(rests_after(0));
	assert_false(rests_after(INTERVAL));
	const uint64_t until = now + REST_PATIENCE * INTERVAL;
	for (unsigned i = 0; now + INTERVAL < until; i++) assert_false(rests_after(i % 3 == 0 ? INTERVAL : 0));
	assert_true(rests_after(0));
}

/* Nobody looks while it lasts: the purger sleeps as well. */
static void after_a_long_rest_they_do_not(void **state) {
	(void)state;
	assert_true(rests_after(0));
	now += REST_WORTH * INTERVAL;
	assert_false(rests_after(INTERVAL));
	assert_true(rests_after(0));
}

/* The purger slept, and was woken when the work was over. */
static void work_between_two_looks_counts(void **state) {
	(void)state;
	assert_true(rests_after(0));
	now += INTERVAL;
	cpu += MS;
	assert_false(rests_after(0));
	assert_false(rests_after(0)); /* it was a short one */
}

static void *work(void *unused) {
	const clock_t end = clock() + CLOCKS_PER_SEC / 50;
	while (clock() < end) {}
	return unused;
}

static void the_time_of_other_threads_counts(void **state) {
	(void)state;
	const uint64_t before = os_processor_time_of_others();
	work(NULL);
	const int64_t own = (int64_t)(os_processor_time_of_others() - before);
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
	pthread_join(thread, NULL);
	const int64_t others = (int64_t)(os_processor_time_of_others() - before) - own;
	assert_true(own < (int64_t)(10 * MS));
	assert_true(others >= (int64_t)(15 * MS)); /* it has ended, and counts still */
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(who_takes_next_to_nothing_rests, anew),
		cmocka_unit_test_setup(who_works_little_but_often_does_not, anew),
		cmocka_unit_test_setup(without_a_clock_nobody_rests, anew),
		cmocka_unit_test_setup(after_a_short_rest_the_next_ones_wait, anew),
		cmocka_unit_test_setup(after_a_long_rest_they_do_not, anew),
		cmocka_unit_test_setup(work_between_two_looks_counts, anew),
		cmocka_unit_test(the_time_of_other_threads_counts),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
