/* cache/own_thread: threads of our own come and go. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "cache/own_thread.h"

static void pause_a_moment(void) { nanosleep(&(struct timespec){ 0, 1000000 }, NULL); }

#define WAIT_FOR(condition) \
	do { \
		for (int tries = 0; tries < 20000 && !(condition); tries++) pause_a_moment(); \
		assert_true(condition); \
	} while (0)

static _Atomic int runs, ends, number;
static _Atomic bool enough, stubborn;

static void body(void);
static void ended(void) { atomic_fetch_add(&ends, 1); }
static struct own_thread thread = { .name = "own", .body = body, .ended = ended };

/* Sleeps until it is told to end, or has enough. */
static void body(void) {
	atomic_store(&number, os_thread_id());
	atomic_fetch_add(&runs, 1);
	while (!enough && (stubborn || !own_thread_shall_end(&thread))) {
		if (stubborn)
			pause_a_moment();
		else
			os_futex_wait_for((uint32_t *)&thread.state, OWN_PRESENT, 1);
	}
}

static int prepare(void **state) {
	ensure_started();
	own_threads_in_new_process(); /* as the constructor did */
	enough = stubborn = false;
	runs = ends = 0;
	(void)state;
	return 0;
}

static void one_at_a_time(void **state) {
	(void)state;
	sigset_t before, after;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	for (int i = 1; i <= 20; i++) {
		errno = 77;
		assert_int_equal(own_thread_start(&thread), OWN_STARTED);
		assert_int_equal(own_thread_start(&thread), OWN_NOT_NOW);
		WAIT_FOR(runs == i);
		own_thread_end(&thread);
		assert_int_equal(ends, i);
		assert_false(os_has_thread(number));
		own_thread_end(&thread); /* there is none */
		assert_int_equal(errno, 77);
	}
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_memory_equal(&before, &after, 8); /* libc's type is longer than the kernel's */
}

static void one_that_ends_by_itself(void **state) {
	(void)state;
	for (int i = 1; i <= 20; i++) {
		while (own_thread_start(&thread) != OWN_STARTED) pause_a_moment();
		WAIT_FOR(runs == i);
		enough = true;
		if (i % 2 == 0) { /* it may be anywhere on its way out */
			assert_true(own_threads_stand_back());
			assert_false(os_has_thread(number));
			own_threads_return(false);
		}
		WAIT_FOR(!os_has_thread(number));
		enough = false;
	}
	own_thread_end(&thread);
}

static void none_while_somebody_wants_none(void **state) {
	(void)state;
	assert_int_equal(own_thread_start(&thread), OWN_STARTED);
	assert_true(own_threads_stand_back());
	assert_int_equal(ends, 1);
	assert_int_equal(own_thread_start(&thread), OWN_NOT_NOW);
	assert_true(own_threads_stand_back()); /* another thread's call */
	own_threads_return(false);
	assert_int_equal(own_thread_start(&thread), OWN_NOT_NOW);
	assert_false(own_threads_may_start());
	own_threads_return(false);
	WAIT_FOR(own_threads_may_start());
	assert_int_equal(own_thread_start(&thread), OWN_STARTED);
	own_thread_end(&thread);
}

/* It may want a lock of the very thread that waits for it. */
static void nobody_waits_for_ever(void **state) {
	(void)state;
	stubborn = true;
	assert_int_equal(own_thread_start(&thread), OWN_STARTED);
	WAIT_FOR(runs == 1);
	assert_true(own_threads_stand_back());
	assert_true(os_has_thread(number));
	own_threads_return(false);
	assert_int_equal(own_thread_start(&thread), OWN_NOT_NOW);
	enough = true;
	own_thread_end(&thread);
	assert_false(os_has_thread(number));
}

static _Atomic bool over;

static void *start_again_and_again(void *unused) {
	while (!over) own_thread_start(&thread);
	return unused;
}

static void *stand_back_again_and_again(void *unused) {
	for (int i = 0; i < 200; i++) {
		if (!own_threads_stand_back()) abort();
		if (own_thread_start(&thread) != OWN_NOT_NOW) abort();
		own_threads_return(false);
		own_threads_differ();
	}
	return unused;
}

static void many_at_once(void **state) {
	(void)state;
	pthread_t starters[2], others[2];
	for (int i = 0; i < 2; i++) {
		pthread_create(&starters[i], NULL, start_again_and_again, NULL);
		pthread_create(&others[i], NULL, stand_back_again_and_again, NULL);
	}
	for (int i = 0; i < 2; i++) pthread_join(others[i], NULL);
	over = true;
	for (int i = 0; i < 2; i++) pthread_join(starters[i], NULL);
	own_thread_end(&thread);
	assert_int_equal(runs, ends);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(one_at_a_time, prepare),
		cmocka_unit_test_setup(one_that_ends_by_itself, prepare),
		cmocka_unit_test_setup(none_while_somebody_wants_none, prepare),
		cmocka_unit_test_setup(nobody_waits_for_ever, prepare),
		cmocka_unit_test_setup(many_at_once, prepare),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
