/* The heap profile: its estimates lie where the arithmetic of sampling says; every function that allocates
 * and frees is counted; and what it leaves behind when it is off is nothing. What it says is read from its
 * own dump. */
#include "profile.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- estimates ---- */

enum { THREADS = 4, KEPT_OF = 4, MEAN = 8192 };

/* One block in KEPT_OF stays, the others are freed at once. The list of those that stay goes through them. */
static void *use_all_sites(void *unused) {
	(void)unused;
	void **kept = NULL;
	for (size_t s = 0; s < COUNT_OF(sites); s++) {
		for (size_t i = 0; i < sites[s].calls; i++) {
			void **block = sites[s].allocate();
			if (i % KEPT_OF == 0) {
				*block = kept;
				kept = block;
			} else {
				free(block);
			}
		}
	}
	return kept;
}

/* Of so many blocks of a size: the variance of the estimated number. Each is sampled with the probability
 * p, and counts for 1 / p then. */
static double variance(double blocks, size_t size) {
	const double p = -expm1(-(double)size / MEAN);
	return blocks * (1 - p) / p;
}

/* Five standard errors, which one run in a million exceeds; and half a block for each stack, for they are
 * rounded. */
static void assert_near(double estimate, double truth, double variance_, double rounding) {
	if (fabs(estimate - truth) > 5 * sqrt(variance_) + rounding + 1e-4 * truth)
		fail_msg("%.0f, not %.0f +- %.0f", estimate, truth, 5 * sqrt(variance_));
}

static void estimates_are_unbiased(void **state) {
	(void)state;
	pthread_t threads[THREADS];
	void *kept[THREADS];
	double blocks = 0, bytes = 0, blocks_variance = 0, bytes_variance = 0;
	assert_int_equal(arenal_profile_start(MEAN), 0);
	for (int t = 0; t < THREADS; t++)
		assert_int_equal(pthread_create(&threads[t], NULL, use_all_sites, NULL), 0);
	for (int t = 0; t < THREADS; t++) assert_int_equal(pthread_join(threads[t], &kept[t]), 0);
	arenal_profile_stop();
	for (size_t s = 0; s < COUNT_OF(sites); s++) {
		const double n = (double)(sites[s].calls * THREADS), live = n / KEPT_OF, size = (double)sites[s].size;
		const struct counts c = counted((const void *)sites[s].allocate);
		assert_near(c.total_blocks, n, variance(n, sites[s].size), 1);
		assert_near(c.live_blocks, live, variance(live, sites[s].size), 1);
		assert_near(c.total_bytes, n * size, variance(n, sites[s].size) * size * size, size);
		assert_near(c.live_bytes, live * size, variance(live, sites[s].size) * size * size, size);
		blocks += n;
		bytes += n * size;
		blocks_variance += variance(n, sites[s].size);
		bytes_variance += variance(n, sites[s].size) * size * size;
	}
	struct counts all = counted(NULL);
	/* The threads themselves are a few allocations of libc's. */
	assert_near(all.total_blocks, blocks, blocks_variance, 100 + COUNT_OF(sites));
	assert_near(all.total_bytes, bytes, bytes_variance, 100000);
	/* After the profile was switched off, blocks that go, from whatever thread, are no longer counted as
	 * live. */
	for (int t = 0; t < THREADS; t++) {
		for (void **block = kept[t], **next; block != NULL; block = next) {
			next = *block;
			free(block);
		}
	}
	for (size_t s = 0; s < COUNT_OF(sites); s++)
		assert_true(counted((const void *)sites[s].allocate).live_bytes == 0);
	assert_true(counted(NULL).total_bytes == all.total_bytes);
}

/* One magazine serves all of these. */
static void pairs_are_counted_each(void **state) {
	(void)state;
	enum { PAIRS = 2000000 };
	assert_int_equal(arenal_profile_start(MEAN), 0);
	for (int i = 0; i < PAIRS; i++) free(site_40());
	arenal_profile_stop();
	const struct counts c = counted((const void *)site_40);
	assert_near(c.total_blocks, PAIRS, variance(PAIRS, 40), 1);
	assert_true(c.live_blocks == 0 && c.live_bytes == 0);
}

/* ---- with a mean of one byte, each block is a sample, and the numbers are exact ---- */

NOINLINE void *resize_here(void *block, size_t size) {
	void *moved = realloc(block, size);
	sink = moved;
	return moved;
}

NOINLINE void *clear_here(size_t size) {
	char *block = calloc(1, size);
	for (size_t i = 0; i < size; i++) assert_int_equal(block[i], 0);
	sink = block;
	return block;
}

NOINLINE void *align_here(size_t align, size_t size) {
	void *block = NULL;
	assert_int_equal(posix_memalign(&block, align, size), 0);
	assert_int_equal((uintptr_t)block % align, 0);
	sink = block;
	return block;
}

static const size_t sizes[] = { 100, 1000, 3000, 30000, 60000, 900000, 3000000 };

static void each_function_is_counted(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		start_exactly();
		char *block = clear_here(sizes[i]);
		assert_true(malloc_usable_size(block) >= sizes[i]);
		memset(block, 7, malloc_usable_size(block));
		assert_counts((const void *)clear_here, 1, (double)sizes[i], 1);
		block = resize_here(block, sizes[i] * 3);
		assert_int_equal(block[0], 7);
		assert_int_equal(block[sizes[i] - 1], 7);
		assert_counts((const void *)clear_here, 0, 0, 1);
		assert_counts((const void *)resize_here, 1, (double)sizes[i] * 3, 1);
		free(block);
		assert_counts((const void *)resize_here, 0, 0, 1);
		arenal_profile_stop();
	}
	for (size_t align = 32; align <= 65536; align *= 4) {
		start_exactly();
		void *block = align_here(align, 4 * align);
		assert_counts((const void *)align_here, 1, 4 * (double)align, 1);
		free(block);
		assert_counts((const void *)align_here, 0, 0, 1);
		arenal_profile_stop();
	}
}

/* Mappings grow and move by the kernel, without a copy. */
static void huge_blocks_follow_realloc(void **state) {
	(void)state;
	start_exactly();
	void *block = site_1048576();
	for (size_t size = 2000000; size < 200000000; size *= 2) {
		block = resize_here(block, size);
		assert_true(counted((const void *)resize_here).live_bytes == (double)size);
	}
	block = resize_here(block, 5000000);
	assert_true(counted((const void *)resize_here).live_bytes == 5000000);
	free(block);
	assert_true(counted((const void *)resize_here).live_bytes == 0);
	arenal_profile_stop();
}

extern void free_sized(void *block, size_t size);

static void sizes_are_checked_as_ever(void **state) {
	(void)state;
	start_exactly();
	void *sampled = site_200();
	arenal_profile_stop();
	void *plain = site_200();
	start_exactly();
	free_sized(plain, 200);
	free_sized(site_1024(), 1024);
	free_sized(sampled, 200);
	arenal_profile_stop();
	assert_true(counted(NULL).live_bytes == 0);
}

static void *free_it(void *block) {
	free(block);
	return NULL;
}

static void other_threads_free(void **state) {
	(void)state;
	start_exactly();
	void *blocks[] = { site_16(), site_1040(), site_50000(), site_1048576() };
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, free_it, blocks[i]), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
	}
	arenal_profile_stop();
	assert_counts((const void *)site_16, 0, 0, 1);
	assert_counts((const void *)site_1040, 0, 0, 1);
	assert_counts((const void *)site_50000, 0, 0, 1);
	assert_counts((const void *)site_1048576, 0, 0, 1);
}

/* ---- on and off ---- */

static void a_start_forgets(void **state) {
	(void)state;
	start_exactly();
	void *before = site_200();
	start_exactly();
	assert_counts((const void *)site_200, 0, 0, 0);
	void *after = site_200();
	free(before);
	assert_counts((const void *)site_200, 1, 200, 1);
	free(after);
	assert_counts((const void *)site_200, 0, 0, 1);
	arenal_profile_stop();
	free(site_200());
	assert_counts((const void *)site_200, 0, 0, 1);
}

static void limits_of_the_mean(void **state) {
	(void)state;
	assert_int_equal(arenal_profile_start(((size_t)1 << 30) + 1), EINVAL);
	assert_int_equal(arenal_profile_start((size_t)1 << 30), 0);
	assert_int_equal(arenal_profile_start(0), 0);
	assert_non_null(strstr(dump_text(), "\nsample 524288\n"));
	arenal_profile_stop();
}

static void write_errors_are_told(void **state) {
	(void)state;
	const int full = open("/dev/full", O_WRONLY);
	assert_int_equal(arenal_profile_dump(full), ENOSPC);
	close(full);
	assert_int_equal(arenal_profile_dump(-1), EBADF);
}

/* ---- in children ---- */

static void go_on_in_child(void *block) {
	free(block);
	CHILD_CHECK(counted((const void *)site_200).live_blocks == 1);
	void *another = site_200();
	CHILD_CHECK(counted((const void *)site_200).live_blocks == 2);
	free(another);
}

static void a_child_has_a_copy(void **state) {
	(void)state;
	start_exactly();
	void *a = site_200(), *b = site_200();
	assert_int_equal(run_in_child(go_on_in_child, a), 0);
	assert_counts((const void *)site_200, 2, 400, 2);
	free(a);
	free(b);
	arenal_profile_stop();
}

static void free_twice(void *unused) {
	(void)unused;
	void *block = unknown(site_200());
	free(block);
	free(block);
}

static void free_inside(void *unused) {
	(void)unused;
	free(unknown(site_200()) + 16);
}

static void assert_end(void (*misuse)(void *), const char *message) {
	char text[4096] = "";
	int ends[2], saved = dup(2);
	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], 2);
	const int status = run_in_child(misuse, NULL);
	dup2(saved, 2);
	close(saved);
	close(ends[1]);
	assert_true(read(ends[0], text, sizeof text - 1) > 0);
	close(ends[0]);
	assert_int_equal(status, 128 + SIGABRT);
	assert_non_null(strstr(text, message));
}

static void misuse_is_found_as_ever(void **state) {
	(void)state;
	start_exactly();
	void *keeps_the_span = site_200();
	assert_end(free_twice, "the block of 208 bytes, arena ");
	assert_end(free_twice, "was freed already, and is back in its arena");
	assert_end(free_inside, "it lies 16 bytes into the block of 208 bytes");
	free(keeps_the_span);
	arenal_profile_stop();
}

/* ---- heaps ---- */

void *site_of_heap(arenal_heap *heap, size_t size);
NOINLINE void *site_of_heap(arenal_heap *heap, size_t size) {
	void *block = arenal_heap_alloc(heap, size);
	sink = block;
	return block;
}

/* Also those that the thread had kept before; and a reset forgets them all. */
static void blocks_of_heaps_are_counted(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("profiled");
	arenal_heap_free(heap, site_of_heap(heap, 100));
	start_exactly();
	void *first = site_of_heap(heap, 100);
	for (int i = 1; i < 100; i++) site_of_heap(heap, 100);
	void *large = site_of_heap(heap, 50000);
	site_of_heap(heap, 3000000);
	assert_counts((void *)site_of_heap, 102, 100 * 100 + 50000 + 3000000, 102);
	arenal_heap_free(heap, first);
	free(large);
	assert_counts((void *)site_of_heap, 100, 99 * 100 + 3000000, 102);
	arenal_heap_reset(heap);
	assert_counts((void *)site_of_heap, 0, 0, 102);
	arenal_profile_stop();
	void *unseen = site_of_heap(heap, 100);
	arenal_heap_free(heap, unseen);
	assert_counts((void *)site_of_heap, 0, 0, 102);
	arenal_heap_destroy(heap);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(estimates_are_unbiased),
		cmocka_unit_test(pairs_are_counted_each),
		cmocka_unit_test(each_function_is_counted),
		cmocka_unit_test(huge_blocks_follow_realloc),
		cmocka_unit_test(sizes_are_checked_as_ever),
		cmocka_unit_test(other_threads_free),
		cmocka_unit_test(a_start_forgets),
		cmocka_unit_test(limits_of_the_mean),
		cmocka_unit_test(write_errors_are_told),
		cmocka_unit_test(a_child_has_a_copy),
		cmocka_unit_test(misuse_is_found_as_ever),
		cmocka_unit_test(blocks_of_heaps_are_counted),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
