/* malloc_usable_size: at least what was asked for, all of it the program's, and not wastefully much. */
#include "stamp.h"
#include "support.h"

#include <malloc.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static void null_has_no_size(void **state) {
	(void)state;
	assert_int_equal(malloc_usable_size((void *)hidden(0)), 0);
}

static void blocks_of_no_size_have_a_size(void **state) {
	(void)state;
	void *block = malloc(hidden(0));
	size_t usable = malloc_usable_size(block);

	stamp_block(block, usable, 1);
	assert_true(stamp_intact(block, usable, 1));
	free(block);
}

/* All usable bytes of many neighbours are written, and read back afterwards. */
static void whole_usable_range_belongs_to_the_block(void **state) {
	(void)state;
	enum { BLOCKS = 100 };
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 32 * MIB; i++) {
		size_t count = size <= 65536 ? BLOCKS : size <= 2 * MIB ? 10 : 3;
		void *blocks[BLOCKS];

		for (size_t n = 0; n < count; n++) {
			/* One in three through each of the ways a block can come about. */
			blocks[n] = n % 3 == 0 ? malloc(size) : n % 3 == 1 ? calloc(size, 1) : aligned_alloc(64, size);
			assert_non_null(blocks[n]);
			assert_true(malloc_usable_size(blocks[n]) >= size);
			stamp_block(blocks[n], malloc_usable_size(blocks[n]), n);
		}
		for (size_t n = 0; n < count; n++) {
			assert_true(stamp_intact(blocks[n], malloc_usable_size(blocks[n]), n));
			free(blocks[n]);
		}
	}
}

static void size_follows_realloc(void **state) {
	(void)state;
	void *block = NULL;
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 32 * MIB; i++) {
		block = realloc(block, size);
		assert_non_null(block);
		assert_true(malloc_usable_size(block) >= size);
		stamp_block(block, malloc_usable_size(block), i);
		assert_true(stamp_intact(block, malloc_usable_size(block), i));
	}
	/* A block that shrank to next to nothing does not keep 32 MiB. */
	block = realloc(block, 100);
	assert_non_null(block);
	assert_true(malloc_usable_size(block) < 4096);
	free(block);
}

static void rounding_is_bounded(void **state) {
	(void)state;
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 100 * MIB; i++) {
		void *block = malloc(size);

		assert_non_null(block);
		assert_true(malloc_usable_size(block) <= size + size / 3 + 32 || size > 16384);
		assert_true(malloc_usable_size(block) <= size + size / 3 + 65536);
		free(block);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(null_has_no_size),
		cmocka_unit_test(blocks_of_no_size_have_a_size),
		cmocka_unit_test(whole_usable_range_belongs_to_the_block),
		cmocka_unit_test(size_follows_realloc),
		cmocka_unit_test(rounding_is_bounded),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
