/* A program whose memory tools/arenal is tested with: it takes memory of every kind, says "ready", and stays as it is
 * until its standard input ends.
 *
 *   workload MAIN_MIB THREADS THREAD_MIB HUGE_MIB [churn]
 *
 * The main thread takes MAIN_MIB in small blocks, each thread THREAD_MIB in blocks of 48 KiB, all of it touched; then one
 * block of HUGE_MIB, of which the first half is touched. With "churn", the threads free and take blocks of all sizes
 * without end instead of staying as they are. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static size_t thread_bytes;
static int churn;
static pthread_barrier_t all_ready;

static void *touched_block(size_t size) {
	void *block = malloc(size);
	if (!block) {
		fputs("workload: out of memory\n", stderr);
		exit(3);
	}
	return memset(block, 1, size);
}

static void take(size_t bytes, size_t block_size) {
	for (size_t taken = 0; taken < bytes; taken += block_size)
		touched_block(block_size); /* kept until the process ends */
}

static void *thread_main(void *seed) {
	unsigned state = (unsigned)(size_t)seed;
	take(thread_bytes, 48 << 10);
	pthread_barrier_wait(&all_ready);
	void *blocks[64] = {0};
	while (churn) {
		void **block = &blocks[rand_r(&state) % 64];
		free(*block);
		/* Up to 16 MiB in small steps, sometimes huge: regions and huge blocks come and go. */
		size_t size = rand_r(&state) % 50 ? (size_t)1 << (4 + rand_r(&state) % 20) : 80 * MIB;
		*block = malloc(size);
	}
	pause(); /* until the process ends */
	return NULL;
}

int main(int argc, char **argv) {
	if (argc < 5) {
		fputs("usage: workload MAIN_MIB THREADS THREAD_MIB HUGE_MIB [churn]\n", stderr);
		return 2;
	}
	size_t huge = strtoul(argv[4], NULL, 10) * MIB;
	unsigned threads = strtoul(argv[2], NULL, 10);
	thread_bytes = strtoul(argv[3], NULL, 10) * MIB;
	churn = argc > 5 && !strcmp(argv[5], "churn");

	take(strtoul(argv[1], NULL, 10) * MIB, 400);
	pthread_barrier_init(&all_ready, NULL, threads + 1);
	for (unsigned i = 0; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, thread_main, (void *)(size_t)(i + 1)))
			return 3;
	}
	pthread_barrier_wait(&all_ready);
	if (huge) {
		char *block = malloc(huge);
		if (!block)
			return 3;
		memset(block, 1, huge / 2);
		*(volatile char *)block = 2; /* the compiler must not drop the block */
	}
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		return 3;
	char byte;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
