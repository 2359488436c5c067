/* drain SEED OPERATIONS THREADS: blocks go from the cache of a thread that does nothing any more to the main thread, which
 * writes to them: those that the thread freed, and new ones, which nobody had yet, but which it gave their marks. Nothing but the drain stands between the two: the flags are relaxed. So it is seen whether a drained block
 * is handed over as it should be; in the stress programs, one lock or another orders nearly everything. OPERATIONS: blocks.
 * Both threads must use one arena. */
#include "stress.h"

#include <arenal/arenal.h>
#include <pthread.h>
#include <sched.h>

enum { SIZE = 100, BLOCKS_MAX = 1000, NEW_SIZE = 200, NEW_BLOCKS = 6, PAGE = 4096 };

static struct arguments arguments;
static void *freed[BLOCKS_MAX];
static char *first_new;
static atomic_int step;

static void wait_for(int wanted) {
	while (atomic_load_explicit(&step, memory_order_relaxed) != wanted)
		sched_yield();
}

static void *free_and_idle(void *unused) {
	for (size_t i = 0; i < arguments.operations; i++) {
		freed[i] = malloc(SIZE);
		CHECK(freed[i]);
	}
	/* Those that still have room in the magazine need no lock. */
	for (size_t i = 0; i < arguments.operations; i++) {
		memset(freed[i], 1, SIZE);
		free(freed[i]);
	}
	/* The others of its page come into the magazine, after the last lock. */
	CHECK(first_new = malloc(NEW_SIZE));
	atomic_store_explicit(&step, 1, memory_order_relaxed);
	wait_for(2);
	return unused;
}

/* Of those that lay in the other thread's cache, some at least. */
static void take_new_blocks(char *blocks[NEW_BLOCKS]) {
	for (size_t i = 0; i < NEW_BLOCKS; i++) {
		blocks[i] = malloc(NEW_SIZE);
		CHECK(blocks[i]);
		memset(blocks[i], 2, NEW_SIZE);
	}
}

static void check_new_blocks(char *blocks[NEW_BLOCKS]) {
	size_t near = 0;

	for (size_t i = 0; i < NEW_BLOCKS; i++)
		near += (uintptr_t)blocks[i] / PAGE == (uintptr_t)first_new / PAGE;
	if (near < NEW_BLOCKS / 2)
		fail("only %zu of %d new blocks came from the other thread", near, NEW_BLOCKS);
	for (size_t i = 0; i < NEW_BLOCKS; i++)
		free(blocks[i]);
	free(first_new);
}

int main(int argc, char **argv) {
	pthread_t thread;
	void *blocks[BLOCKS_MAX];
	char *new_blocks[NEW_BLOCKS];
	size_t handed_over = 0;

	arguments = read_arguments(argc, argv);
	CHECK(arguments.operations <= BLOCKS_MAX);
	CHECK(pthread_create(&thread, NULL, free_and_idle, NULL) == 0);
	wait_for(1);
	arenal_purge();
	for (size_t i = 0; i < arguments.operations; i++) {
		blocks[i] = malloc(SIZE);
		CHECK(blocks[i]);
		memset(blocks[i], 2, SIZE);
	}
	take_new_blocks(new_blocks);
	atomic_store_explicit(&step, 2, memory_order_relaxed);
	CHECK(pthread_join(thread, NULL) == 0);
	for (size_t i = 0; i < arguments.operations; i++) {
		for (size_t k = 0; k < arguments.operations; k++)
			handed_over += blocks[i] == freed[k];
	}
	if (handed_over < arguments.operations / 2)
		fail("only %zu of %zu blocks came from the other thread", handed_over, arguments.operations);
	for (size_t i = 0; i < arguments.operations; i++)
		free(blocks[i]);
	check_new_blocks(new_blocks);
	return 0;
}
