/* The heap profile: its estimates lie where the arithmetic of sampling says; every function that allocates and frees is counted;
 * and what it leaves behind when it is off is nothing. What it says is read from its own dump. */
#include "support.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

struct counts {
	double live_blocks, live_bytes, total_blocks, total_bytes;
};

static void *volatile sink;

/* A function of its own for each size that is allocated: the dump is asked for its stacks. */
#define SITE(size)                            \
	NOINLINE void *site_##size(void) {        \
		void *block = malloc(size);           \
		sink = block;                         \
		return block;                         \
	}
SITE(16) SITE(40) SITE(200) SITE(1024) SITE(1040) SITE(5000) SITE(20000) SITE(32768) SITE(50000) SITE(300000) SITE(1048576)

static const struct site {
	void *(*allocate)(void);
	size_t size, calls; /* calls: of each thread */
} sites[] = {
	{ site_16, 16, 100000 },      { site_40, 40, 100000 },     { site_200, 200, 40000 },    { site_1024, 1024, 20000 },
	{ site_1040, 1040, 20000 },   { site_5000, 5000, 4000 },   { site_20000, 20000, 1000 }, { site_32768, 32768, 600 },
	{ site_50000, 50000, 400 },   { site_300000, 300000, 100 }, { site_1048576, 1048576, 40 },
};

static char *dump_text(void) {
	const int file = memfd_create("dump", 0);
	assert_true(file >= 0);
	assert_int_equal(arenal_profile_dump(file), 0);
	const off_t size = lseek(file, 0, SEEK_END);
	assert_int_equal(ftruncate(file, size + 1), 0); /* a zero behind it, which may be on a page of its own */
	char *text = mmap(NULL, (size_t)size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	assert_true(text != MAP_FAILED);
	close(file);
	return text; /* never unmapped */
}

/* Cuts the line off, and returns the next one; sscanf would measure the rest each time. */
static char *cut_line(char *line) {
	char *end = strchr(line, '\n');
	if (end == NULL) return NULL;
	*end = 0;
	return end + 1;
}

/* What the stacks that begin in the function come to; NULL: all of them. The symbol is what dladdr says. */
static struct counts counted(const void *function) {
	struct counts sum = { 0 };
	Dl_info info;
	for (char *line = dump_text(), *next; line != NULL; line = next) {
		struct counts c;
		next = cut_line(line);
		unsigned long frame;
		if (sscanf(line, "stack %lf %lf %lf %lf %lx", &c.live_blocks, &c.live_bytes, &c.total_blocks, &c.total_bytes, &frame) != 5)
			continue;
		if (function != NULL && !(dladdr((void *)frame, &info) != 0 && info.dli_saddr == function)) continue;
		sum.live_blocks += c.live_blocks;
		sum.live_bytes += c.live_bytes;
		sum.total_blocks += c.total_blocks;
		sum.total_bytes += c.total_bytes;
	}
	return sum;
}

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

/* Of so many blocks of a size: the variance of the estimated number. Each is sampled with the probability p, and counts for
 * 1 / p then. */
static double variance(double blocks, size_t size) {
	const double p = -expm1(-(double)size / MEAN);
	return blocks * (1 - p) / p;
}

/* Five standard errors, which one run in a million exceeds; and half a block for each stack, for they are rounded. */
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
	for (int t = 0; t < THREADS; t++) assert_int_equal(pthread_create(&threads[t], NULL, use_all_sites, NULL), 0);
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
	/* After the profile was switched off, blocks that go, from whatever thread, are no longer counted as live. */
	for (int t = 0; t < THREADS; t++) {
		for (void **block = kept[t], **next; block != NULL; block = next) {
			next = *block;
			free(block);
		}
	}
	for (size_t s = 0; s < COUNT_OF(sites); s++) assert_true(counted((const void *)sites[s].allocate).live_bytes == 0);
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

static void start_exactly(void) { assert_int_equal(arenal_profile_start(1), 0); }

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

static void assert_counts(const void *function, double live_blocks, double live_bytes, double total_blocks) {
	const struct counts c = counted(function);
	assert_true(c.live_blocks == live_blocks);
	assert_true(c.live_bytes == live_bytes);
	assert_true(c.total_blocks == total_blocks);
}

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

static void deep_recursion(int depth) {
	if (depth > 0)
		deep_recursion(depth - 1);
	else
		free(site_200());
	sink = NULL; /* no tail call */
}

static void deep_stacks_are_cut(void **state) {
	(void)state;
	start_exactly();
	deep_recursion(40);
	deep_recursion(4000);
	arenal_profile_stop();
	char *line = dump_text();
	size_t found = 0, longest = 0;
	while ((line = strstr(line, "stack ")) != NULL) {
		size_t frames = 0;
		for (line += 6; *line != '\n'; line++) frames += *line == ' ';
		longest = longest > frames - 3 ? longest : frames - 3;
		found++;
	}
	assert_true(found >= 2);
	assert_int_equal(longest, 64);
}

/* ---- more stacks than are told apart ---- */

enum { STACKS = 16384, MANY = 20000, BITS = 15 };
static void *many[MANY];

/* Each path of so many bits is a stack of its own. */
NOINLINE void *by_path(unsigned path, int bits) {
	void *block;
	if (bits == 0)
		block = site_200();
	else if (path & 1)
		block = by_path(path >> 1, bits - 1);
	else
		block = by_path(path >> 1, bits - 1), sink = NULL;
	sink = block; /* no tail call */
	return block;
}

/* Of the dump: its stacks, and what is in the one that stands for all others. */
static struct counts others(size_t *stacks) {
	struct counts c, found = { 0 };
	*stacks = 0;
	for (char *line = dump_text(), *next; line != NULL; line = next) {
		int end = 0;
		next = cut_line(line);
		if (strncmp(line, "stack ", 6) == 0) ++*stacks;
		if (sscanf(line, "stack %lf %lf %lf %lf 0%n", &c.live_blocks, &c.live_bytes, &c.total_blocks, &c.total_bytes, &end) == 4 &&
		    end > 0 && line[end] == 0)
			found = c;
	}
	return found;
}

static size_t metadata(void) {
	struct arenal_stats stats;
	arenal_stats_get(&stats, sizeof stats);
	return stats.metadata;
}

static void stacks_are_bounded(void **state) {
	(void)state;
	size_t stacks, before = 0;
	for (int round = 0; round < 2; round++) {
		start_exactly();
		void *lives = site_1040(), *larger = site_5000();
		for (unsigned i = 0; i < MANY; i++) free(by_path(i, BITS));
		/* All are counted, whatever lives has kept its stack, and so has the last one that came. */
		assert_counts((const void *)site_200, 0, 0, MANY - others(&stacks).total_blocks);
		assert_true(others(&stacks).total_blocks >= MANY - STACKS && others(&stacks).live_blocks == 0);
		assert_true(stacks <= STACKS);
		assert_counts((const void *)site_1040, 1, 1040, 1);
		assert_counts((const void *)site_5000, 1, 5000, 1);
		free(site_16());
		assert_counts((const void *)site_16, 0, 0, 1);
		free(lives);
		free(larger);
		arenal_profile_stop();
		if (round == 0) before = metadata();
	}
	assert_int_equal(metadata(), before);
}

/* Where all of them hold something, none gives its place. */
static void further_stacks_are_one(void **state) {
	(void)state;
	size_t stacks;
	for (int round = 0; round < 2; round++) {
		start_exactly();
		for (unsigned i = 0; i < MANY; i++) many[i] = by_path(i, BITS);
		const struct counts c = others(&stacks);
		assert_int_equal(stacks, STACKS);
		assert_true(c.live_blocks >= MANY - STACKS && c.live_blocks < MANY - STACKS + 100);
		assert_true(c.live_bytes == 200 * c.live_blocks && c.total_blocks == c.live_blocks);
		assert_counts((const void *)site_200, MANY - c.live_blocks, 200 * (MANY - c.live_blocks), MANY - c.live_blocks);
		for (unsigned i = 0; i < MANY; i++) free(many[i]);
		assert_true(others(&stacks).live_blocks == 0);
		void *block = site_1040();
		assert_counts((const void *)site_1040, 1, 1040, 1);
		free(block);
		arenal_profile_stop();
	}
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
		cmocka_unit_test(deep_stacks_are_cut),
		cmocka_unit_test(stacks_are_bounded),
		cmocka_unit_test(further_stacks_are_one),
		cmocka_unit_test(write_errors_are_told),
		cmocka_unit_test(a_child_has_a_copy),
		cmocka_unit_test(misuse_is_found_as_ever),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
