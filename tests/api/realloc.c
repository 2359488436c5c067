/* realloc and reallocarray: contents across all sizes, the special arguments, and failure. */
#include "stamp.h"
#include "support.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* Resizes a stamped block; the part that both sizes have must be kept, then the whole is stamped anew. */
static void *resize_stamped(void *block, size_t from, size_t to) {
	uint64_t key = stamp_key(block, from, 1);
	void *moved = realloc(block, to);

	assert_non_null(moved);
	assert_int_equal((uintptr_t)moved % 16, 0);
	assert_true(stamp_holds(moved, from < to ? from : to, key));
	stamp_block(moved, to, 1);
	return moved;
}

static void *new_stamped(size_t size) {
	void *block = malloc(size);

	assert_non_null(block);
	stamp_block(block, size, 1);
	return block;
}

static void contents_are_kept_between_all_pairs_of_sizes(void **state) {
	(void)state;
	static const size_t sizes[] = {
		1, 16, 17, 40, 100, 256, 1000, 1024, 2049, 4095, 8192, 10000, 16384, 16400, 32768, 32800, 40000, 65536, 65552,
		100000, 131072, 140000, 262144, 300000, 524288, MIB, MIB + 1, 2 * MIB, 4 * MIB + 4097,
	};

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		for (size_t j = 0; j < COUNT_OF(sizes); j++) {
			void *before = new_stamped(sizes[i]);
			void *block = new_stamped(sizes[i]);
			void *after = new_stamped(sizes[i]);

			block = resize_stamped(block, sizes[i], sizes[j]);
			block = resize_stamped(block, sizes[j], sizes[i]);
			assert_true(stamp_intact(before, sizes[i], 1));
			assert_true(stamp_intact(after, sizes[i], 1));
			free(before);
			free(block);
			free(after);
		}
	}
}

static void contents_are_kept_up_to_100_mb_and_back(void **state) {
	(void)state;
	size_t sizes[] = { 16, 1000, 30000, 60000, 200000, 3 * MIB, 31 * MIB, 33 * MIB, 63 * MIB, 65 * MIB, 100 * MIB };
	size_t last = COUNT_OF(sizes) - 1;
	void *block = new_stamped(sizes[0]);

	for (size_t i = 0; i < last; i++)
		block = resize_stamped(block, sizes[i], sizes[i + 1]);
	for (size_t i = last; i > 0; i--)
		block = resize_stamped(block, sizes[i], sizes[i - 1]);
	/* And in one step, both ways. */
	block = resize_stamped(block, sizes[0], sizes[last]);
	block = resize_stamped(block, sizes[last], sizes[0]);
	free(block);
}

static void contents_are_kept_byte_by_byte(void **state) {
	(void)state;
	enum { LARGEST = 5000 };
	void *block = new_stamped(1);

	for (size_t size = 1; size < LARGEST; size++)
		block = resize_stamped(block, size, size + 1);
	for (size_t size = LARGEST; size > 1; size--)
		block = resize_stamped(block, size, size - 1);
	free(block);
}

/* Several blocks grow at the same time, as the buffers of a server do, so that they get in each other's way. */
static void blocks_grow_side_by_side(void **state) {
	(void)state;
	enum { BLOCKS = 20 };
	void *blocks[BLOCKS];
	size_t size = 10;

	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = new_stamped(size);
	while (size < 3 * MIB) {
		size_t next = size + size / 3 + 1;
		for (size_t i = 0; i < BLOCKS; i++)
			blocks[i] = resize_stamped(blocks[i], size, next);
		size = next;
	}
	while (size > 10) {
		size_t next = size - size / 4 - 1;
		for (size_t i = 0; i < BLOCKS; i++)
			blocks[i] = resize_stamped(blocks[i], size, next);
		size = next;
	}
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
}

/* Blocks that aligned_alloc made can be resized; the result only has malloc's alignment. */
static void contents_of_aligned_blocks_are_kept(void **state) {
	(void)state;
	for (size_t alignment = 16; alignment <= 64 * MIB; alignment *= 2) {
		static const size_t sizes[] = { 10, 100, 5000, 70000, 300000 };

		for (size_t i = 0; i < COUNT_OF(sizes); i++) {
			void *block = aligned_alloc(alignment, sizes[i]);

			assert_non_null(block);
			stamp_block(block, sizes[i], 1);
			block = resize_stamped(block, sizes[i], sizes[i] * 3);
			block = resize_stamped(block, sizes[i] * 3, sizes[i] / 3);
			free(block);
		}
	}
}

static void null_means_malloc(void **state) {
	(void)state;
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 16 * MIB; i++) {
		void *block = realloc(NULL, size);

		assert_non_null(block);
		assert_int_equal((uintptr_t)block % 16, 0);
		stamp_block(block, size, i);
		assert_true(stamp_intact(block, size, i));
		free(block);
	}
}

/* As in libc: for glibc, size 0 frees the block; musl returns one. */
static void expect_of_zero(void *block) {
#ifdef __GLIBC__
	assert_null(block);
#else
	assert_non_null(block);
	free(block);
#endif
}

static void zero_frees(void **state) {
	(void)state;
	static const size_t sizes[] = { 1, 100, 5000, 70000, 300000, 5 * MIB };
	size_t before = virtual_bytes();

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		for (size_t n = 0; n < 2000; n++) {
			void *block = malloc(sizes[i]);
			assert_non_null(block);
			expect_of_zero(realloc(block, hidden(0)));
			block = malloc(sizes[i]);
			assert_non_null(block);
			expect_of_zero(reallocarray(block, hidden(0), 8));
			block = malloc(sizes[i]);
			assert_non_null(block);
			expect_of_zero(reallocarray(block, 8, hidden(0)));
		}
	}
	assert_true(virtual_bytes() <= before + 256 * MIB);
}

static void failure_keeps_the_block(void **state) {
	(void)state;
	static const size_t sizes[] = { 1, 100, 5000, 40000, 70000, 300000, 5 * MIB, 70 * MIB };
	const size_t limit = PTRDIFF_MAX;
	const size_t too_large[] = { limit, limit + 1, SIZE_MAX - 4096, SIZE_MAX - 16, SIZE_MAX - 15, SIZE_MAX };

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		void *block = new_stamped(sizes[i]);

		for (size_t j = 0; j < COUNT_OF(too_large); j++) {
			errno = 0;
			assert_null(realloc(block, hidden(too_large[j])));
			assert_int_equal(errno, ENOMEM);
			errno = 0;
			assert_null(reallocarray(block, hidden(too_large[j]), 1));
			assert_int_equal(errno, ENOMEM);
			errno = 0;
			assert_null(reallocarray(block, hidden(too_large[j]), hidden(too_large[j])));
			assert_int_equal(errno, ENOMEM);
		}
		assert_true(stamp_intact(block, sizes[i], 1));
		block = resize_stamped(block, sizes[i], sizes[i] * 2);
		free(block);
	}
	errno = 0;
	assert_null(realloc(NULL, hidden(SIZE_MAX)));
	assert_int_equal(errno, ENOMEM);
}

static void reallocarray_multiplies(void **state) {
	(void)state;
	void *block = reallocarray(NULL, 30, 7);

	assert_non_null(block);
	assert_true(malloc_usable_size(block) >= 210);
	stamp_block(block, 210, 1);
	uint64_t key = stamp_key(block, 210, 1);
	block = reallocarray(block, 10000, 300);
	assert_non_null(block);
	assert_true(malloc_usable_size(block) >= 3000000);
	assert_true(stamp_holds(block, 210, key));
	block = reallocarray(block, 3, 5);
	assert_non_null(block);
	assert_true(stamp_holds(block, 15, key));

	static const size_t overflowing[][2] = {
		{ SIZE_MAX, 2 },
		{ 2, SIZE_MAX },
		{ SIZE_MAX / 2 + 1, 2 },
		{ SIZE_MAX / 16 + 2, 16 },
		{ (size_t)1 << 32, (size_t)1 << 32 },
	};
	for (size_t i = 0; i < COUNT_OF(overflowing); i++) {
		errno = 0;
		assert_null(reallocarray(block, hidden(overflowing[i][0]), hidden(overflowing[i][1])));
		assert_int_equal(errno, ENOMEM);
		errno = 0;
		assert_null(reallocarray(NULL, hidden(overflowing[i][0]), hidden(overflowing[i][1])));
		assert_int_equal(errno, ENOMEM);
		assert_true(stamp_holds(block, 15, key));
	}
	free(block);
}

struct relay {
	void *block;
	size_t from, to;
};

static void *resize_here(void *argument) {
	struct relay *relay = argument;

	relay->block = realloc(relay->block, relay->to);
	return NULL;
}

/* A block that one thread allocated is resized by others, which exit afterwards. */
static void other_threads_may_resize(void **state) {
	(void)state;
	static const size_t sizes[] = { 20, 300, 2000, 30000, 100000, 3 * MIB, 100, 70000, 5000, 10 };
	struct relay relay = { new_stamped(16), 16, 0 };
	uint64_t key = stamp_key(relay.block, 16, 1);

	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < COUNT_OF(sizes); i++) {
			pthread_t thread;

			relay.to = sizes[i];
			assert_int_equal(pthread_create(&thread, NULL, resize_here, &relay), 0);
			assert_int_equal(pthread_join(thread, NULL), 0);
			assert_non_null(relay.block);
			assert_true(stamp_holds(relay.block, relay.from < relay.to ? relay.from : relay.to, key));
			relay.from = relay.to;
			stamp_block(relay.block, relay.to, 1);
			key = stamp_key(relay.block, relay.to, 1);
		}
	}
	free(relay.block);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(contents_are_kept_between_all_pairs_of_sizes),
		cmocka_unit_test(contents_are_kept_up_to_100_mb_and_back),
		cmocka_unit_test(contents_are_kept_byte_by_byte),
		cmocka_unit_test(blocks_grow_side_by_side),
		cmocka_unit_test(contents_of_aligned_blocks_are_kept),
		cmocka_unit_test(null_means_malloc),
		cmocka_unit_test(zero_frees),
		cmocka_unit_test(failure_keeps_the_block),
		cmocka_unit_test(reallocarray_multiplies),
		cmocka_unit_test(other_threads_may_resize),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
