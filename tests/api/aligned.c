/* aligned_alloc, posix_memalign, memalign, valloc, pvalloc: alignments of 1 byte to 256 MiB, and what they refuse. */
#include "stamp.h"
#include "support.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Every way to ask for an alignment that is a power of two, at least that of a pointer. */
static void *with_posix_memalign(size_t alignment, size_t size) {
	void *block = NULL;

	assert_int_equal(posix_memalign(&block, alignment, size), 0);
	return block;
}

static void *with_aligned_alloc(size_t alignment, size_t size) {
	return aligned_alloc(alignment, size);
}

static void *with_memalign(size_t alignment, size_t size) {
	return memalign(alignment, size);
}

typedef void *allocate_function(size_t alignment, size_t size);
static allocate_function *const ways[] = { with_posix_memalign, with_aligned_alloc, with_memalign };

static void assert_aligned_and_usable(void *block, size_t alignment, size_t size) {
	assert_non_null(block);
	assert_int_equal((uintptr_t)block % alignment, 0);
	assert_true(malloc_usable_size(block) >= size);
	stamp_block(block, size, alignment);
	assert_true(stamp_intact(block, size, alignment));
}

static void every_alignment_with_many_sizes(void **state) {
	(void)state;
	for (size_t alignment = sizeof(void *); alignment <= 256 * MIB; alignment *= 2) {
		const size_t sizes[] = { 0, 1, 7, 16, 17, 100, 1000, 4097, 20000, 40000, 65537, 140000, 600000, 3 * MIB };

		for (size_t i = 0; i < COUNT_OF(sizes); i++) {
			for (size_t way = 0; way < COUNT_OF(ways); way++) {
				void *block = ways[way](alignment, sizes[i]);
				assert_aligned_and_usable(block, alignment, sizes[i]);
				errno = EXDEV;
				free(block);
				assert_int_equal(errno, EXDEV);
			}
		}
	}
}

/* Sizes next to the alignment and its multiples. */
static void sizes_around_the_alignment(void **state) {
	(void)state;
	for (size_t alignment = 16; alignment <= 4 * MIB; alignment *= 2) {
		for (size_t times = 1; times <= 3; times++) {
			for (size_t size = times * alignment - 1; size <= times * alignment + 1; size++) {
				void *block = aligned_alloc(alignment, size);
				assert_aligned_and_usable(block, alignment, size);
				free(block);
			}
		}
	}
}

static void live_aligned_blocks_never_overlap(void **state) {
	(void)state;
	enum { BLOCKS = 600 };
	void *blocks[BLOCKS];

	for (size_t alignment = 8; alignment <= 256 * KIB; alignment *= 2) {
		for (int round = 0; round < 3; round++) {
			for (size_t i = 0; i < BLOCKS; i++) {
				size_t size = sample_size(i % 160);

				blocks[i] = i % 4 ? aligned_alloc(alignment, size) : malloc(size);
				assert_non_null(blocks[i]);
				assert_int_equal((uintptr_t)blocks[i] % (i % 4 ? alignment : 16), 0);
				stamp_block(blocks[i], size, i);
			}
			for (size_t i = 0; i < BLOCKS; i++) {
				assert_true(stamp_intact(blocks[i], sample_size(i % 160), i));
				free(blocks[i]);
			}
		}
	}
}

/* More than one region of 64 MiB, with alignments as large as it and larger. */
static void several_blocks_of_huge_alignment_live_together(void **state) {
	(void)state;
	for (size_t alignment = 16 * MIB; alignment <= 256 * MIB; alignment *= 2) {
		void *blocks[6];

		for (size_t i = 0; i < COUNT_OF(blocks); i++) {
			blocks[i] = memalign(alignment, 100000 * (i + 1));
			assert_non_null(blocks[i]);
			assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
			stamp_block(blocks[i], 100000 * (i + 1), i);
		}
		for (size_t i = 0; i < COUNT_OF(blocks); i++) {
			assert_true(stamp_intact(blocks[i], 100000 * (i + 1), i));
			free(blocks[i]);
		}
	}
}

static void aligned_memory_serves_again(void **state) {
	(void)state;
	size_t before = virtual_bytes();

	for (size_t alignment = 16; alignment <= 256 * MIB; alignment *= 2) {
		for (int i = 0; i < 300; i++) {
			char *block = memalign(alignment, 300000);
			assert_non_null(block);
			block[0] = 1;
			free(block);
		}
	}
	assert_true(virtual_bytes() <= before + 1024 * MIB);
	assert_true(resident_bytes() <= 256 * MIB);
}

static void posix_memalign_refuses_bad_alignments(void **state) {
	(void)state;
	static const size_t bad[] = { 0, 1, 2, 3, 4, 7, 9, 12, 24, 48, 100, 4095, 4097, 3 * MIB, SIZE_MAX, SIZE_MAX / 2 };

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		void *block = &block;

		assert_int_equal(posix_memalign(&block, hidden(bad[i]), 100), EINVAL);
		assert_ptr_equal(block, &block);
	}
}

static void aligned_alloc_refuses_bad_alignments(void **state) {
	(void)state;
	static const size_t bad[] = { 0, 3, 5, 24, 100, 4097, 3 * MIB, SIZE_MAX };

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		errno = 0;
		assert_null(aligned_alloc(hidden(bad[i]), 100));
		assert_int_equal(errno, EINVAL);
	}
	/* Smaller than any block's alignment, but powers of two. */
	for (size_t alignment = 1; alignment < 16; alignment *= 2) {
		void *block = aligned_alloc(hidden(alignment), 100);
		assert_aligned_and_usable(block, 16, 100);
		free(block);
	}
}

/* As in glibc: other alignments are rounded up to a power of two. */
static void memalign_rounds_bad_alignments_up(void **state) {
	(void)state;
	static const size_t alignments[][2] = {
		{ 0, 16 },      { 1, 16 },      { 3, 16 },         { 9, 16 },          { 17, 32 },
		{ 24, 32 },     { 33, 64 },     { 100, 128 },      { 4095, 4096 },     { 4097, 8192 },
		{ 5000, 8192 }, { 65537, 131072 }, { 3 * MIB, 4 * MIB }, { 65 * MIB, 128 * MIB },
	};

	for (size_t i = 0; i < COUNT_OF(alignments); i++) {
		/* Several, as one could be aligned by chance. */
		void *blocks[8];

		for (size_t n = 0; n < COUNT_OF(blocks); n++) {
			blocks[n] = memalign(hidden(alignments[i][0]), 1000);
			assert_aligned_and_usable(blocks[n], alignments[i][1], 1000);
		}
		for (size_t n = 0; n < COUNT_OF(blocks); n++)
			free(blocks[n]);
	}
	errno = 0;
	assert_null(memalign(hidden(SIZE_MAX / 2 + 2), 100));
	assert_int_equal(errno, EINVAL);
}

/* Size and alignment together are too much, in sums that overflow and in sums that do not. */
static void impossible_requests_fail_with_enomem(void **state) {
	(void)state;
	static const size_t requests[][2] = {
		{ 16, SIZE_MAX },           { 16, (size_t)PTRDIFF_MAX },       { 64, SIZE_MAX - 63 },
		{ 4096, SIZE_MAX - 4095 },  { 4096, (size_t)PTRDIFF_MAX + 1 }, { MIB, SIZE_MAX - 100 },
		{ MIB, SIZE_MAX - MIB },    { MIB, PTRDIFF_MAX - MIB },        { 64 * MIB, SIZE_MAX - 64 * MIB + 1 },
		{ 256 * MIB, SIZE_MAX / 2 }, { (size_t)1 << 62, 1 },           { SIZE_MAX / 2 + 1, 1 },
		{ SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1 },
	};

	for (size_t i = 0; i < COUNT_OF(requests); i++) {
		size_t alignment = hidden(requests[i][0]), size = hidden(requests[i][1]);
		void *block = &block;

		errno = 0;
		assert_null(aligned_alloc(alignment, size));
		assert_int_equal(errno, ENOMEM);
		errno = 0;
		assert_null(memalign(alignment, size));
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(posix_memalign(&block, alignment, size), ENOMEM);
		assert_ptr_equal(block, &block);
	}
	errno = 0;
	assert_null(valloc(hidden(SIZE_MAX)));
	assert_int_equal(errno, ENOMEM);
	errno = 0;
	assert_null(pvalloc(hidden(SIZE_MAX)));
	assert_int_equal(errno, ENOMEM);
	errno = 0;
	assert_null(pvalloc(hidden(SIZE_MAX - 4095)));
	assert_int_equal(errno, ENOMEM);
	every_alignment_with_many_sizes(state);
}

static void valloc_and_pvalloc_give_pages(void **state) {
	(void)state;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 4 * MIB; i++) {
		void *block = valloc(size), *pages = pvalloc(size);
		size_t rounded = (size + page - 1) / page * page;

		assert_aligned_and_usable(block, page, size);
		assert_aligned_and_usable(pages, page, rounded);
		assert_true(stamp_intact(block, size, page));
		free(block);
		free(pages);
	}
	void *none = valloc(hidden(0)), *neither = pvalloc(hidden(0));
	assert_aligned_and_usable(none, page, 0);
	assert_aligned_and_usable(neither, page, 0);
	assert_ptr_not_equal(none, neither);
	free(none);
	free(neither);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_alignment_with_many_sizes),
		cmocka_unit_test(sizes_around_the_alignment),
		cmocka_unit_test(live_aligned_blocks_never_overlap),
		cmocka_unit_test(several_blocks_of_huge_alignment_live_together),
		cmocka_unit_test(aligned_memory_serves_again),
		cmocka_unit_test(posix_memalign_refuses_bad_alignments),
		cmocka_unit_test(aligned_alloc_refuses_bad_alignments),
		cmocka_unit_test(memalign_rounds_bad_alignments_up),
		cmocka_unit_test(impossible_requests_fail_with_enomem),
		cmocka_unit_test(valloc_and_pvalloc_give_pages),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
