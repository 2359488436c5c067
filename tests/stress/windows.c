/* windows SEED OPERATIONS THREADS: threads allocate and free while two clients ask the window for all it tells, purge, set
 * tunables, and scribble over the page; now and then a child is forked, which gets a window of its own. OPERATIONS: of
 * each thread, steps. With ARENAL_WINDOW=1. */
#include "stress.h"
#include "window_client.h"

#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>

enum { OWN_BLOCKS = 2000, FORKS = 5 };

static struct arguments arguments;
static struct exchange exchange;
static atomic_bool over;
static atomic_size_t answers;

/* The window is opened before main, by another thread. */
static struct window open_own(void) {
	struct window window;
	for (int i = 0; i < 1000; i++) {
		if (window_open(&window, getpid()))
			return window;
		nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
	}
	fail("there is no window");
}

static void *ask(void *number) {
	struct window window = open_own();
	struct random random = random_for(arguments.seed, 1000 + (uintptr_t)number);

	while (!atomic_load(&over)) {
		int64_t value = 0;
		CHECK(window_ask(&window, SNAPSHOT, "", (int64_t)random_below(&random, 2), NULL) == 0);
		CHECK(window_ask(&window, SET, "tcache_max", (int64_t)random_below(&random, 1 << 20), NULL) == 0);
		CHECK(window_ask(&window, GET, "tcache_max", 0, &value) == 0 && value < 1 << 20);
		CHECK(window_ask(&window, SET, "nonsense", 1, NULL) == ENOENT);
		CHECK(window_ask(&window, 77, "", 0, NULL) == ENOSYS);
		if (random_below(&random, 4) == 0)
			CHECK(window_ask(&window, PURGE, "", 0, NULL) == 0);
		/* Between two requests: behind the first page, there is nothing that the library reads. */
		flock(window.file, LOCK_EX);
		memset(window.page + 1024, (int)random_below(&random, 256), window.size - 1024);
		flock(window.file, LOCK_UN);
		atomic_fetch_add(&answers, 1);
	}
	window_close(&window);
	return NULL;
}

static void *work(void *number) {
	static _Thread_local struct block own[OWN_BLOCKS];
	struct random random = random_for(arguments.seed, (uintptr_t)number);

	for (size_t i = 0; i < arguments.operations; i++) {
		struct block *block = &own[random_below(&random, OWN_BLOCKS)];
		if (random_below(&random, 10) == 0)
			exchange_put(&exchange, &random, block_new(&random));
		else if (block->address)
			block_free(block);
		else
			*block = block_new(&random);
	}
	for (size_t i = 0; i < OWN_BLOCKS; i++) {
		if (own[i].address)
			block_free(&own[i]);
	}
	return NULL;
}

/* Not under a sanitizer: its own malloc may be locked in the child, whose window has a thread. */
static void *fork_now_and_then(void *unused) {
#ifndef ARENAL_TEST_PREFIX
	for (int i = 0; i < FORKS; i++) {
		int status;
		pid_t child = fork();
		if (child == 0) {
			alarm(60);
			struct random random = random_for(arguments.seed, 2000);
			while (window_thread(getpid()) == 0) {
				struct block block = block_new(&random);
				block_free(&block);
			}
			struct window window = open_own();
			_exit(window_ask(&window, SNAPSHOT, "", 0, NULL));
		}
		CHECK(waitpid(child, &status, 0) == child);
		CHECK(status == 0);
	}
#endif
	return unused;
}

int main(int argc, char **argv) {
	pthread_t clients[2], forker;

	arguments = read_arguments(argc, argv);
	free(malloc(1)); /* in builds with a sanitizer, the first */
	for (size_t i = 0; i < 2; i++)
		CHECK(pthread_create(&clients[i], NULL, ask, (void *)i) == 0);
	CHECK(pthread_create(&forker, NULL, fork_now_and_then, NULL) == 0);
	run_threads(arguments.threads, work);
	pthread_join(forker, NULL);
	while (atomic_load(&answers) < 2)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	atomic_store(&over, true);
	for (size_t i = 0; i < 2; i++)
		pthread_join(clients[i], NULL);
	exchange_clear(&exchange);
	return 0;
}
