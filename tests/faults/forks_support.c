/* What the cases of faults.forks share. */
#include "forks.h"
#include "stamp.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const size_t sizes[SIZES] = { 0, 16, 100, 1000, 5000, 30000, 70 * KIB, 400 * KIB, 2 * MIB, 5 * MIB };

void allocate(void) {
	char *blocks[600];

	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		size_t size = sizes[i % (i < 40 ? COUNT_OF(sizes) : 6)] + i % 7;
		blocks[i] = malloc(size);
		CHILD_CHECK(blocks[i]);
		stamp_block(blocks[i], size, i);
		CHILD_CHECK(stamp_intact(blocks[i], size, i));
	}
	for (size_t i = 0; i < 40; i++) {
		blocks[i] = realloc(blocks[i], sizes[(i + 1) % COUNT_OF(sizes)] + 8);
		CHILD_CHECK(blocks[i]);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
}

static void *allocate_in_thread(void *unused) {
	allocate();
	return unused;
}

void allocate_in_another_thread(void) {
	pthread_t thread;

	CHILD_CHECK(pthread_create(&thread, NULL, allocate_in_thread, NULL) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

void expect_success(pid_t child) {
	int status;

	CHILD_CHECK(child > 0);
	CHILD_CHECK(waitpid(child, &status, 0) == child);
	CHILD_CHECK(status == 0);
}

pid_t fork_silently(void) {
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

struct arenal_stats stats(void) {
	struct arenal_stats out;

	CHILD_CHECK(arenal_stats_get(&out, sizeof out) == 0);
	return out;
}
