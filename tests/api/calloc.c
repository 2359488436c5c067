/* calloc: zeroed memory, recycled or fresh, and the overflow of count times size. */
#include "stamp.h"
#include "support.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static void every_size_is_zero(void **state) {
	(void)state;
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 100 * MIB; i++) {
		void *block = calloc(1, size);

		assert_non_null(block);
		assert_int_equal((uintptr_t)block % 16, 0);
		assert_true(holds_only(block, size, 0));
		free(block);
	}
}

/* Dirties blocks of one size, frees them, and expects zeroes from as many callocs. */
static void expect_zero_after_use(size_t size, size_t count) {
	void *blocks[64];

	for (size_t n = 0; n < count; n++) {
		blocks[n] = malloc(size);
		assert_non_null(blocks[n]);
		memset(blocks[n], 0xA5, malloc_usable_size(blocks[n]));
	}
	for (size_t n = 0; n < count; n++)
		free(blocks[n]);
	for (size_t n = 0; n < count; n++) {
		/* As one element, as bytes, and as something between. */
		size_t elements = n % 3 == 0 ? 1 : n % 3 == 1 ? size : (size + 7) / 8;
		size_t each = (size + elements - 1) / elements;

		blocks[n] = calloc(elements, each);
		assert_non_null(blocks[n]);
		assert_true(holds_only(blocks[n], elements * each, 0));
		memset(blocks[n], 0x5A, elements * each);
	}
	for (size_t n = 0; n < count; n++)
		free(blocks[n]);
}

static void recycled_memory_is_zero(void **state) {
	(void)state;
	size_t size;

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; (size = sample_size(i)) <= (round ? 3 * MIB : 48 * MIB); i++)
			expect_zero_after_use(size, size <= 65536 ? 64 : size <= MIB ? 8 : 2);
	}
}

/* The kernel zeroes what a trim gave back: only that, and only then. */
static void memory_is_zero_after_a_trim(void **state) {
	(void)state;
	static const size_t sizes[] = { 40, 500, 3000, 4096, 9000, 40000, 65536, 100000, 500000, 3 * MIB };
	void *dirty[400];

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size_t count = sizes[i] > 65536 ? 10 : COUNT_OF(dirty);

		for (size_t n = 0; n < count; n++) {
			dirty[n] = malloc(sizes[i]);
			assert_non_null(dirty[n]);
			memset(dirty[n], 0xA5, sizes[i]);
		}
		/* Holes, so that pages inside partly used runs are given back too; what stays must stay. */
		for (size_t n = 0; n < count; n++) {
			if (n % 7)
				free(dirty[n]);
		}
		malloc_trim(0);
		for (size_t n = 0; n < count; n++) {
			if (n % 7) {
				dirty[n] = calloc(1, sizes[i]);
				assert_non_null(dirty[n]);
				assert_true(holds_only(dirty[n], sizes[i], 0));
			} else {
				assert_true(holds_only(dirty[n], sizes[i], 0xA5));
			}
		}
		for (size_t n = 0; n < count; n++)
			free(dirty[n]);
	}
}

/* realloc leaves dirt in other places than free does: behind a block that shrank, and where it lay before it moved. */
static void memory_is_zero_after_reallocs(void **state) {
	(void)state;
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 12 * MIB; i++) {
		char *block = malloc(size);

		assert_non_null(block);
		memset(block, 0xA5, size);
		block = realloc(block, size / 4 + 1);
		assert_non_null(block);
		expect_zero_after_use(size / 2 + 1, 2);
		block = realloc(block, 2 * size);
		assert_non_null(block);
		memset(block, 0xA5, 2 * size);
		expect_zero_after_use(size, 2);
		free(block);
	}
}

static void *dirty_and_free(void *argument) {
	void **blocks = argument;

	for (size_t n = 0; n < 64; n++) {
		memset(blocks[n], 0xA5, malloc_usable_size(blocks[n]));
		free(blocks[n]);
	}
	return NULL;
}

static void memory_that_another_thread_freed_is_zero(void **state) {
	(void)state;
	static const size_t sizes[] = { 16, 100, 1000, 5000, 20000, 60000, 200000, 2 * MIB };

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		void *blocks[64];
		pthread_t thread;

		for (size_t n = 0; n < 64; n++) {
			blocks[n] = malloc(sizes[i]);
			assert_non_null(blocks[n]);
		}
		assert_int_equal(pthread_create(&thread, NULL, dirty_and_free, blocks), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		for (size_t n = 0; n < 64; n++) {
			blocks[n] = calloc(sizes[i], 1);
			assert_non_null(blocks[n]);
			assert_true(holds_only(blocks[n], sizes[i], 0));
		}
		for (size_t n = 0; n < 64; n++)
			free(blocks[n]);
	}
}

static void products_that_overflow_fail_with_enomem(void **state) {
	(void)state;
	static const struct {
		size_t count, size;
	} products[] = {
		{ SIZE_MAX, SIZE_MAX },
		{ SIZE_MAX, 2 },
		{ 2, SIZE_MAX },
		{ SIZE_MAX / 2, 3 },
		{ SIZE_MAX / 2 + 1, 2 }, /* 0 when it wraps */
		{ SIZE_MAX / 16 + 1, 16 },
		{ SIZE_MAX / 16 + 2, 16 }, /* 16 when it wraps */
		{ (size_t)1 << 32, (size_t)1 << 32 },
		{ ((size_t)1 << 32) + 1, ((size_t)1 << 32) - 1 }, /* fits, but beyond PTRDIFF_MAX */
		{ PTRDIFF_MAX, 2 },
		{ (size_t)PTRDIFF_MAX / 2 + 1, 2 },
		{ 2, (size_t)PTRDIFF_MAX / 2 + 1 },
		{ 1, (size_t)PTRDIFF_MAX + 1 },
	};

	for (size_t i = 0; i < COUNT_OF(products); i++) {
		errno = 0;
		assert_null(calloc(hidden(products[i].count), hidden(products[i].size)));
		assert_int_equal(errno, ENOMEM);
	}
	void *block = calloc(10, 10);
	assert_non_null(block);
	assert_true(holds_only(block, 100, 0));
	free(block);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_is_zero),
		cmocka_unit_test(recycled_memory_is_zero),
		cmocka_unit_test(memory_is_zero_after_a_trim),
		cmocka_unit_test(memory_is_zero_after_reallocs),
		cmocka_unit_test(memory_that_another_thread_freed_is_zero),
		cmocka_unit_test(products_that_overflow_fail_with_enomem),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
