/* Forks while another thread reports, ends the program, or puts a front before the allocator: the child waits for none of these. */
#include "support.h"

#include <arenal/arenal.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* C++'s sized delete, as the library has it. */
extern void sized_delete(void *block, size_t size) __asm__("_ZdlPvm");

/* ---- a thread that waits for who reads stderr ---- */

static int own_stderr;

static void fill_stderr(void) {
	int ends[2];
	char bytes[4096] = { 0 };
	CHILD_CHECK(pipe(ends) == 0);
	CHILD_CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
	while (write(ends[1], bytes, sizeof bytes) > 0)
		;
	while (write(ends[1], bytes, 1) > 0)
		;
	CHILD_CHECK(fcntl(ends[1], F_SETFL, 0) == 0);
	own_stderr = open("/dev/null", O_WRONLY);
	CHILD_CHECK(own_stderr >= 0 && dup2(ends[1], 2) == 2);
}

static atomic_int thread_id;

/* Until the thread sleeps. */
static void await_sleep(void) {
	char path[64], state = 0;
	while (atomic_load(&thread_id) == 0)
		usleep(1000);
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&thread_id));
	while (state != 'S') {
		FILE *file = fopen(path, "r");
		CHILD_CHECK(file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) == 1);
		fclose(file);
		usleep(1000);
	}
}

/* The first is a thread's, the second its child's. */
struct mistakes {
	void (*first)(void), (*second)(void);
};

static void *report(void *argument) {
	const struct mistakes *mistakes = argument;
	atomic_store(&thread_id, (int)syscall(SYS_gettid));
	mistakes->first();
	return NULL;
}

static void wrong_size(void) { sized_delete(malloc(1000), 64); }

/* Another kind: a report of its own. */
static void second_free(void) {
	char *volatile block = malloc(100), *volatile other = malloc(100);
	free(block);
	free(other);
	free(block);
	for (int i = 0; i < 1000; i++)
		block = malloc(100);
}

static void use_after_free(void) {
	for (size_t i = 0; i < 1000; i++) {
		char *volatile block = malloc(1000 + i);
		free(block);
		block[3] = 1;
	}
}

static void makes_the_second(void *argument) {
	const struct mistakes *mistakes = argument;
	dup2(own_stderr, 2);
	alarm(20);
	mistakes->second();
}

static void reports_and_forks(void *mistakes) {
	pthread_t thread;
	signal(SIGSEGV, SIG_DFL); /* cmocka's would go on */
	fill_stderr();
	CHILD_CHECK(pthread_create(&thread, NULL, report, mistakes) == 0);
	await_sleep();
	_exit(run_in_child(makes_the_second, mistakes));
}

/* How the child ends. */
static int end_of(void (*first)(void), void (*second)(void)) {
	struct mistakes mistakes = { first, second };
	return run_in_child(reports_and_forks, &mistakes);
}

static void beside_a_report_of_misuse(void **state) {
	(void)state;
	assert_int_equal(end_of(wrong_size, second_free), 0);
}

static void beside_a_report_of_a_guard(void **state) {
	(void)state;
	assert_int_equal(end_of(use_after_free, use_after_free), 128 + SIGSEGV);
}

/* ---- a thread that ends the program ---- */

static atomic_bool is_ending;

static void stay(int signal) {
	(void)signal;
	atomic_store(&is_ending, true);
	for (;;)
		pause();
}

static void *write_into_free(void *unused) {
	char *volatile block = malloc(5000);
	strcpy(block, "block");
	free(block);
	free(block);
	return unused;
}

static void *allocate(void *unused) {
	void *blocks[300];
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < COUNT_OF(blocks); i++)
			blocks[i] = malloc(16 + i * 100);
		for (size_t i = 0; i < COUNT_OF(blocks); i++)
			free(blocks[i]);
	}
	return unused;
}

/* The first of its threads gets the stack of the one that ended the program. */
static void allocate_in_threads(void *unused) {
	(void)unused;
	pthread_t threads[3];
	alarm(20);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, allocate, NULL) == 0);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
}

static void ends_and_forks(void *unused) {
	(void)unused;
	pthread_t thread;
	int nowhere = open("/dev/null", O_WRONLY);
	dup2(nowhere, 2);
	CHILD_CHECK(signal(SIGABRT, stay) != SIG_ERR);
	CHILD_CHECK(pthread_create(&thread, NULL, write_into_free, NULL) == 0);
	while (!atomic_load(&is_ending))
		usleep(1000);
	_exit(run_in_child(allocate_in_threads, NULL));
}

static void beside_who_ends_the_program(void **state) {
	(void)state;
	assert_int_equal(run_in_child(ends_and_forks, NULL), 0);
}

/* ---- threads that make heaps ---- */

static atomic_bool stopped;

static void make_heap(void *unused) {
	(void)unused;
	alarm(20);
	arenal_heap *heap = arenal_heap_create("one");
	CHILD_CHECK(heap != NULL);
	arenal_heap_destroy(heap);
}

static void *make_heaps(void *unused) {
	while (!atomic_load(&stopped))
		make_heap(NULL);
	return unused;
}

static void beside_who_makes_heaps(void **state) {
	(void)state;
	pthread_t threads[4];
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, make_heaps, NULL), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(run_in_child(make_heap, NULL), 0);
	atomic_store(&stopped, true);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	alarm(0);
}

int main(void) {
	const struct CMUnitTest guarded[] = { cmocka_unit_test(beside_a_report_of_a_guard) };
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(beside_a_report_of_misuse),
		cmocka_unit_test(beside_who_ends_the_program),
		cmocka_unit_test(beside_who_makes_heaps),
	};
	return strcmp(getenv("ARENAL_GUARD_SAMPLE"), "1") == 0 ? cmocka_run_group_tests(guarded, require_arenal, NULL)
	                                                        : cmocka_run_group_tests(plain, require_arenal, NULL);
}
