/* Blocks that go from thread to thread while others take them away: what the tests of shelves and of depots share. */
#ifndef PASSING_H
#define PASSING_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

static inline void *in_thread(void *(*body)(void *), void *argument) {
	pthread_t thread;
	void *result;
	assert_int_equal(pthread_create(&thread, NULL, body, argument), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	return result;
}

/* Of a child of fork that runs this. */
static inline int status_of(void (*child)(void)) {
	int status;
	const pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		child();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* ---- blocks that are passed on ---- */

enum { PASSING_SLOTS = 64, PASSING_THREADS = 6 };

static struct {
	size_t (*size)(uintptr_t number);
	uintptr_t blocks; /* of each of half of the threads */
	_Atomic(uintptr_t *) slots[PASSING_SLOTS];
	_Atomic int producing;
} passing;

static inline void *passing_produce(void *unused) {
	(void)unused;
	for (uintptr_t i = 1; i <= passing.blocks; i++) {
		const size_t size = passing.size(i);
		uintptr_t *block = arenal_test_malloc(size);
		assert_non_null(block);
		block[0] = size;
		block[size / sizeof *block - 1] = block[1] = (uintptr_t)block;
		arenal_test_free(atomic_exchange(&passing.slots[i % PASSING_SLOTS], block)); /* what nobody came for */
	}
	atomic_fetch_sub(&passing.producing, 1);
	return NULL;
}

static inline void *passing_consume(void *unused) {
	(void)unused;
	for (size_t i = 0; atomic_load(&passing.producing) > 0; i++) {
		uintptr_t *block = atomic_exchange(&passing.slots[i % PASSING_SLOTS], NULL);
		if (block == NULL) continue;
		assert_true(block[1] == (uintptr_t)block && block[block[0] / sizeof *block - 1] == (uintptr_t)block);
		arenal_test_free(block);
	}
	return NULL;
}

/* No block is two threads' at a time, whatever is done `meanwhile`, again and again. */
static inline void pass_on(size_t (*size)(uintptr_t), uintptr_t blocks, void (*meanwhile)(void)) {
	pthread_t threads[PASSING_THREADS];
	passing.size = size;
	passing.blocks = blocks;
	atomic_store(&passing.producing, PASSING_THREADS / 2);
	for (int i = 0; i < PASSING_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, i % 2 ? passing_consume : passing_produce, NULL), 0);
	while (atomic_load(&passing.producing) > 0) meanwhile();
	for (int i = 0; i < PASSING_THREADS; i++) pthread_join(threads[i], NULL);
	for (int i = 0; i < PASSING_SLOTS; i++) arenal_test_free(atomic_exchange(&passing.slots[i], NULL));
}

/* ---- another thread that has a cache ---- */

static _Atomic bool other_has_cache, other_may_end;

static inline void *other_main(void *unused) {
	(void)unused;
	arenal_test_free(arenal_test_malloc(16));
	other_has_cache = true;
	while (!other_may_end) usleep(1000);
	return NULL;
}

static inline pthread_t other_thread(void) {
	pthread_t thread;
	other_has_cache = other_may_end = false;
	assert_int_equal(pthread_create(&thread, NULL, other_main, NULL), 0);
	while (!other_has_cache) usleep(1000);
	return thread;
}

static inline void end_other_thread(pthread_t thread) {
	other_may_end = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
}

#endif
