/* pipeline SEED OPERATIONS THREADS: half of the threads only allocate, the other half only resize and free, as the stages
 * of a server do; the blocks pass through one queue. What the consumers free must come back to the producers: the memory
 * of the process stays in proportion to what is in the queue. */
#include "stress.h"

#include <pthread.h>
#include <unistd.h>

enum { CAPACITY = 2000 };

static struct arguments arguments;
static size_t pairs;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t not_empty, not_full;
	struct block blocks[CAPACITY];
	size_t head, count;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .not_empty = PTHREAD_COND_INITIALIZER,
            .not_full = PTHREAD_COND_INITIALIZER };

static void push(struct block block) {
	pthread_mutex_lock(&queue.lock);
	while (queue.count == CAPACITY)
		pthread_cond_wait(&queue.not_full, &queue.lock);
	queue.blocks[(queue.head + queue.count++) % CAPACITY] = block;
	pthread_cond_signal(&queue.not_empty);
	pthread_mutex_unlock(&queue.lock);
}

static struct block pop(void) {
	pthread_mutex_lock(&queue.lock);
	while (queue.count == 0)
		pthread_cond_wait(&queue.not_empty, &queue.lock);
	struct block block = queue.blocks[queue.head];
	queue.head = (queue.head + 1) % CAPACITY;
	queue.count--;
	pthread_cond_signal(&queue.not_full);
	pthread_mutex_unlock(&queue.lock);
	return block;
}

static void produce(struct random *random) {
	for (size_t i = 0; i < arguments.operations; i++)
		push(block_new(random));
}

static void consume(struct random *random) {
	for (size_t i = 0; i < arguments.operations; i++) {
		struct block block = pop();
		if (random_below(random, 8) == 0)
			block_resize(&block, random);
		block_free(&block);
	}
}

static void *work(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);

	if ((uintptr_t)number < pairs)
		produce(&random);
	else
		consume(&random);
	return NULL;
}

static size_t resident_mib(void) {
	unsigned long total = 0, resident = 0;
	FILE *statm = fopen("/proc/self/statm", "r");

	CHECK(statm && fscanf(statm, "%lu %lu", &total, &resident) == 2);
	fclose(statm);
	return resident * (size_t)sysconf(_SC_PAGESIZE) >> 20;
}

int main(int argc, char **argv) {
	arguments = read_arguments(argc, argv);
	pairs = (arguments.threads + 1) / 2;
	run_threads(2 * pairs, work);
#ifndef ARENAL_TEST_PREFIX
	/* The queue holds some 15 MiB when it is full; a sanitizer's own records would count as well. */
	if (resident_mib() > 128)
		fail("%zu MiB are resident at the end", resident_mib());
#else
	(void)resident_mib;
#endif
	return 0;
}
