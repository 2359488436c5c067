/* naps SEED OPERATIONS THREADS: every thread works for a moment and naps for a moment, again and again. With ARENAL_DECAY
 * so short that the purger looks each millisecond, it empties caches, purges pages inside spans and gives slices back
 * just when the threads wake up and want them again. OPERATIONS: naps of each thread. */
#include "stress.h"

#include <time.h>

enum { OWN_BLOCKS = 6000, STEPS = 1500 };

static struct arguments arguments;
static struct exchange exchange;

/* Mostly small: so that many blocks share a page. */
static struct block some_block(struct random *random) {
	return random_below(random, 20) == 0 ? block_new(random)
	                                     : block_new_of_size(random, 16 + random_below(random, 1500));
}

static void step(struct random *random, struct block *own, bool grow) {
	struct block *block = &own[random_below(random, OWN_BLOCKS)];

	if (random_below(random, 10) == 0)
		exchange_put(&exchange, random, some_block(random));
	else if (!block->address && (grow || random_below(random, 4) == 0))
		*block = some_block(random);
	else if (block->address && (!grow || random_below(random, 4) == 0))
		block_free(block);
}

static void *work(void *number) {
	static _Thread_local struct block own[OWN_BLOCKS];
	struct random random = random_for(arguments.seed, (uintptr_t)number);

	for (size_t nap = 0; nap < arguments.operations; nap++) {
		for (int i = 0; i < STEPS; i++)
			step(&random, own, nap % 2 == 0);
		nanosleep(&(struct timespec){ 0, (long)random_below(&random, 8000000) }, NULL);
	}
	for (size_t i = 0; i < OWN_BLOCKS; i++) {
		if (own[i].address)
			block_free(&own[i]);
	}
	return NULL;
}

int main(int argc, char **argv) {
	arguments = read_arguments(argc, argv);
	run_threads(arguments.threads, work);
	exchange_clear(&exchange);
	return 0;
}
