/* What the child finds of the threads that it does not have, and of what these were doing; and that
 * children of one parent do not choose alike. */
#include "forks.h"
#include "stamp.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what the child finds ---- */

static atomic_bool stopped;
static pthread_barrier_t ready;

/* Leaves its cache full: magazines, kept runs and, in hardened mode, a quarantine. */
static void *fill_a_cache(void *unused) {
	void *blocks[300];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT_OF(blocks); i++) {
			blocks[i] = malloc(100 + i % 3 * 200);
			CHILD_CHECK(blocks[i]);
			memset(blocks[i], 1, 100);
		}
		for (size_t i = 0; i < COUNT_OF(blocks); i++)
			free(blocks[i]);
	}
	free(malloc(100 * KIB));
	pthread_barrier_wait(&ready);
	while (!atomic_load(&stopped))
		usleep(1000);
	return unused;
}

enum { FILLERS = 6 };

/* Takes slow paths of free, in hardened mode, too. */
static void give_blocks_back(void) {
	void *blocks[400];

	free(malloc(5 * MIB));
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(40);
		CHILD_CHECK(blocks[i]);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
}

/* All of it is cached in the child, too, and goes back: at once when the child asks for it, in a while
 * when not. */
static void check_orphans(size_t allocated, size_t cached, bool at_once) {
	struct arenal_stats now = stats();

	CHILD_CHECK(now.allocated == allocated);
	CHILD_CHECK(now.cached >= cached);
	for (int i = 0; i < 30000 && now.cached > cached / 8; i++) {
		if (at_once) {
			malloc_trim(0);
		} else {
			give_blocks_back();
			usleep(1000);
		}
		now = stats();
		CHILD_CHECK(!at_once || now.cached <= cached / 8);
	}
	CHILD_CHECK(now.cached <= cached / 8);
	CHILD_CHECK(now.allocated == allocated);
}

void caches_of_others(void) {
	pthread_t threads[FILLERS];

	CHILD_CHECK(pthread_barrier_init(&ready, NULL, FILLERS + 1) == 0);
	for (int i = 0; i < FILLERS; i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, fill_a_cache, NULL) == 0);
	pthread_barrier_wait(&ready);
	struct arenal_stats before = stats();
	CHILD_CHECK(before.cached > FILLERS * 100 * KIB);
	for (int at_once = 0; at_once < 2; at_once++) {
		pid_t child = fork();
		if (child == 0) {
			/* And in its own child, before and after. */
			pid_t grandchild = fork();
			if (grandchild > 0)
				expect_success(grandchild);
			check_orphans(before.allocated, FILLERS * 100 * KIB, at_once);
			allocate_in_another_thread();
			_exit(0);
		}
		expect_success(child);
	}
	atomic_store(&stopped, true);
	for (int i = 0; i < FILLERS; i++)
		CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
}

enum { LARGE_BLOCKS = 8 };
static char *large_blocks[LARGE_BLOCKS];

static void *resize_large_blocks(void *unused) {
	for (size_t i = 0; !atomic_load(&stopped); i++) {
		char **block = &large_blocks[i % LARGE_BLOCKS];
		*block = realloc(*block, (i % 3 + 2) * 3 * MIB);
		CHILD_CHECK(*block);
		stamp_block(*block, 64, 7);
	}
	return unused;
}

static void *free_and_trim(void *unused) {
	while (!atomic_load(&stopped)) {
		char *blocks[20];
		for (size_t i = 0; i < COUNT_OF(blocks); i++) {
			blocks[i] = malloc(i % 2 ? 300 * KIB : 3 * MIB);
			CHILD_CHECK(blocks[i]);
			memset(blocks[i], 1, 200 * KIB);
		}
		for (size_t i = 0; i < COUNT_OF(blocks); i++)
			free(blocks[i]);
		malloc_trim(0);
	}
	return unused;
}

/* Threads resize, unmap and purge without a pause. No child finds anything in the middle. */
void work_of_others(void) {
	pthread_t resizer, trimmers[2];

	for (size_t i = 0; i < LARGE_BLOCKS; i++) {
		large_blocks[i] = malloc(6 * MIB);
		CHILD_CHECK(large_blocks[i]);
	}
	CHILD_CHECK(pthread_create(&resizer, NULL, resize_large_blocks, NULL) == 0);
	for (size_t i = 0; i < COUNT_OF(trimmers); i++)
		CHILD_CHECK(pthread_create(&trimmers[i], NULL, free_and_trim, NULL) == 0);
	for (int i = 0; i < 150; i++) {
		pid_t child = fork();
		if (child == 0) {
			malloc_trim(0);
			struct arenal_stats now = stats();
			/* The others may have had theirs. */
			CHILD_CHECK(now.huge_blocks >= LARGE_BLOCKS && now.huge_blocks <= LARGE_BLOCKS + 2 * 20);
			CHILD_CHECK(now.dirty == 0);
			_exit(0);
		}
		expect_success(child);
	}
	atomic_store(&stopped, true);
	CHILD_CHECK(pthread_join(resizer, NULL) == 0);
	for (size_t i = 0; i < COUNT_OF(trimmers); i++)
		CHILD_CHECK(pthread_join(trimmers[i], NULL) == 0);
}

static void *take_guarded_blocks(void *unused) {
	while (!atomic_load(&stopped))
		free(malloc(64));
	return unused;
}

/* All allocations are guarded, as many as there may be at one time. */
void guarded_slots_of_others(void) {
	enum { SLOTS = 96, TAKERS = 2 };
	pthread_t takers[TAKERS];

	free(malloc(64));
	if (stats().guarded_total == 0)
		return; /* hardened, or not guarded at all */
	for (int i = 0; i < TAKERS; i++)
		CHILD_CHECK(pthread_create(&takers[i], NULL, take_guarded_blocks, NULL) == 0);
	for (int i = 0; i < 100; i++) {
		pid_t child = fork();
		if (child == 0) {
			for (int n = 0; n < 2 * SLOTS; n++)
				CHILD_CHECK(malloc(64));
			CHILD_CHECK(stats().guarded == SLOTS);
			_exit(0);
		}
		expect_success(child);
	}
	atomic_store(&stopped, true);
	for (int i = 0; i < TAKERS; i++)
		CHILD_CHECK(pthread_join(takers[i], NULL) == 0);
}

/* Each page that one of two processes writes to after a fork is copied. Nobody's fork may copy one for each
 * thread, or for each arena. */
enum { PAGES_THREADS = 300, PAGES_ROUNDS = 3 };

static pthread_barrier_t counted;

/* It sleeps all the time: who runs after a fork writes to a page of its own stack, and that is copied. */
static void *hold_a_cache(void *unused) {
	allocate();
	pthread_barrier_wait(&ready);
	pthread_barrier_wait(&counted);
	return unused;
}

static long page_faults(void) {
	struct rusage usage;

	CHILD_CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
	return usage.ru_minflt;
}

void pages_of_others(void) {
	static pthread_t threads[PAGES_THREADS];
	pthread_attr_t small;
	long most = 0;

	CHILD_CHECK(pthread_attr_init(&small) == 0);
	CHILD_CHECK(pthread_attr_setstacksize(&small, 128 * KIB) == 0);
	CHILD_CHECK(pthread_barrier_init(&ready, NULL, PAGES_THREADS + 1) == 0);
	CHILD_CHECK(pthread_barrier_init(&counted, NULL, PAGES_THREADS + 1) == 0);
	for (int i = 0; i < PAGES_THREADS; i++)
		CHILD_CHECK(pthread_create(&threads[i], &small, hold_a_cache, NULL) == 0);
	pthread_barrier_wait(&ready);
	CHILD_CHECK(stats().threads >= PAGES_THREADS && stats().arenas >= 64);
	for (int i = 0; i < PAGES_ROUNDS; i++) {
		const long before = page_faults();
		pid_t child = fork();
		if (child == 0) {
			/* libc itself writes to a page of each thread's in the child: its stack is free. */
			free(malloc(100));
			CHILD_CHECK(page_faults() < PAGES_THREADS + 96);
			_exit(0);
		}
		const long faults = page_faults() - before;
		if (i == 0 || faults < most)
			most = faults;
		expect_success(child);
	}
	/* Our own threads may have had some meanwhile. */
	CHILD_CHECK(most < 64);
	pthread_barrier_wait(&counted);
	for (int i = 0; i < PAGES_THREADS; i++)
		CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
}

/* ---- chance ---- */

enum { CHILDREN = 4, BLOCKS = 2000, CHOICES = 2 * BLOCKS };
static uintptr_t *choices; /* shared: of each child, where its blocks were */

static void choose(uintptr_t *out) {
	/* Twice, for a child that no handler tells looks now and then only. */
	for (int round = 0; round < 2; round++, out += BLOCKS) {
		for (int i = 0; i < BLOCKS; i++) {
			out[i] = (uintptr_t)malloc(208);
			CHILD_CHECK(out[i]);
		}
		for (int i = 0; i < BLOCKS; i++)
			free((void *)out[i]);
	}
}

/* The children of one parent, from the same moment on. */
static void children_choose(pid_t (*make_child)(void)) {
	choices = mmap(NULL, CHILDREN * CHOICES * sizeof *choices, PROT_READ | PROT_WRITE,
	               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHILD_CHECK(choices != MAP_FAILED);
	/* Hardened blocks are chosen in spans that are there already. Which one is guarded is known when new
	 * ones are fetched. */
	free(malloc(208));
	if (getenv("ARENAL_HARDEN"))
		choose(choices);
	for (int i = 0; i < CHILDREN; i++) {
		pid_t child = make_child();
		if (child == 0) {
			choose(choices + i * CHOICES);
			_exit(0);
		}
		expect_success(child);
	}
	for (int i = 1; i < CHILDREN; i++)
		CHILD_CHECK(memcmp(choices, choices + i * CHOICES, CHOICES * sizeof *choices) != 0);
}

void children_choose_by_chance(void) {
	children_choose(fork);
}

void children_without_handlers_choose_by_chance(void) {
	children_choose(fork_silently);
}
