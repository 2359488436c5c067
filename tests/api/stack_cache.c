/* libc keeps the stacks of threads that ended, 40 MiB of them. When there are more, it unmaps some, and frees what belongs to
 * them under the lock of these stacks: pthread_create takes that lock, so no thread of ours may be started in such a call of
 * free. */
#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

enum { STACKS = 6, BLOCKS = 40000 };

static pthread_barrier_t begun;
static pthread_mutex_t no_more = PTHREAD_MUTEX_INITIALIZER;

static void *nothing(void *unused) { return unused; }

/* The second thread with a cache: from now on, a purger may be started. */
static void *allocate_and_stay(void *block) {
	*(void **)block = malloc(100);
	pthread_barrier_wait(&begun);
	pthread_mutex_lock(&no_more);
	return NULL;
}

/* In a child, which has not its parent's purger. With large stacks, more than libc keeps. */
static void end_threads_with_large_stacks(void) {
	pthread_t threads[STACKS], other;
	pthread_attr_t large;
	void *block;
	pthread_attr_init(&large);
	pthread_attr_setstacksize(&large, 16 * MIB);
	pthread_barrier_init(&begun, NULL, 2);
	pthread_mutex_lock(&no_more);
	for (int i = 0; i < STACKS; i++)
		if (pthread_create(&threads[i], &large, nothing, NULL) != 0) _exit(2);
	if (pthread_create(&other, NULL, allocate_and_stay, &block) != 0) _exit(2);
	pthread_barrier_wait(&begun);
	for (int i = 0; i < STACKS; i++)
		if (pthread_join(threads[i], NULL) != 0) _exit(2);
	_exit(0);
}

static void threads_end_although_a_purger_is_due(void **state) {
	(void)state;
	static void *blocks[BLOCKS]; /* a large heap */
	for (int i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = malloc(1000));
	void *one = malloc(100), *two = malloc(100);
	free(two); /* for it, the heap need not grow, which would start the purger as well */
	const pid_t child = fork();
	if (child == 0) end_threads_with_large_stacks();
	assert_true(child > 0);
	int status = -1;
	const time_t end = time(NULL) + 30;
	while (waitpid(child, &status, WNOHANG) == 0 && time(NULL) < end) nanosleep(&(struct timespec){ 0, 5000000 }, NULL);
	if (status == -1) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
	free(one);
}

int main(void) {
	const struct CMUnitTest tests[] = { cmocka_unit_test(threads_end_although_a_purger_is_due) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
