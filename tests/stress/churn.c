/* churn SEED OPERATIONS THREADS: OPERATIONS short threads, THREADS of them at a time. Each leaves blocks behind for
 * others, and allocates in the destructors of its thread-specific data, which run while the thread is being taken apart
 * and again when a destructor sets its key anew. Every fourth one is detached. */
#include "stress.h"

#include <limits.h>
#include <pthread.h>

/* ThreadSanitizer takes its own records of a thread apart in the last round. */
#ifdef UNDER_TSAN
#define ROUNDS (PTHREAD_DESTRUCTOR_ITERATIONS - 1)
#else
#define ROUNDS PTHREAD_DESTRUCTOR_ITERATIONS
#endif

enum { KEYS = 4, BLOCKS = 16 };

static struct arguments arguments;
static struct exchange exchange;
static pthread_key_t keys[KEYS];

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t detached; /* threads that have not ended yet */
} running = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* What a key holds: a block, and the rounds of destruction it has seen. */
struct remains {
	struct block block;
	struct random random;
	pthread_key_t key;
	int rounds;
	bool detached; /* the last destructor reports the end of the thread */
};

static void report_end(void) {
	pthread_mutex_lock(&running.lock);
	running.detached--;
	pthread_cond_signal(&running.changed);
	pthread_mutex_unlock(&running.lock);
}

static void destroy(void *value) {
	struct remains *remains = value;

	block_resize(&remains->block, &remains->random);
	struct block other = block_new(&remains->random);
	exchange_put(&exchange, &remains->random, block_new(&remains->random));
	block_free(&other);
	if (++remains->rounds < ROUNDS) {
		CHECK(pthread_setspecific(remains->key, remains) == 0);
		return;
	}
	bool detached = remains->detached;
	block_free(&remains->block);
	free(remains);
	if (detached)
		report_end();
}

static void *live_shortly(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);
	bool detached = (uintptr_t)number % 4 == 3;
	struct block blocks[BLOCKS];

	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = block_new(&random);
	for (size_t k = 0; k < KEYS; k++) {
		struct remains *remains = malloc(sizeof *remains);
		CHECK(remains);
		*remains = (struct remains){
			.block = block_new(&random),
			.random = random_for(arguments.seed + k + 1, (uintptr_t)number),
			.key = keys[k],
			.detached = detached && k == KEYS - 1,
		};
		CHECK(pthread_setspecific(keys[k], remains) == 0);
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		if (i % 2)
			block_free(&blocks[i]);
		else
			exchange_put(&exchange, &random, blocks[i]);
	}
	return NULL;
}

static void start_detached(uintptr_t number) {
	pthread_t thread;

	pthread_mutex_lock(&running.lock);
	running.detached++;
	pthread_mutex_unlock(&running.lock);
	CHECK(pthread_create(&thread, NULL, live_shortly, (void *)number) == 0);
	CHECK(pthread_detach(thread) == 0);
}

static void wait_for_detached(void) {
	pthread_mutex_lock(&running.lock);
	while (running.detached > 0)
		pthread_cond_wait(&running.changed, &running.lock);
	pthread_mutex_unlock(&running.lock);
}

static void run_wave(uintptr_t first) {
	pthread_t *threads = calloc(arguments.threads, sizeof *threads);
	size_t joinable = 0;

	CHECK(threads);
	for (uintptr_t number = first; number < first + arguments.threads; number++) {
		if (number % 4 == 3)
			start_detached(number);
		else
			CHECK(pthread_create(&threads[joinable++], NULL, live_shortly, (void *)number) == 0);
	}
	for (size_t i = 0; i < joinable; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	wait_for_detached();
	free(threads);
}

int main(int argc, char **argv) {
	arguments = read_arguments(argc, argv);
	for (size_t k = 0; k < KEYS; k++)
		CHECK(pthread_key_create(&keys[k], destroy) == 0);
	for (size_t started = 0; started < arguments.operations; started += arguments.threads)
		run_wave(started);
	exchange_clear(&exchange);
	return 0;
}
