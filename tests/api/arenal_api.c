/* The functions of arenal.h. */
#include "stamp.h"
#include "support.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static struct arenal_stats stats_now(void) {
	struct arenal_stats stats;

	assert_int_equal(arenal_stats_get(&stats, sizeof stats), 0);
	return stats;
}

static void version_is_that_of_the_header(void **state) {
	(void)state;
	assert_string_equal(arenal_version(), ARENAL_VERSION_STRING);
	assert_ptr_equal(arenal_version(), arenal_version());
}

static void stats_refuse_bad_arguments(void **state) {
	(void)state;
	struct arenal_stats stats;

	assert_int_equal(arenal_stats_get(NULL, sizeof stats), EINVAL);
	assert_int_equal(arenal_stats_get(&stats, 0), EINVAL);
	assert_int_equal(arenal_stats_get(NULL, 0), EINVAL);
}

/* A program that knows fewer fields gets those, and nothing is written behind them. */
static void stats_fill_no_more_than_asked_for(void **state) {
	(void)state;
	for (size_t size = 1; size < sizeof(struct arenal_stats); size++) {
		unsigned char bytes[sizeof(struct arenal_stats)];

		memset(bytes, 0xA5, sizeof bytes);
		assert_int_equal(arenal_stats_get((struct arenal_stats *)bytes, size), 0);
		assert_true(holds_only(bytes + size, sizeof bytes - size, 0xA5));
	}
}

static void assert_consistent(const struct arenal_stats *stats) {
	assert_true(stats->allocated > 0);
	assert_true(stats->active >= stats->allocated + stats->cached);
	assert_true(stats->resident >= stats->active + stats->dirty);
	assert_true(stats->mapped >= stats->resident);
	assert_true(stats->mapped >= stats->brk_bytes + stats->huge_bytes);
	assert_true(stats->metadata > 0);
	assert_true(stats->arenas >= 1);
	assert_true(stats->threads >= 1);
	assert_true((stats->huge_blocks == 0) == (stats->huge_bytes == 0));
}

static void stats_follow_small_blocks(void **state) {
	(void)state;
	enum { BLOCKS = 20000, SIZE = 800 };
	static void *blocks[BLOCKS];
	struct arenal_stats before = stats_now();

	assert_consistent(&before);
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(SIZE);
		assert_non_null(blocks[i]);
	}
	struct arenal_stats full = stats_now();
	assert_consistent(&full);
	assert_true(full.allocated >= before.allocated + BLOCKS * SIZE);
	assert_true(full.allocated <= before.allocated + BLOCKS * SIZE * 5 / 4);
	assert_true(full.refills > before.refills);
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	struct arenal_stats empty = stats_now();
	assert_consistent(&empty);
	assert_true(empty.allocated <= before.allocated + 4096);
	assert_true(empty.flushes > before.flushes);
}

static void stats_follow_huge_blocks(void **state) {
	(void)state;
	struct arenal_stats before = stats_now();
	void *block = malloc(100 * MIB);

	assert_non_null(block);
	struct arenal_stats full = stats_now();
	assert_consistent(&full);
	assert_int_equal(full.huge_blocks, before.huge_blocks + 1);
	assert_true(full.huge_bytes >= before.huge_bytes + 100 * MIB);
	assert_true(full.allocated >= before.allocated + 100 * MIB);
	block = realloc(block, 200 * MIB);
	assert_non_null(block);
	struct arenal_stats grown = stats_now();
	assert_int_equal(grown.huge_blocks, before.huge_blocks + 1);
	assert_true(grown.huge_bytes >= before.huge_bytes + 200 * MIB);
	free(block);
	struct arenal_stats empty = stats_now();
	assert_int_equal(empty.huge_blocks, before.huge_blocks);
	assert_int_equal(empty.huge_bytes, before.huge_bytes);
	assert_true(empty.purged_total >= before.purged_total + 200 * MIB);
}

static pthread_barrier_t barrier;

static void *allocate_and_wait(void *argument) {
	(void)argument;
	void *block = malloc(100);

	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	free(block);
	return block;
}

static void stats_count_threads_and_arenas(void **state) {
	(void)state;
	enum { THREADS = 8 };
	pthread_t threads[THREADS];
	struct arenal_stats before = stats_now();

	assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS + 1), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, allocate_and_wait, NULL), 0);
	pthread_barrier_wait(&barrier);
	struct arenal_stats during = stats_now();
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < THREADS; i++) {
		void *block;
		assert_int_equal(pthread_join(threads[i], &block), 0);
		assert_non_null(block);
	}
	pthread_barrier_destroy(&barrier);
	struct arenal_stats after = stats_now();

	assert_consistent(&during);
	assert_int_equal(during.threads, before.threads + THREADS);
	assert_true(during.arenas >= before.arenas);
	assert_int_equal(after.threads, before.threads);
}

/* Free runs, free pages between blocks that stay, the caller's cache: all of it goes back. */
static void purge_gives_memory_back(void **state) {
	(void)state;
	enum { BLOCKS = 100000, SIZE = 1000, KEPT = 500 };
	static void *blocks[BLOCKS];

	arenal_purge();
	size_t start = resident_bytes();
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(SIZE);
		assert_non_null(blocks[i]);
		stamp_block(blocks[i], SIZE, i);
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		if (i % KEPT)
			free(blocks[i]);
	}
	uint64_t purged = stats_now().purged_total;
	arenal_purge();
	struct arenal_stats after = stats_now();
	assert_consistent(&after);
	assert_true(after.purged_total > purged);
	assert_int_equal(after.dirty, 0);
	/* What survives lies on 200 pages, of at most 64 KiB. */
	assert_true(resident_bytes() <= start + 16 * MIB);
	for (size_t i = 0; i < BLOCKS; i += KEPT) {
		assert_true(stamp_intact(blocks[i], SIZE, i));
		free(blocks[i]);
	}
	/* The purged memory serves again. */
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = calloc(1, SIZE);
		assert_non_null(blocks[i]);
		assert_true(holds_only(blocks[i], SIZE, 0));
	}
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
}

static void purge_returns_what_it_gave_back(void **state) {
	(void)state;
	static void *blocks[256];
	static const char *const names[] = { "decay", "dirty_max", "trim_threshold" };
	static const int64_t nobody_else[] = { -1, (int64_t)1 << 40, -1 };
	int64_t usual[COUNT_OF(names)];

	/* Nothing else gives memory back meanwhile. */
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		assert_int_equal(arenal_get(names[i], &usual[i]), 0);
		assert_int_equal(arenal_set(names[i], nobody_else[i]), 0);
	}
	arenal_purge();
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(40000);
		assert_non_null(blocks[i]);
		memset(blocks[i], 1, 40000);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
	struct arenal_stats before = stats_now();
	size_t returned = arenal_purge();
	struct arenal_stats after = stats_now();
	assert_int_equal(after.purged_total - before.purged_total, returned);
	assert_true(returned >= before.dirty - after.dirty);
	for (size_t i = 0; i < COUNT_OF(names); i++)
		assert_int_equal(arenal_set(names[i], usual[i]), 0);
}

static void table_is_printed(void **state) {
	(void)state;
	int file = memfd_create("table", MFD_CLOEXEC);
	char text[65536];

	assert_true(file >= 0);
	assert_int_equal(arenal_stats_print(file), 0);
	ssize_t length = pread(file, text, sizeof text - 1, 0);
	assert_true(length > 0);
	text[length] = '\0';
	assert_non_null(strstr(text, "allocated"));
	assert_non_null(strstr(text, "mapped"));
	assert_int_equal(text[length - 1], '\n');
	close(file);

	/* Builds with assertions count how long locks are held. The table's own look took each bin's lock. */
	const char *holds = strstr(text, "\nlock held");
#ifdef NDEBUG
	assert_null(holds);
#else
	assert_non_null(holds);
	const char *of_bins = strstr(holds, "\nbin ");
	assert_non_null(of_bins);
	assert_true(strtoul(of_bins + strlen("\nbin "), NULL, 10) > 30); /* below 1 us */
#endif
}

static void errors_of_writing_the_table_are_returned(void **state) {
	(void)state;
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	assert_true(full >= 0);
	errno = EXDEV;
	assert_int_equal(arenal_stats_print(full), ENOSPC);
	close(full);
	assert_int_equal(arenal_stats_print(full), EBADF);
	assert_int_equal(arenal_stats_print(-1), EBADF);
}

static const char *const tunables[] = {
	"arena_max", "tcache_max", "mmap_threshold", "trim_threshold", "top_pad", "dirty_max", "stats",
};

static int64_t value_of(const char *name) {
	int64_t value = -12345;

	assert_int_equal(arenal_get(name, &value), 0);
	return value;
}

static void get_reads_every_tunable(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(tunables); i++)
		assert_true(value_of(tunables[i]) >= -1);
}

static void get_refuses_bad_arguments(void **state) {
	(void)state;
	static const char *const unknown[] = { "", "nothing", "arena_ma", "arena_maxx", "ARENA_MAX", "arena_max ", "," };
	int64_t value = 77;

	for (size_t i = 0; i < COUNT_OF(unknown); i++) {
		assert_int_equal(arenal_get(unknown[i], &value), ENOENT);
		assert_int_equal(value, 77);
	}
	assert_int_equal(arenal_get(NULL, &value), EINVAL);
	assert_int_equal(arenal_get("arena_max", NULL), EINVAL);
	assert_int_equal(arenal_get(NULL, NULL), EINVAL);
	assert_int_equal(value, 77);
}

static void set_changes_what_get_reads(void **state) {
	(void)state;
	static const char *const sizes[] = { "tcache_max", "mmap_threshold", "trim_threshold", "top_pad", "dirty_max" };

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		int64_t old = value_of(sizes[i]);
		assert_int_equal(arenal_set(sizes[i], 3 * (int64_t)MIB), 0);
		assert_int_equal(value_of(sizes[i]), 3 * MIB);
		assert_int_equal(arenal_set(sizes[i], old), 0);
		assert_int_equal(value_of(sizes[i]), old);
	}
}

static void set_refuses_and_keeps_the_old_value(void **state) {
	(void)state;
	assert_int_equal(arenal_set("nothing", 1), ENOENT);
	assert_int_equal(arenal_set("", 1), ENOENT);
	assert_int_not_equal(arenal_set(NULL, 1), 0);
	for (size_t i = 0; i < COUNT_OF(tunables); i++) {
		int64_t old = value_of(tunables[i]);
		assert_int_equal(arenal_set(tunables[i], -100), EINVAL);
		assert_int_equal(arenal_set(tunables[i], INT64_MIN), EINVAL);
		assert_int_equal(arenal_set(tunables[i], INT64_MAX), EINVAL);
		assert_int_equal(value_of(tunables[i]), old);
	}
	int64_t arenas = value_of("arena_max");
	assert_int_equal(arenal_set("arena_max", 3), EPERM);
	assert_int_equal(value_of("arena_max"), arenas);
}

static void threshold_counts_from_now_on(void **state) {
	(void)state;
	int64_t old = value_of("mmap_threshold");
	size_t before = stats_now().huge_blocks;

	assert_int_equal(arenal_set("mmap_threshold", 200 * 1024), 0);
	void *mapped = malloc(MIB);
	assert_int_equal(stats_now().huge_blocks, before + 1);
	assert_int_equal(arenal_set("mmap_threshold", 4 * (int64_t)MIB), 0);
	void *unmapped = malloc(MIB);
	assert_int_equal(stats_now().huge_blocks, before + 1);
	free(mapped);
	free(unmapped);
	assert_int_equal(stats_now().huge_blocks, before);
	assert_int_equal(arenal_set("mmap_threshold", old), 0);
}

static void cache_size_counts_from_now_on(void **state) {
	(void)state;
	enum { BLOCKS = 1000 };
	int64_t old = value_of("tcache_max");
	void *blocks[BLOCKS];

	assert_int_equal(arenal_set("tcache_max", 0), 0);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < BLOCKS; i++) {
			blocks[i] = malloc(i);
			assert_non_null(blocks[i]);
		}
		for (size_t i = 0; i < BLOCKS; i++)
			free(blocks[i]);
	}
	arenal_purge();
	assert_int_equal(stats_now().cached, 0);
	free(malloc(100));
	assert_int_equal(stats_now().cached, 0);
	assert_int_equal(arenal_set("tcache_max", old), 0);
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(i);
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	assert_true(stats_now().cached > 0);
}

/* One for each call that found no memory, however often it was tried inside. */
static void failures_are_counted(void **state) {
	(void)state;
	volatile size_t impossible = PTRDIFF_MAX / 2;
	void *small = malloc(100), *large = malloc(200000), *huge = malloc(4 * MIB), *none;
	const uint64_t before = stats_now().failures_total;

	assert_null(malloc(impossible));
	assert_null(calloc(1, impossible));
	assert_null(aligned_alloc(4096, impossible));
	assert_int_equal(posix_memalign(&none, 64, impossible), ENOMEM);
	assert_int_equal(stats_now().failures_total, before + 4);
	assert_null(realloc(small, impossible));
	assert_null(realloc(large, impossible));
	assert_null(realloc(huge, impossible));
	assert_int_equal(stats_now().failures_total, before + 7);
	free(small);
	free(large);
	free(huge);
	assert_int_equal(stats_now().failures_total, before + 7);
}

static void purges_are_counted_and_timed(void **state) {
	(void)state;
	enum { BLOCKS = 200, SIZE = 100000 };
	static void *blocks[BLOCKS];

	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(SIZE);
		assert_non_null(blocks[i]);
		memset(blocks[i], 1, SIZE);
	}
	const struct arenal_stats before = stats_now();
	for (size_t i = 0; i < BLOCKS; i++) free(blocks[i]);
	arenal_purge();
	const struct arenal_stats after = stats_now();
	assert_true(after.purges_total > before.purges_total);
	assert_true(after.purge_nanoseconds_total > before.purge_nanoseconds_total);
}

static void pressure_is_told(void **state) {
	(void)state;
	int64_t old;
	void *block = malloc(64 * MIB);

	assert_non_null(block);
	memset(block, 1, 64 * MIB);
	assert_int_equal(arenal_get("memory_limit", &old), 0);
	assert_int_equal(arenal_set("memory_limit", 32 * MIB), 0);
	free(malloc(8 * MIB)); /* who allocates looks */
	assert_int_equal(stats_now().pressure, 2);
	free(block);
	assert_int_equal(arenal_set("memory_limit", (int64_t)1 << 40), 0);
	free(malloc(8 * MIB));
	assert_true(stats_now().pressure < 2); /* 1, while the system is short of memory */
	assert_int_equal(arenal_set("memory_limit", old), 0);
}

static void the_state_of_the_profile_is_told(void **state) {
	(void)state;
	assert_int_equal(stats_now().sampling, 0);
	assert_int_equal(arenal_profile_start(4096), 0);
	assert_int_equal(stats_now().sampling, 4096);
	arenal_profile_stop();
	assert_int_equal(stats_now().sampling, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_is_that_of_the_header),
		cmocka_unit_test(stats_refuse_bad_arguments),
		cmocka_unit_test(stats_fill_no_more_than_asked_for),
		cmocka_unit_test(stats_follow_small_blocks),
		cmocka_unit_test(stats_follow_huge_blocks),
		cmocka_unit_test(stats_count_threads_and_arenas),
		cmocka_unit_test(purge_gives_memory_back),
		cmocka_unit_test(purge_returns_what_it_gave_back),
		cmocka_unit_test(table_is_printed),
		cmocka_unit_test(errors_of_writing_the_table_are_returned),
		cmocka_unit_test(get_reads_every_tunable),
		cmocka_unit_test(get_refuses_bad_arguments),
		cmocka_unit_test(set_changes_what_get_reads),
		cmocka_unit_test(set_refuses_and_keeps_the_old_value),
		cmocka_unit_test(threshold_counts_from_now_on),
		cmocka_unit_test(cache_size_counts_from_now_on),
		cmocka_unit_test(failures_are_counted),
		cmocka_unit_test(purges_are_counted_and_timed),
		cmocka_unit_test(pressure_is_told),
		cmocka_unit_test(the_state_of_the_profile_is_told),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
