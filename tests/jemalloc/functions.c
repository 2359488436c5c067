/* mallocx, rallocx, xallocx, sallocx, dallocx, sdallocx, nallocx with their flags, as jemalloc(3) has them. */
#include "jemalloc_support.h"

#include <pthread.h>
#include <stdlib.h>

static const size_t aligns[] = { 1, 8, 16, 32, 64, 256, 1024, 4096, 65536, 1 << 20 };

/* What nallocx says is what the block has: no less in any mode, and no more but for mappings that are kept. */
static void nallocx_tells_the_size(void **state) {
	(void)state;
	for (size_t i = 0; i < 80; i++) {
		for (size_t a = 0; a < COUNT_OF(aligns); a++) {
			const size_t size = sample_size(i);
			const int flags = MALLOCX_ALIGN(aligns[a]);
			const size_t expected = nallocx(size, flags);
			assert_true(expected >= size);
			void *block = mallocx(size, flags);
			assert_non_null(block);
			assert_int_equal((uintptr_t)block % aligns[a], 0);
			const size_t real = sallocx(block, flags);
			assert_true(real >= expected);
			if (size < MIB) assert_int_equal(real, expected);
			assert_int_equal(malloc_usable_size(block), real);
			memset(block, 0xA5, real);
			dallocx(block, flags);
		}
	}
}

/* A size that nallocx returned is its own: who rounds up by it (folly's goodMallocSize) gets just that. */
static void good_sizes_stay(void **state) {
	(void)state;
	for (size_t i = 0; i < 120; i++) {
		const size_t good = nallocx(sample_size(i), 0);
		assert_int_equal(nallocx(good, 0), good);
	}
}

static void absurd_sizes_have_no_block(void **state) {
	(void)state;
	static const size_t sizes[] = { SIZE_MAX, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX };
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		const size_t size = hidden(sizes[i]);
		assert_int_equal(nallocx(size, 0), 0);
		assert_null(mallocx(size, 0));
		assert_null(mallocx(size, MALLOCX_ZERO));
		assert_null(mallocx(size, MALLOCX_ALIGN(4096)));
		assert_null(mallocx(size, MALLOCX_ARENA(0)));
		void *block = mallocx(100, 0);
		assert_null(rallocx(block, size, 0));
		assert_true(xallocx(block, size, 0, 0) < size);
		assert_true(xallocx(block, 100, hidden(SIZE_MAX - 100), 0) >= 100);
		dallocx(block, 0);
	}
	assert_null(mallocx(hidden(100), MALLOCX_LG_ALIGN(63)));
}

static void zeroed_blocks_read_as_zero(void **state) {
	(void)state;
	const int flags[] = {
		MALLOCX_ZERO, MALLOCX_ZERO | MALLOCX_ALIGN(256), MALLOCX_ZERO | MALLOCX_ALIGN(4096),
		MALLOCX_ZERO | MALLOCX_TCACHE_NONE, MALLOCX_ZERO | MALLOCX_ARENA(0),
	};
	for (size_t f = 0; f < COUNT_OF(flags); f++) {
		for (size_t i = 0; i < 90; i++) {
			const size_t size = sample_size(i);
			void *dirt = mallocx(size, flags[f] & ~MALLOCX_ZERO);
			memset(dirt, 0x5A, sallocx(dirt, 0));
			dallocx(dirt, flags[f]);
			unsigned char *block = mallocx(size, flags[f]);
			assert_non_null(block);
			const size_t real = sallocx(block, 0);
			for (size_t b = 0; b < real; b++) assert_int_equal(block[b], 0);
			memset(block, 0x5A, real);
			sdallocx(block, size, flags[f]);
		}
	}
}

/* Bytes beyond the real size that the block had are zero, where that is asked for; all others as they were. */
static void rallocx_keeps_and_zeroes(void **state) {
	(void)state;
	static const size_t sizes[] = { 1, 100, 1000, 5000, 40000, 300000, 70000, 3000000, 9000000, 2000, 10 };
	for (int zero = 0; zero < 2; zero++) {
		for (size_t a = 0; a < 9; a += 4) {
			const int flags = (zero ? MALLOCX_ZERO : 0) | MALLOCX_ALIGN(aligns[a]);
			unsigned char *block = mallocx(sizes[0], flags);
			memset(block, 0x33, sizes[0]);
			for (size_t i = 1; i < COUNT_OF(sizes); i++) {
				const size_t before = sallocx(block, 0);
				block = rallocx(block, sizes[i], flags);
				assert_non_null(block);
				assert_int_equal((uintptr_t)block % aligns[a], 0);
				assert_true(sallocx(block, 0) >= sizes[i]);
				const size_t same = sizes[i] < sizes[i - 1] ? sizes[i] : sizes[i - 1];
				for (size_t b = 0; b < same; b += 1 + same / 5000) assert_int_equal(block[b], 0x33);
				for (size_t b = before; zero && b < sizes[i]; b++) assert_int_equal(block[b], 0);
				memset(block, 0x33, sizes[i]);
			}
			dallocx(block, flags);
		}
	}
}

/* In its place or not at all: the block has what is returned. */
static void xallocx_stays_in_its_place(void **state) {
	(void)state;
	for (size_t i = 0; i < 100; i++) {
		const size_t size = sample_size(i);
		unsigned char *block = mallocx(size, 0);
		memset(block, 0x77, size);
		const size_t before = sallocx(block, 0);
		const size_t grown = xallocx(block, size * 2, size, 0);
		assert_int_equal(grown, sallocx(block, 0));
		assert_true(grown >= before);
		memset(block + size, 0x78, grown - size);
		const size_t shrunk = xallocx(block, size, 0, 0);
		assert_int_equal(shrunk, sallocx(block, 0));
		assert_true(shrunk >= size && shrunk <= grown);
		for (size_t b = 0; b < size; b += 1 + size / 1000) assert_int_equal(block[b], 0x77);
		dallocx(block, 0);
	}
}

/* A run with free slices behind it grows where it is, and what it grows by reads as zero if that is asked
 * for. */
static void xallocx_grows_runs(void **state) {
	(void)state;
	if (getenv("ARENAL_HARDEN") != NULL || getenv("ARENAL_TRACE_FILE") != NULL || is_on("ARENAL_GUARD_SAMPLE", "1"))
		SKIP("blocks of their own do not grow in place");
	char *wide = mallocx(512 * KIB, 0);
	memset(wide, 0x11, 512 * KIB);
	assert_int_equal(xallocx(wide, 128 * KIB, 0, 0), 128 * KIB);
	assert_int_equal(xallocx(wide, 256 * KIB, 0, MALLOCX_ZERO), 256 * KIB);
	for (size_t b = 0; b < 256 * KIB; b++) assert_int_equal(wide[b], b < 128 * KIB ? 0x11 : 0);
	dallocx(wide, 0);
}

static void blocks_pass_between_all_functions(void **state) {
	(void)state;
	for (size_t i = 0; i < 100; i++) {
		const size_t size = sample_size(i);
		free(mallocx(size, 0));
		dallocx(malloc(size), 0);
		sdallocx(malloc(size), size, 0);
		sdallocx(calloc(1, size), size, MALLOCX_TCACHE_NONE);
		void *aligned = NULL;
		assert_int_equal(posix_memalign(&aligned, 64, size), 0);
		aligned = rallocx(aligned, size + 100, 0);
		aligned = realloc(aligned, size);
		/* any size from what was asked for to what it has */
		void *block = mallocx(size, 0);
		sdallocx(block, sizes_are_exact() ? size : nallocx(size, 0), 0);
		free(aligned);
	}
	dallocx(unknown(NULL), 0);
}

static void *churn(void *seed) {
	unsigned char *blocks[64] = { NULL };
	unsigned random = (unsigned)(uintptr_t)seed;
	for (int i = 0; i < 20000; i++) {
		random = random * 1103515245 + 12345;
		const unsigned slot = random >> 16 & 63, kind = random >> 22 & 7;
		const size_t size = 1 + (random >> 12 & (kind == 0 ? 0x3ffff : 0x7ff));
		const int flags = kind == 1 ? MALLOCX_ALIGN(128) : kind == 2 ? MALLOCX_ZERO : kind == 3 ? MALLOCX_ARENA(0) : 0;
		if (blocks[slot] == NULL) {
			blocks[slot] = mallocx(size, flags);
			blocks[slot][0] = (unsigned char)slot;
		} else if (kind == 4) {
			blocks[slot] = rallocx(blocks[slot], size, 0);
		} else {
			if (blocks[slot][0] != slot) return "another thread's block";
			dallocx(blocks[slot], 0);
			blocks[slot] = NULL;
		}
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++) dallocx(blocks[i], 0);
	return NULL;
}

static void threads_do_all_of_it(void **state) {
	(void)state;
	pthread_t threads[4];
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(uintptr_t)(i + 1)), 0);
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		void *wrong;
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
}

/* This program is linked with libjemalloc. All of it is ours all the same. */
static void all_is_from_arenal(void **state) {
	(void)state;
	const char *version = READ(const char *, "version");
	assert_non_null(strstr(version, "arenal"));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_is_from_arenal),
		cmocka_unit_test(nallocx_tells_the_size),
		cmocka_unit_test(good_sizes_stay),
		cmocka_unit_test(absurd_sizes_have_no_block),
		cmocka_unit_test(zeroed_blocks_read_as_zero),
		cmocka_unit_test(rallocx_keeps_and_zeroes),
		cmocka_unit_test(xallocx_stays_in_its_place),
		cmocka_unit_test(xallocx_grows_runs),
		cmocka_unit_test(blocks_pass_between_all_functions),
		cmocka_unit_test(threads_do_all_of_it),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
