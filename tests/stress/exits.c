/* exits SEED OPERATIONS THREADS: a process that ends while THREADS threads allocate: by exit() in one of them, after the
 * main thread has left by pthread_exit(). Constructors ran before main, atexit handlers and destructors run afterwards,
 * and all of them allocate, and use what was allocated earlier. */
#include "stress.h"

#include <pthread.h>
#include <unistd.h>

static struct arguments arguments;
static struct exchange exchange;
static struct block early, late;
static struct random exit_random;
static pthread_key_t key;
static atomic_size_t finished;
static int handlers;

__attribute__((constructor(101))) static void allocate_early(void) {
	struct random random = random_for(1, 1);

	early = block_new(&random);
}

/* After all atexit handlers: they are registered later, and so run earlier. */
__attribute__((destructor(101))) static void free_early(void) {
	struct block again = block_new(&exit_random);

	block_free(&again);
	/* What the pattern of early blocks depends on was not set yet. */
	free(early.address);
	if (handlers != 2)
		_exit(3);
}

static void first_handler(void) {
	struct block block = block_new(&exit_random);

	block_resize(&late, &exit_random);
	block_free(&late);
	block_free(&block);
	handlers++;
}

static void second_handler(void) {
	late = block_new(&exit_random);
	exchange_put(&exchange, &exit_random, block_new(&exit_random));
	handlers++;
}

static void allocate_at_thread_exit(void *value) {
	struct random random = random_for(arguments.seed, (uintptr_t)value);

	for (int i = 0; i < 100; i++)
		exchange_put(&exchange, &random, block_new(&random));
}

static void *work(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);

	CHECK(pthread_setspecific(key, (void *)((uintptr_t)number + 1)) == 0);
	for (size_t i = 0; i < arguments.operations; i++)
		exchange_put(&exchange, &random, block_new(&random));
	/* The last but one ends the process, while the last one still runs. */
	if (atomic_fetch_add(&finished, 1) + 2 >= arguments.threads)
		exit(0);
	return NULL;
}

static void *work_for_ever(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);

	for (;;)
		exchange_put(&exchange, &random, block_new(&random));
	return NULL;
}

int main(int argc, char **argv) {
	pthread_t thread;

	arguments = read_arguments(argc, argv);
	CHECK(arguments.threads >= 2);
	exit_random = random_for(arguments.seed, 1000);
	CHECK(early.address);
	CHECK(pthread_key_create(&key, allocate_at_thread_exit) == 0);
	CHECK(pthread_setspecific(key, (void *)(uintptr_t)1000) == 0);
	CHECK(atexit(first_handler) == 0);
	CHECK(atexit(second_handler) == 0);
	for (uintptr_t i = 0; i < arguments.threads; i++) {
		CHECK(pthread_create(&thread, NULL, i == 0 ? work_for_ever : work, (void *)i) == 0);
		CHECK(pthread_detach(thread) == 0);
	}
	pthread_exit(NULL);
}
