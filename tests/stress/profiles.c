/* profiles SEED OPERATIONS THREADS: threads allocate, free and hand blocks to each other, while one more starts the heap profile
 * with different means, stops it and dumps it, in any order. Blocks keep their contents; and when all are freed, a profile that
 * sampled each of them since its start knows of none that lives. */
#include "stress.h"

#include <arenal/arenal.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 200, ROUNDS_MIN = 20 };

static struct arguments arguments;
static struct exchange exchange;
static atomic_bool stopped;
static size_t rounds;

static void *work(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);
	struct block blocks[BLOCKS] = { 0 };

	for (size_t i = 0; i < arguments.operations; i++) {
		struct block *block = &blocks[random_below(&random, BLOCKS)];
		if (!block->address) {
			*block = random_below(&random, 64) ? block_new_of_size(&random, 1 + random_below(&random, 2000)) : block_new(&random);
		} else if (random_below(&random, 8) == 0) {
			block_resize(block, &random);
		} else if (random_below(&random, 8) == 0) {
			exchange_put(&exchange, &random, *block);
			block->address = NULL;
		} else {
			block_free(block);
			block->address = NULL;
		}
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		if (blocks[i].address)
			block_free(&blocks[i]);
	}
	return NULL;
}

static void *steer(void *unused) {
	static const size_t means[] = { 1, 100, 5000, 0 };
	struct random random = random_for(arguments.seed, 1000);
	int nowhere = open("/dev/null", O_WRONLY);

	while (!atomic_load(&stopped) || rounds < ROUNDS_MIN) {
		switch (random_below(&random, 4)) {
		case 0: arenal_profile_stop(); break;
		case 1: CHECK(arenal_profile_dump(nowhere) == 0); break;
		default: CHECK(arenal_profile_start(means[random_below(&random, 4)]) == 0);
		}
		rounds++;
		nanosleep(&(struct timespec){ 0, (long)random_below(&random, 4000000) }, NULL);
	}
	close(nowhere);
	return unused;
}

/* Bytes that live, by all stacks of the dump. */
static unsigned long live_bytes(void) {
	unsigned long sum = 0, blocks, bytes;
	char line[4096];
	FILE *file = tmpfile();

	CHECK(file && arenal_profile_dump(fileno(file)) == 0);
	rewind(file);
	while (fgets(line, sizeof line, file)) {
		if (sscanf(line, "stack %lu %lu", &blocks, &bytes) == 2)
			sum += bytes;
	}
	fclose(file);
	return sum;
}

int main(int argc, char **argv) {
	pthread_t steering;

	arguments = read_arguments(argc, argv);
	CHECK(pthread_create(&steering, NULL, steer, NULL) == 0);
	run_threads(arguments.threads, work);
	atomic_store(&stopped, true);
	CHECK(pthread_join(steering, NULL) == 0);
	exchange_clear(&exchange);

	/* Libc keeps something of each thread that it starts: what that comes to is known after the first time. */
	CHECK(arenal_profile_start(1) == 0);
	arguments.operations /= 8;
	run_threads(arguments.threads, work);
	exchange_clear(&exchange);
	arenal_profile_stop();
	if (live_bytes() > 100000)
		fail("%lu bytes are counted as in use, but all were freed", live_bytes());
	return 0;
}
