/* purges SEED OPERATIONS THREADS: every thread builds groups of blocks of one size and frees most of each, so that spans get
 * holes and slices become free, while memory goes back to the kernel all the time: by itself, every millisecond, and by one
 * more thread that asks for it in a loop. Blocks that live on keep their contents, calloc's are zero, and memory really was
 * purged. OPERATIONS: groups of each thread.
 *
 * With the fault shim, madvise fails at random meanwhile: see tests/faults/fault_shim.h. */
#include "stress.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "../faults/fault_shim.h"
#include "stamp.h"

enum { GROUPS = 12, BLOCKS = 400, SURVIVORS = 8, GROUP_BYTES = 400000 };

static struct arguments arguments;
static struct exchange exchange;
static atomic_bool stopped;

/* What is left of a group of equal blocks. */
struct group {
	struct block survivors[SURVIVORS];
};

static void group_free(struct group *group) {
	for (size_t i = 0; i < SURVIVORS; i++) {
		if (group->survivors[i].address)
			block_free(&group->survivors[i]);
	}
}

/* A group of small blocks; a few of them, anywhere, survive, others go to other threads. */
static void group_fill(struct group *group, struct random *random) {
	struct block blocks[BLOCKS];
	size_t size = 16 + random_below(random, (size_t)32 << random_below(random, 11));
	size_t count = GROUP_BYTES / size < BLOCKS ? GROUP_BYTES / size : BLOCKS;

	for (size_t i = 0; i < count; i++)
		blocks[i] = block_new_of_size(random, size);
	for (size_t i = 0; i < SURVIVORS; i++) {
		struct block *survivor = &blocks[random_below(random, count)];
		if (survivor->address)
			group->survivors[i] = *survivor;
		survivor->address = NULL;
	}
	for (size_t i = 0; i < count; i++) {
		if (blocks[i].address && random_below(random, 16) == 0)
			exchange_put(&exchange, random, blocks[i]);
		else if (blocks[i].address)
			block_free(&blocks[i]);
	}
}

/* Whole slices and mappings, which calloc need not clear when the kernel has done so. */
static void use_cleared_block(struct random *random) {
	size_t size = random_below(random, 30) ? 33000 + random_below(random, 900000) : random_below(random, 4000000) + 1;
	struct block block = block_new_of_size(random, size);
	unsigned char *cleared = calloc(1, size);

	CHECK(cleared && holds_only(cleared, size, 0));
	memset(cleared, 0xa5, size);
	free(cleared);
	if (random_below(random, 2))
		block_resize(&block, random);
	if (random_below(random, 4) == 0)
		exchange_put(&exchange, random, block);
	else
		block_free(&block);
}

static void *work(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);
	struct group groups[GROUPS] = { 0 };

	for (size_t i = 0; i < arguments.operations; i++) {
		struct group *group = &groups[random_below(&random, GROUPS)];
		group_free(group);
		group_fill(group, &random);
		use_cleared_block(&random);
		/* Idle for a moment now and then: only then spans and caches are. */
		if (random_below(&random, 4) == 0)
			nanosleep(&(struct timespec){ 0, (long)random_below(&random, 10000000) }, NULL);
	}
	for (size_t i = 0; i < GROUPS; i++)
		group_free(&groups[i]);
	return NULL;
}

static void *purge_all_the_time(void *unused) {
	struct random random = random_for(arguments.seed, 1000);
	int nowhere = open("/dev/null", O_WRONLY);

	while (!atomic_load(&stopped)) {
		switch (random_below(&random, 3)) {
		case 0: arenal_purge(); break;
		case 1: malloc_trim(random_below(&random, 100000)); break;
		case 2: CHECK(arenal_stats_print(nowhere) == 0); break; /* looks at everything, too */
		}
		nanosleep(&(struct timespec){ 0, (long)random_below(&random, 20000000) }, NULL);
	}
	close(nowhere);
	return unused;
}

static uint64_t purged_bytes(void) {
	struct arenal_stats stats;

	CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats.purged_total;
}

/* With the shim: madvise was called, and failed, for many times. */
static void check_faults(void) {
	fault_count_function *calls = (fault_count_function *)dlsym(RTLD_DEFAULT, "fault_calls");
	fault_count_function *faults = (fault_count_function *)dlsym(RTLD_DEFAULT, "fault_count");

	if (!getenv("FAULT_RATE"))
		return;
	CHECK(calls && faults);
	if (faults() < arguments.operations || calls() < 2 * faults())
		fail("madvise was called %zu times and failed %zu times", calls(), faults());
}

int main(int argc, char **argv) {
	pthread_t purging;

	arguments = read_arguments(argc, argv);
	CHECK(arenal_set("decay", 4) == 0);
	uint64_t before = purged_bytes();
	CHECK(pthread_create(&purging, NULL, purge_all_the_time, NULL) == 0);
	run_threads(arguments.threads, work);
	atomic_store(&stopped, true);
	CHECK(pthread_join(purging, NULL) == 0);
	exchange_clear(&exchange);
	/* Twice what the break and the mappings come to without any madvise. */
	uint64_t purged = purged_bytes() - before, expected = arguments.threads * arguments.operations * GROUP_BYTES / 5 * 2;
	if (purged < expected)
		fail("only %llu bytes were purged, not %llu", (unsigned long long)purged, (unsigned long long)expected);
	check_faults();
	return 0;
}
