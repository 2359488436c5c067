/* A program that has a pthread_create of its own, and sisters, as profilers and collectors of garbage do. It allocates and frees under its
 * lock in there, and does not hear of Arenal's threads, which are started then. */
#include "support.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 64, BLOCKS = 1500, SIZE = 700 };

static pthread_mutex_t lock;
static char *blocks[STEPS][BLOCKS];
static _Atomic unsigned calls, joins, reentered;
static bool gives_back;

static void *next(const char *name) {
	void *function = dlsym(RTLD_NEXT, name);
	if (function == NULL) abort();
	return function;
}

/* Threads whose names begin with "arenal". */
static unsigned own_threads(void) {
	unsigned found = 0;
	char path[64], text[32];
	for (int id = getpid(); id < getpid() + 1000; id++) {
		snprintf(path, sizeof path, "/proc/self/task/%d/comm", id);
		FILE *file = fopen(path, "r");
		if (file == NULL) continue;
		if (fgets(text, sizeof text, file) != NULL && strncmp(text, "arenal", 6) == 0) found++;
		fclose(file);
	}
	return found;
}

/* A MiB. */
static void take(unsigned step) {
	for (int i = 0; i < BLOCKS; i++) {
		blocks[step][i] = malloc(SIZE);
		memset(blocks[step][i], 1, SIZE);
	}
}

/* No free starts a thread; the next malloc that is no matter of a few instructions does. */
static void give_back(unsigned step) {
	for (int i = 0; i < BLOCKS; i++) free(blocks[step][i]);
	assert_int_equal(own_threads(), 0);
	free(malloc(100000));
}

static void work(unsigned step) {
	if (gives_back)
		give_back(step);
	else
		take(step);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
	int (*function)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = next("pthread_create");
	if (pthread_mutex_lock(&lock) != 0) { /* a thread that holds it */
		reentered++;
		return function(thread, attributes, body, argument);
	}
	work(calls++ % STEPS);
	const int result = function(thread, attributes, body, argument);
	pthread_mutex_unlock(&lock);
	return result;
}

int pthread_join(pthread_t thread, void **result) {
	joins++;
	return ((int (*)(pthread_t, void **))next("pthread_join"))(thread, result);
}

static pthread_barrier_t started, over;

static void *have_a_cache(void *unused) {
	free(malloc(100));
	pthread_barrier_wait(&started);
	pthread_barrier_wait(&over);
	return unused;
}

static void *return_it(void *argument) { return argument; }

/* The process has no thread of Arenal's before. */
static void starts_them(void) {
	pthread_t thread, other;
	unsigned made = 1;
	pthread_mutexattr_t kind;
	pthread_mutexattr_init(&kind);
	pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&lock, &kind);
	pthread_barrier_init(&started, NULL, 2);
	pthread_barrier_init(&over, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, have_a_cache, NULL), 0);
	pthread_barrier_wait(&started); /* several threads allocate from now on */
	for (; made < STEPS && own_threads() == 0; made++) {
		assert_int_equal(pthread_create(&other, NULL, return_it, NULL), 0);
		pthread_join(other, NULL);
	}
	assert_true(own_threads() > 0);
	assert_int_equal(reentered, 0);
	assert_int_equal(calls, made);
	assert_int_equal(joins, made - 1);
	pthread_barrier_wait(&over);
	pthread_join(thread, NULL);
}

static void by_growth(void **state) {
	(void)state;
	gives_back = false;
	starts_them();
}

/* What was taken while there was one thread. */
static void by_free(void **state) {
	(void)state;
	for (unsigned step = 0; step < STEPS; step++) take(step);
	gives_back = true;
	starts_them();
}

int main(int argc, char **argv) {
	const struct CMUnitTest growth[] = { cmocka_unit_test(by_growth) }, frees[] = { cmocka_unit_test(by_free) };
	return argc > 1 && strcmp(argv[1], "free") == 0 ? cmocka_run_group_tests(frees, NULL, NULL) : cmocka_run_group_tests(growth, NULL, NULL);
}
