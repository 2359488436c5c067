/* Prints, one "name=value" a line, the tunables as the library took them from the environment, and what their effect is
 * on a small workload. For tunables.c. */
#include <arenal/arenal.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const char *const tunables[] = {
	"arena_max", "tcache_max", "mmap_threshold", "trim_threshold", "top_pad", "dirty_max", "memory_limit", "cap", "names", "lazy_purge", "thp",
	"guard_sample", "window", "stats", "misuse", "misuse_size", "misuse_family",
	"profile_seconds", "profile_bytes", "profile_growth", "profile_signal", "profile_term", "profile_keep",
};

static struct arenal_stats stats_now(void) {
	struct arenal_stats stats;

	if (arenal_stats_get(&stats, sizeof stats) != 0)
		abort();
	return stats;
}

static void *must_malloc(size_t size) {
	void *block = malloc(size);

	if (!block)
		abort();
	return block;
}

static void show(const char *name, size_t value) {
	printf("%s=%zu\n", name, value);
}

/* Is a block of 1 MiB mapped on its own? */
static void show_mapping(void) {
	void *block = must_malloc(1 << 20);

	show("huge_blocks", stats_now().huge_blocks);
	free(block);
}

/* What the main heap keeps when 32 MB were in use and are free again. Blocks that no thread cache holds back. */
static void show_heap(void) {
	static void *blocks[54];

	show("brk_at_first", stats_now().brk_bytes);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		blocks[i] = must_malloc(600000);
	show("brk_full", stats_now().brk_bytes);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
	show("brk_freed", stats_now().brk_bytes);
	show("dirty", stats_now().dirty);
}

static void show_cache(void) {
	static void *blocks[1000];

	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		blocks[i] = must_malloc(100);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
	show("cached", stats_now().cached);
}

static pthread_barrier_t barrier;

static void *allocate_and_wait(void *argument) {
	(void)argument;
	void *block = must_malloc(100);

	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	free(block);
	return NULL;
}

/* How many arenas do nine threads use? */
static void show_arenas(void) {
	pthread_t threads[8];

	pthread_barrier_init(&barrier, NULL, COUNT_OF(threads) + 1);
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		if (pthread_create(&threads[i], NULL, allocate_and_wait, NULL) != 0)
			abort();
	}
	pthread_barrier_wait(&barrier);
	show("arenas", stats_now().arenas);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		pthread_join(threads[i], NULL);
}

int main(void) {
	show("secure", getauxval(AT_SECURE));
	for (size_t i = 0; i < COUNT_OF(tunables); i++) {
		int64_t value;
		if (arenal_get(tunables[i], &value) != 0)
			abort();
		printf("%s=%lld\n", tunables[i], (long long)value);
	}
	show_heap();
	show_mapping();
	show_cache();
	show_arenas();
	return 0;
}
