/* arenal_purge and malloc_trim, which take from every thread's cache, and lazy_purge. Each test in a process of its own,
 * where nobody purges in the background. */
#include "support.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stamp.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct arenal_stats stats_now(void) {
	struct arenal_stats stats;

	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats;
}

/* ---- what other threads have in their caches ---- */

enum { THREADS = 8, CLASSES = 24, KEPT_RUN = 200000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static size_t asleep, round_of_work;

static size_t size_of(size_t class) {
	return (KIB << class / 5) + class % 5 * (KIB << class / 5) / 5;
}

static void use_many_sizes(void) {
	for (size_t class = 0; class < CLASSES; class++) {
		void *blocks[64];
		size_t size = size_of(class), count = 64 * KIB / size;

		for (size_t i = 0; i < count; i++) {
			blocks[i] = malloc(size);
			CHILD_CHECK(blocks[i]);
			stamp_block(blocks[i], size, class);
		}
		for (size_t i = 0; i < count; i++) {
			CHILD_CHECK(stamp_intact(blocks[i], size, class));
			free(blocks[i]);
		}
	}
	void *run = malloc(KEPT_RUN);
	CHILD_CHECK(run);
	memset(run, 1, KEPT_RUN);
	free(run);
}

/* Fills its cache and sleeps, twice. */
static void *fill_cache_and_sleep(void *unused) {
	for (size_t round = 0; round < 2; round++) {
		use_many_sizes();
		pthread_mutex_lock(&lock);
		asleep++;
		pthread_cond_broadcast(&changed);
		while (round_of_work == round)
			pthread_cond_wait(&changed, &lock);
		pthread_mutex_unlock(&lock);
	}
	return unused;
}

static void wait_until_asleep(size_t count) {
	pthread_mutex_lock(&lock);
	while (asleep < count)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static void wake_them(void) {
	pthread_mutex_lock(&lock);
	round_of_work++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void arenal_purge_once(void) {
	CHILD_CHECK(arenal_purge() > 0);
}

static void malloc_trim_once(void) {
	CHILD_CHECK(malloc_trim(0) == 1);
}

/* What is in all caches after purge(), and by how much the process became smaller. */
static void purge_between_naps(void (*purge)(void), bool works) {
	pthread_t threads[THREADS];

	CHILD_CHECK(arenal_set("background", 0) == 0);
	for (size_t i = 0; i < THREADS; i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, fill_cache_and_sleep, NULL) == 0);
	for (size_t round = 0; round < 2; round++) {
		wait_until_asleep((round + 1) * THREADS);
		size_t cached = stats_now().cached, resident = resident_bytes();
		CHILD_CHECK(cached > 5 * MIB); /* in magazines alone: how many runs are kept is another test's */
		purge();
		/* One block of each magazine stays. */
		size_t left = 0;
		for (size_t class = 0; class < CLASSES; class++)
			left += THREADS * size_of(class);
		if (works)
			CHILD_CHECK(stats_now().cached < left * 5 / 4);
		else
			CHILD_CHECK(stats_now().cached > cached - THREADS * 4 * 64 * KIB - MIB);
		if (works)
			CHILD_CHECK(resident_bytes() + (cached - left) / 4 * 3 < resident);
		wake_them();
	}
	for (size_t i = 0; i < THREADS; i++)
		CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
	purge();
}

static void purge_them(void *purge) {
	purge_between_naps((void (*)(void))purge, true);
}

static void caches_of_sleeping_threads_are_emptied(void **state) {
	(void)state;
	assert_int_equal(run_in_child(purge_them, arenal_purge_once), 0);
	assert_int_equal(run_in_child(purge_them, malloc_trim_once), 0);
}

static void forbid_membarrier(void) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	filter_calls(filter, COUNT_OF(filter));
	CHILD_CHECK(syscall(SYS_membarrier, 0, 0, 0) == -1 && errno == ENOSYS);
}

static void purge_without_membarrier(void *unused) {
	(void)unused;
	forbid_membarrier();
	purge_between_naps(arenal_purge_once, false);
}

static void magazines_stay_where_membarrier_is_not_offered(void **state) {
	(void)state;
	assert_int_equal(run_in_child(purge_without_membarrier, NULL), 0);
}

/* ---- lazy_purge ---- */

/* Runs that no thread keeps, 48 MiB together, and small blocks, as many. */
enum { RUNS = 80, RUN = 600000, SMALL_BLOCKS = 48000, SMALL = 1000 };
#define ALL_RUNS ((size_t)RUNS * RUN)

/* Bytes that the kernel may take when it needs some. */
static size_t lazy_bytes(void) {
	char text[4096];
	int file = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t length = read(file, text, sizeof text - 1);

	close(file);
	CHILD_CHECK(length > 0);
	text[length] = '\0';
	const char *line = strstr(text, "LazyFree:");
	CHILD_CHECK(line);
	return strtoul(line + strlen("LazyFree:"), NULL, 10) * KIB;
}

static void purge_all_at_once(int lazily) {
	CHILD_CHECK(arenal_set("background", 0) == 0);
	CHILD_CHECK(arenal_set("trim_threshold", -1) == 0);
	CHILD_CHECK(arenal_set("dirty_max", 0) == 0);
	CHILD_CHECK(arenal_set("lazy_purge", lazily) == 0);
}

static void use_runs(void) {
	static unsigned char *runs[RUNS];

	for (size_t i = 0; i < RUNS; i++) {
		runs[i] = calloc(1, RUN);
		CHILD_CHECK(runs[i] && holds_only(runs[i], RUN, 0));
		memset(runs[i], 0xee, RUN);
	}
	for (size_t i = 0; i < RUNS; i++)
		free(runs[i]);
}

static void purge_runs_lazily(void *unused) {
	(void)unused;
	size_t before = resident_bytes();

	purge_all_at_once(1);
	use_runs();
	CHILD_CHECK(stats_now().dirty < MIB);
	CHILD_CHECK(stats_now().purged_total > ALL_RUNS / 4 * 3);
	CHILD_CHECK(lazy_bytes() > ALL_RUNS / 4 * 3);
	CHILD_CHECK(stats_now().resident > stats_now().active + lazy_bytes());
	CHILD_CHECK(resident_bytes() > before + ALL_RUNS / 4 * 3);
	/* The same memory, which holds what it held. */
	use_runs();
	use_runs();
	CHILD_CHECK(resident_bytes() < before + ALL_RUNS / 2 * 3);
	CHILD_CHECK(lazy_bytes() > ALL_RUNS / 4 * 3);
	/* Now means now, also for what went lazily. */
	CHILD_CHECK(arenal_purge() > ALL_RUNS / 4 * 3);
	CHILD_CHECK(lazy_bytes() < MIB);
	CHILD_CHECK(resident_bytes() < before + 4 * MIB);
	CHILD_CHECK(arenal_purge() == 0);
	use_runs();
}

static void purge_runs_at_once(void *unused) {
	(void)unused;
	size_t before = resident_bytes();

	purge_all_at_once(0);
	use_runs();
	CHILD_CHECK(lazy_bytes() == 0);
	CHILD_CHECK(stats_now().resident < stats_now().active + MIB);
	CHILD_CHECK(resident_bytes() < before + 4 * MIB);
}

static void slices_go_as_told(void **state) {
	(void)state;
	assert_int_equal(run_in_child(purge_runs_lazily, NULL), 0);
	assert_int_equal(run_in_child(purge_runs_at_once, NULL), 0);
}

/* Every fiftieth block lives on. */
static void make_holes(void) {
	static void *blocks[SMALL_BLOCKS];

	for (size_t i = 0; i < SMALL_BLOCKS; i++) {
		blocks[i] = malloc(SMALL);
		CHILD_CHECK(blocks[i]);
		stamp_block(blocks[i], SMALL, i);
	}
	for (size_t i = 0; i < SMALL_BLOCKS; i++) {
		if (i % 50)
			free(blocks[i]);
	}
	for (size_t i = 0; i < SMALL_BLOCKS; i += 50)
		CHILD_CHECK(stamp_intact(blocks[i], SMALL, i));
}

static void purge_holes_lazily(void *unused) {
	(void)unused;
	size_t before = resident_bytes();

	purge_all_at_once(1);
	make_holes();
	CHILD_CHECK(lazy_bytes() > 24 * MIB);
	CHILD_CHECK(resident_bytes() > before + 30 * MIB);
	/* Lazily or not, holes are not active. */
	struct arenal_stats stats = stats_now();
	CHILD_CHECK(stats.active < 24 * MIB && stats.resident > 24 * MIB + stats.active);
	CHILD_CHECK(arenal_purge() > 24 * MIB);
	stats = stats_now();
	CHILD_CHECK(stats.active < 24 * MIB && stats.resident < stats.active + MIB && stats.mapped > stats.active + 24 * MIB);
	CHILD_CHECK(lazy_bytes() < MIB);
	CHILD_CHECK(resident_bytes() < before + 12 * MIB);
	CHILD_CHECK(arenal_purge() == 0);
	make_holes();
}

static void purge_holes_at_once(void *unused) {
	(void)unused;
	purge_all_at_once(0);
	make_holes();
	CHILD_CHECK(lazy_bytes() == 0);
}

static void holes_go_as_told(void **state) {
	(void)state;
	assert_int_equal(run_in_child(purge_holes_lazily, NULL), 0);
	assert_int_equal(run_in_child(purge_holes_at_once, NULL), 0);
}

static void not_lazily_by_default(void **state) {
	(void)state;
	int64_t lazily = 1;

	assert_int_equal(arenal_get("lazy_purge", &lazily), 0);
	assert_int_equal(lazily, 0);
	assert_int_equal(arenal_set("lazy_purge", 2), EINVAL);
}

/* ---- where one call frees much, and where no cache is in between ---- */

enum { BLOCKS = 120000, BLOCK = 1000 };
#define MOST_OF_THEM ((size_t)BLOCKS * BLOCK / 4 * 3)

/* The process has one thread, and makes no other call. */
static void destroy_a_heap(void *unused) {
	arenal_heap *heap = arenal_heap_create(NULL);

	CHILD_CHECK(heap);
	for (size_t i = 0; i < BLOCKS; i++) {
		void *block = arenal_heap_alloc(heap, BLOCK);
		CHILD_CHECK(block);
		memset(block, 1, BLOCK);
	}
	const size_t full = resident_bytes();
	arenal_heap_destroy(heap);
	CHILD_CHECK(resident_bytes() + MOST_OF_THEM < full);
	(void)unused;
}

/* One free of a long magazine gives back 2,048 blocks, each of another span perhaps. */
static void free_at_random(void *unused) {
	enum { COUNT = 1000000, SIZE = 200 };
	static void *blocks[COUNT];

	for (size_t i = 0; i < COUNT; i++) {
		blocks[i] = malloc(SIZE);
		CHILD_CHECK(blocks[i]);
		memset(blocks[i], 1, SIZE);
	}
	const size_t full = resident_bytes();
	for (size_t i = COUNT, number = 1; i > 0; i--) {
		number = number * 6364136223846793005u + 1442695040888963407u;
		const size_t other = (number >> 33) % i;
		free(blocks[other]);
		blocks[other] = blocks[i - 1];
	}
	CHILD_CHECK(resident_bytes() < full / 7);
	(void)unused;
}

/* Those of an arena that the program made lie in no cache: each is given back at once. */
static void free_one_by_one(void *unused) {
	static void *blocks[BLOCKS];
	int (*ctl)(const char *, void *, size_t *, void *, size_t) = dlsym(RTLD_DEFAULT, "mallctl");
	void *(*allocate)(size_t, int) = dlsym(RTLD_DEFAULT, "mallocx");
	unsigned arena;
	size_t length = sizeof arena;

	CHILD_CHECK(ctl && allocate && ctl("arenas.create", &arena, &length, NULL, 0) == 0);
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = allocate(BLOCK, (int)(arena + 1) << 20);
		CHILD_CHECK(blocks[i]);
		memset(blocks[i], 1, BLOCK);
	}
	const size_t full = resident_bytes();
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	CHILD_CHECK(resident_bytes() + MOST_OF_THEM < full);
	(void)unused;
}

static void what_no_cache_keeps_goes_back(void **state) {
	(void)state;
	assert_int_equal(run_in_child(destroy_a_heap, NULL), 0);
	assert_int_equal(run_in_child(free_one_by_one, NULL), 0);
	assert_int_equal(run_in_child(free_at_random, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caches_of_sleeping_threads_are_emptied),
		cmocka_unit_test(magazines_stay_where_membarrier_is_not_offered),
		cmocka_unit_test(slices_go_as_told),
		cmocka_unit_test(holes_go_as_told),
		cmocka_unit_test(not_lazily_by_default),
		cmocka_unit_test(what_no_cache_keeps_goes_back),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
