/* Behind a library that interposes libc's functions and allocates in them (interposer.c): threads that allocate, resize and free blocks of
 * all kinds, that come and go, and children. Nothing may wait for itself: alarm() ends who does. */
#include "stamp.h"
#include "support.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 3, BLOCKS = 400, ROUNDS = 4 };

static void *work(void *argument) {
	static const size_t sizes[] = { 24, 200, 3000, 20000, 40000, 100000, 300000, 1200000, 5000000 };
	void **blocks = calloc(BLOCKS, sizeof *blocks);

	CHILD_CHECK(blocks);
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < BLOCKS; i++) {
			size_t size = sizes[(i + (size_t)argument) % (i % 50 == 0 ? COUNT_OF(sizes) : COUNT_OF(sizes) - 3)];
			blocks[i] = i % 3 == 0 ? calloc(1, size) : malloc(size);
			CHILD_CHECK(blocks[i]);
			memset(blocks[i], 1, size < 4096 ? size : 4096);
		}
		for (size_t i = 0; i < BLOCKS; i += 5)
			CHILD_CHECK(blocks[i] = realloc(blocks[i], malloc_usable_size(blocks[i]) * 2));
		for (size_t i = 0; i < BLOCKS; i++)
			free(blocks[i]);
		malloc_trim(0);
	}
	free(blocks);
	return NULL;
}

static void run_threads(void) {
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
	for (size_t i = 0; i < THREADS; i++)
		CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(void) {
	const char *(*caller)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "interposed_by_arenal");

	alarm(50);
	CHILD_CHECK(require_arenal(NULL) == 0 && caller);
	work(NULL); /* in a process with one thread */
	run_threads();
	pid_t child = fork();
	CHILD_CHECK(child >= 0);
	if (child == 0) {
		alarm(50);
		run_threads();
		_exit(caller() ? 2 : 0);
	}
	int status;
	CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
	struct mallinfo2 info = mallinfo2();
	CHILD_CHECK(info.uordblks > 0);
	if (caller()) {
		dprintf(STDERR_FILENO, "Arenal called %s\n", caller());
		return 1;
	}
	return 0;
}
