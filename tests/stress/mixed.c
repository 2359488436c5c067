/* mixed SEED OPERATIONS THREADS: every thread allocates, resizes and frees blocks of its own, and exchanges blocks with
 * the others, which free or resize them. */
#include "stress.h"

enum { OWN_BLOCKS = 400 };

static struct arguments arguments;
static struct exchange exchange;

static void step(struct random *random, struct block *own) {
	struct block *block = &own[random_below(random, OWN_BLOCKS)];
	size_t what = random_below(random, 10000);

	if (what == 0)
		malloc_trim(0);
	else if (what < 2000)
		exchange_put(&exchange, random, block_new(random));
	else if (!block->address)
		*block = block_new(random);
	else if (what < 5000)
		block_resize(block, random);
	else if (what < 6000)
		block_check(block);
	else
		block_free(block);
}

static void *work(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);
	struct block own[OWN_BLOCKS] = { { NULL, 0 } };

	for (size_t i = 0; i < arguments.operations; i++)
		step(&random, own);
	for (size_t i = 0; i < OWN_BLOCKS; i++) {
		if (own[i].address)
			block_free(&own[i]);
	}
	return NULL;
}

int main(int argc, char **argv) {
	arguments = read_arguments(argc, argv);
	/* Twice: the second crowd finds what the first one left. */
	for (int round = 0; round < 2; round++) {
		run_threads(arguments.threads, work);
		exchange_clear(&exchange);
	}
	return 0;
}
