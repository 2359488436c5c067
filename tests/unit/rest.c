/* cache/rest.h: when a process rests; and the processor time that tells (base/os.c). */
#include "unit.h"

#include <pthread.h>
#include <time.h>

#include "base/os.h"
#include "cache/rest.h"

#define MS REST_MILLISECOND
#define INTERVAL (250 * MS)

static uint64_t now, cpu;
static struct rest rest;

static int anew(void **state) {
	(void)state;
	now = 1000000 * MS;
	cpu = 7000 * MS;
	rest = (struct rest){ 0 };
	return 0;
}

/* An interval in which the process took so much time on the CPUs. */
static bool rests_after(uint64_t taken) {
	rest_begin(&rest, now, cpu);
	now += INTERVAL;
	cpu += taken;
	return rest_look(&rest, now, cpu);
}

static void who_takes_next_to_nothing_rests(void **state) {
	(void)state;
	assert_true(rests_after(0));
	assert_true(rests_after(INTERVAL / REST_CPU_SHARE));
	assert_true(rests_after(-(uint64_t)1000));
	assert_false(rests_after(INTERVAL / REST_CPU_SHARE + 1));
	assert_false(rests_after(8 * INTERVAL));
}

static void after_a_short_rest_the_next_ones_wait(void **state) {
	(void)state;
	assert_true(rests_after(0));
	assert_false(rests_after(INTERVAL));
	const uint64_t until = now + REST_PATIENCE * MS;
	for (unsigned i = 0; now + INTERVAL < until; i++) assert_false(rests_after(i % 3 == 0 ? INTERVAL : 0));
	assert_true(rests_after(0));
}

/* Nobody looks while it lasts: the purger sleeps as well. */
static void after_a_long_rest_they_do_not(void **state) {
	(void)state;
	assert_true(rests_after(0));
	now += REST_WORTH * MS;
	assert_false(rests_after(INTERVAL));
	assert_true(rests_after(0));
}

/* What was taken before an interval began is no work in it. */
static void an_interval_begins_anew(void **state) {
	(void)state;
	assert_true(rests_after(0));
	cpu += 100 * INTERVAL;
	assert_true(rests_after(0));
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
		cmocka_unit_test_setup(after_a_short_rest_the_next_ones_wait, anew),
		cmocka_unit_test_setup(after_a_long_rest_they_do_not, anew),
		cmocka_unit_test_setup(an_interval_begins_anew, anew),
		cmocka_unit_test(the_time_of_other_threads_counts),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
