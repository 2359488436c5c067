/* soak SEED SECONDS THREADS: everything at once, for as long as wanted. THREADS threads make all kinds of calls and hand
 * blocks over to each other, short-lived threads free what others allocated, children are forked and use what they
 * inherited, memory goes back all the time, tunables change. In the end nothing is lost: every block held its contents, and
 * the library counts hardly any as allocated. Further tunables come from the environment. */
#include "stress.h"

#include <arenal/arenal.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stamp.h"

enum { OWN_BLOCKS = 300 };

static struct arguments arguments;
static struct exchange exchange;
static atomic_bool stopped;
static atomic_size_t forks, calls;

/* The calls that block_new does not make. */
static void call_the_rest(struct random *random) {
	size_t size = random_size(random);
	char *blocks[] = { valloc(size), pvalloc(size), memalign(64, size), reallocarray(NULL, 3, size) };

	for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
		CHECK(blocks[i] && malloc_usable_size(blocks[i]) >= size);
		stamp_block(blocks[i], size, i);
	}
	for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
		CHECK(stamp_intact(blocks[i], size, i));
		free(blocks[i]);
	}
}

static void step(struct random *random, struct block *own) {
	struct block *block = &own[random_below(random, OWN_BLOCKS)];
	size_t what = random_below(random, 1000);

	if (what < 10)
		call_the_rest(random);
	else if (what < 200)
		exchange_put(&exchange, random, block_new(random));
	else if (!block->address)
		*block = block_new(random);
	else if (what < 500)
		block_resize(block, random);
	else
		block_free(block);
}

static void *work(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);
	struct block own[OWN_BLOCKS] = { { NULL, 0 } };

	while (!atomic_load_explicit(&stopped, memory_order_relaxed)) {
		for (int i = 0; i < 2000; i++)
			step(&random, own);
		atomic_fetch_add_explicit(&calls, 2000, memory_order_relaxed);
		/* Caches of threads that sleep are emptied from outside. */
		if (random_below(&random, 10) == 0)
			nanosleep(&(struct timespec){ 0, (long)random_below(&random, 30000000) }, NULL);
	}
	for (size_t i = 0; i < OWN_BLOCKS; i++) {
		if (own[i].address)
			block_free(&own[i]);
	}
	return NULL;
}

static void *live_briefly(void *number) {
	struct random random = random_for(arguments.seed + 1, (uintptr_t)number);

	for (int i = 0; i < 200; i++)
		exchange_put(&exchange, &random, block_new(&random));
	return NULL;
}

static void *make_processes_and_threads(void *unused) {
	struct random random = random_for(arguments.seed, 2000);
	struct block inherited = block_new_of_size(&random, 100000);
	uintptr_t number = 0;

	while (!atomic_load(&stopped)) {
		pthread_t thread;
		int status;
		CHECK(pthread_create(&thread, NULL, live_briefly, (void *)number++) == 0);
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			for (int i = 0; i < 300; i++) {
				struct block block = block_new(&random);
				block_free(&block);
			}
			block_free(&inherited);
			malloc_trim(0);
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && status == 0);
		CHECK(pthread_join(thread, NULL) == 0);
		atomic_fetch_add(&forks, 1);
		nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
	}
	block_free(&inherited);
	return unused;
}

static void *purge_and_tune(void *unused) {
	static const struct {
		const char *name;
		int64_t values[2];
	} tunables[] = {
		{ "decay", { 4, 1000 } }, { "lazy_purge", { 0, 1 } }, { "dirty_max", { 0, -1 } }, { "tcache_max", { 65536, 1 << 20 } },
		{ "mmap_threshold", { 65536, 1 << 20 } }, { "memory_limit", { 1, -1 } }, { "thp", { 1, -1 } }, { "background", { 1, 1 } },
	};
	struct random random = random_for(arguments.seed, 1000);

	while (!atomic_load(&stopped)) {
		size_t i = random_below(&random, sizeof tunables / sizeof tunables[0]);
		CHECK(arenal_set(tunables[i].name, tunables[i].values[random_below(&random, 2)]) == 0);
		if (random_below(&random, 2))
			arenal_purge();
		else
			malloc_trim(0);
		nanosleep(&(struct timespec){ 0, 30000000 }, NULL);
	}
	return unused;
}

static struct arenal_stats stats(void) {
	struct arenal_stats stats;

	CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats;
}

int main(int argc, char **argv) {
	pthread_t others[2], threads[64];

	arguments = read_arguments(argc, argv);
	CHECK(arguments.threads <= sizeof threads / sizeof threads[0]);
	size_t before = stats().allocated;
	CHECK(pthread_create(&others[0], NULL, make_processes_and_threads, NULL) == 0);
	CHECK(pthread_create(&others[1], NULL, purge_and_tune, NULL) == 0);
	for (uintptr_t i = 0; i < arguments.threads; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
	for (size_t left = arguments.operations; left > 0;)
		left = sleep((unsigned)left);
	atomic_store(&stopped, true);
	for (size_t i = 0; i < arguments.threads; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (size_t i = 0; i < 2; i++)
		CHECK(pthread_join(others[i], NULL) == 0);
	exchange_clear(&exchange);
	/* What the libc keeps for threads, and the one that purges. */
	struct arenal_stats after = stats();
	printf("%zu calls, %zu forks; %zu bytes allocated before, %zu after\n", atomic_load(&calls), atomic_load(&forks), before,
	       after.allocated);
	CHECK(after.allocated <= before + 65536);
	CHECK(atomic_load(&forks) >= arguments.operations);
	return 0;
}
