/* forks SEED OPERATIONS THREADS: THREADS threads allocate without a pause while two others fork OPERATIONS times each.
 * The children allocate at once, use the blocks they inherited, start a thread, and fork children of their own. Some take all that lay
 * in caches. */
#include "stress.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKERS = 2, DEEPEST = 3, BLOCKS = 50 };

static struct arguments arguments;
static struct exchange exchange;
static atomic_bool stopped;

static void *hammer(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);

	while (!atomic_load_explicit(&stopped, memory_order_relaxed)) {
		struct block block = block_new(&random);
		if (random_below(&random, 2))
			block_resize(&block, &random);
		exchange_put(&exchange, &random, block);
		if (random_below(&random, 20000) == 0)
			malloc_trim(0);
	}
	return NULL;
}

static void *allocate_in_thread(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);

	for (int i = 0; i < 200; i++) {
		struct block block = block_new(&random);
		block_free(&block);
	}
	return NULL;
}

/* The sanitizers support no new threads in the child of a process with several: their own malloc may be locked there. */
#ifdef ARENAL_TEST_PREFIX
enum { CHILD_THREADS = 0 };
#else
enum { CHILD_THREADS = 1 };
#endif

static void run_family(uint64_t seed, struct block *inherited, int depth);

/* Ends the process: all went well when this returns its parent 0. */
static void be_a_child(uint64_t seed, struct block *inherited, int depth) {
	struct random random = random_for(seed, (uint64_t)depth);

	/* What lay in the caches of the threads that are not here is handed out as well. */
	if (random_below(&random, 3) == 0)
		malloc_trim(0);
	for (size_t i = 0; i < BLOCKS; i++) {
		struct block fresh = block_new(&random);
		if (i % 2)
			block_resize(&inherited[i], &random);
		else
			block_free(&inherited[i]);
		block_free(&fresh);
		if (!inherited[i].address)
			inherited[i] = block_new(&random);
	}
	run_threads(CHILD_THREADS, allocate_in_thread);
	if (depth < DEEPEST)
		run_family(seed + 1, inherited, depth + 1);
	for (size_t i = 0; i < BLOCKS; i++)
		block_free(&inherited[i]);
	_exit(0);
}

static void run_family(uint64_t seed, struct block *inherited, int depth) {
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0)
		be_a_child(seed, inherited, depth);
	CHECK(waitpid(child, &status, 0) == child);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail("a child of generation %d ended with status 0x%x", depth, status);
}

static void *fork_often(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);
	struct block blocks[BLOCKS];

	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = block_new(&random);
	for (size_t i = 0; i < arguments.operations; i++) {
		/* Every fourth family has children of children. */
		run_family(random_next(&random), blocks, i % 4 ? DEEPEST : 1);
		block_resize(&blocks[i % BLOCKS], &random);
	}
	for (size_t i = 0; i < BLOCKS; i++)
		block_free(&blocks[i]);
	return NULL;
}

int main(int argc, char **argv) {
	arguments = read_arguments(argc, argv);
	pthread_t hammers[64];

	CHECK(arguments.threads <= sizeof hammers / sizeof hammers[0]);
	for (uintptr_t i = 0; i < arguments.threads; i++)
		CHECK(pthread_create(&hammers[i], NULL, hammer, (void *)(i + FORKERS)) == 0);
	run_threads(FORKERS, fork_often);
	atomic_store(&stopped, true);
	for (size_t i = 0; i < arguments.threads; i++)
		CHECK(pthread_join(hammers[i], NULL) == 0);
	exchange_clear(&exchange);
	return 0;
}
