/* malloc and free: every size, the limits, errno, C23's sized free, and what the libc itself allocates. */
#include "stamp.h"
#include "support.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static int compare_pointers(const void *a, const void *b) {
	uintptr_t left = *(const uintptr_t *)a, right = *(const uintptr_t *)b;

	return (left > right) - (left < right);
}

static void zero_size_blocks_are_unique(void **state) {
	(void)state;
	void *blocks[4000];

	for (size_t i = 0; i < COUNT_OF(blocks); i += 4) {
		blocks[i] = malloc(hidden(0));
		blocks[i + 1] = calloc(hidden(0), 8);
		blocks[i + 2] = calloc(8, hidden(0));
		blocks[i + 3] = realloc(NULL, hidden(0));
	}
	qsort(blocks, COUNT_OF(blocks), sizeof blocks[0], compare_pointers);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		assert_non_null(blocks[i]);
		if (i > 0)
			assert_ptr_not_equal(blocks[i], blocks[i - 1]);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
}

/* More than there are addresses without memory. On each, a search for a free one would take seconds in all. */
static void a_million_blocks_of_no_bytes_cost_little(void **state) {
	enum { MANY = 1400000 };
	void **blocks = malloc(MANY * sizeof *blocks);
	const clock_t start = clock();

	(void)state;
	assert_non_null(blocks);
	for (size_t i = 0; i < MANY; i++) {
		blocks[i] = malloc(hidden(0));
		assert_non_null(blocks[i]);
	}
	assert_true(clock() - start < 2 * CLOCKS_PER_SEC);
	for (size_t i = 0; i < MANY; i++)
		free(blocks[i]);
	/* All of them can be had again. */
	blocks[0] = malloc(hidden(0));
	assert_int_equal(malloc_usable_size(blocks[0]), 0);
	free(blocks[0]);
	free(blocks);
}

static void every_size_is_aligned_and_holds_its_contents(void **state) {
	(void)state;
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 100 * MIB; i++) {
		void *block = malloc(size);

		assert_non_null(block);
		assert_int_equal((uintptr_t)block % alignof(max_align_t), 0);
		assert_int_equal((uintptr_t)block % 16, 0);
		stamp_block(block, size, i);
		assert_true(stamp_intact(block, size, i));
		free(block);
	}
}

/* A few thousand live blocks of all sizes, of which a random half is replaced again and again. */
static void live_blocks_never_overlap(void **state) {
	(void)state;
	enum { BLOCKS = 6000, ROUNDS = 12 };
	static struct {
		void *block;
		size_t size;
	} live[BLOCKS];
	unsigned random = 1;

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < BLOCKS; i++) {
			random = random * 1103515245u + 12345u;
			if (live[i].block) {
				assert_true(stamp_intact(live[i].block, live[i].size, i));
				if (random >> 16 & 1)
					continue;
				free(live[i].block);
			}
			/* Sizes up to 64 KiB, and now and then up to 1 MiB. */
			size_t index = (random >> 17) % (i % 100 ? 180 : 232);
			live[i].size = sample_size(index);
			live[i].block = malloc(live[i].size);
			assert_non_null(live[i].block);
			assert_int_equal((uintptr_t)live[i].block % 16, 0);
			stamp_block(live[i].block, live[i].size, i);
		}
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		assert_true(stamp_intact(live[i].block, live[i].size, i));
		free(live[i].block);
	}
}

static void impossible_sizes_fail_with_enomem(void **state) {
	(void)state;
	size_t limit = PTRDIFF_MAX;
	size_t sizes[] = {
		limit, limit + 1, limit + 2, limit + 4096, SIZE_MAX / 4 * 3, SIZE_MAX - 65536, SIZE_MAX - 4096,
		SIZE_MAX - 4095, SIZE_MAX - 64, SIZE_MAX - 17, SIZE_MAX - 16, SIZE_MAX - 15, SIZE_MAX - 8, SIZE_MAX - 1, SIZE_MAX,
	};

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		errno = 0;
		assert_null(malloc(hidden(sizes[i])));
		assert_int_equal(errno, ENOMEM);
		errno = 0;
		assert_null(calloc(1, hidden(sizes[i])));
		assert_int_equal(errno, ENOMEM);

		void *block = malloc(100);
		assert_non_null(block);
		stamp_block(block, 100, i);
		assert_true(stamp_intact(block, 100, i));
		free(block);
	}
}

static void free_keeps_errno(void **state) {
	(void)state;
	size_t size;

	for (size_t i = 0; (size = sample_size(i)) <= 100 * MIB; i++) {
		void *block = malloc(size);
		void *neighbour = malloc(size);

		assert_non_null(block);
		assert_non_null(neighbour);
		errno = EXDEV;
		free(block);
		assert_int_equal(errno, EXDEV);
		free(neighbour);
		assert_int_equal(errno, EXDEV);
	}
}

static void free_of_null_does_nothing(void **state) {
	(void)state;
	errno = EXDEV;
	for (int i = 0; i < 1000; i++)
		free((void *)hidden(0));
	assert_int_equal(errno, EXDEV);
}

/* Memory that is freed serves again, at every size: many pairs do not grow the process. */
static void freed_memory_serves_again(void **state) {
	(void)state;
	static const size_t sizes[] = { 1, 24, 100, 1000, 5000, 20000, 40000, 70000, 150000, 400000, 3 * MIB, 50 * MIB };

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		/* Enough to use 2 GiB if nothing served twice. */
		size_t pairs = 2048 * MIB / sizes[i];
		pairs = pairs > 1000000 ? 1000000 : pairs;
		free(malloc(sizes[i]));
		size_t before = virtual_bytes();

		for (size_t n = 0; n < pairs; n++) {
			char *block = malloc(sizes[i]);
			assert_non_null(block);
			block[0] = 1;
			free(block);
		}
		assert_true(virtual_bytes() <= before + 256 * MIB);
		assert_true(resident_bytes() <= 256 * MIB);
	}
}

/* The same when whole batches are live at once, freed in the other order. */
static void freed_batches_serve_again(void **state) {
	(void)state;
	static const size_t sizes[] = { 16, 200, 3000, 10000, 33000, 100000, 300000, 5 * MIB };
	static void *blocks[10000];

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size_t count = 20 * MIB / sizes[i];
		count = count > COUNT_OF(blocks) ? COUNT_OF(blocks) : count;
		size_t before = virtual_bytes();

		for (int round = 0; round < 50; round++) {
			for (size_t n = 0; n < count; n++) {
				blocks[n] = malloc(sizes[i]);
				assert_non_null(blocks[n]);
				*(size_t *)blocks[n] = n;
			}
			for (size_t n = 0; n < count; n++) {
				size_t which = round % 2 ? n : count - 1 - n;
				assert_int_equal(*(size_t *)blocks[which], which);
				free(blocks[which]);
			}
		}
		assert_true(virtual_bytes() <= before + 256 * MIB);
	}
}

/* Newer than many a libc's header, so they are declared here. */
typedef void free_sized_function(void *, size_t);
typedef void free_aligned_sized_function(void *, size_t, size_t);

static void sized_free_frees(void **state) {
	(void)state;
	free_sized_function *free_sized = (free_sized_function *)find_function("free_sized");
	free_aligned_sized_function *free_aligned_sized = (free_aligned_sized_function *)find_function("free_aligned_sized");
	size_t before = virtual_bytes();
	size_t size;

	errno = EXDEV;
	free_sized(NULL, 0);
	free_sized(NULL, 100);
	free_aligned_sized(NULL, 64, 0);
	free_aligned_sized(NULL, 64, 128);
	for (int round = 0; round < 40; round++) {
		for (size_t i = 0; (size = sample_size(i)) <= 32 * MIB; i++) {
			void *plain = malloc(size), *zeroed = calloc(1, size), *moved = realloc(malloc(10), size);
			void *aligned = aligned_alloc(256, size);

			assert_non_null(plain);
			assert_non_null(zeroed);
			assert_non_null(moved);
			assert_non_null(aligned);
			errno = EXDEV;
			free_sized(plain, size);
			free_sized(zeroed, size);
			free_sized(moved, size);
			free_aligned_sized(aligned, 256, size);
			assert_int_equal(errno, EXDEV);
		}
	}
	assert_true(virtual_bytes() <= before + 512 * MIB);
}

typedef void cfree_function(void *);

static void cfree_frees(void **state) {
	(void)state;
	cfree_function *cfree = (cfree_function *)find_function("cfree");
	size_t before = virtual_bytes();

	errno = EXDEV;
	cfree(NULL);
	for (int i = 0; i < 2000; i++) {
		void *block = malloc(MIB);
		assert_non_null(block);
		errno = EXDEV;
		cfree(block);
		assert_int_equal(errno, EXDEV);
	}
	assert_true(virtual_bytes() <= before + 256 * MIB);
}

static void assert_ours(void *block, size_t at_least) {
	assert_non_null(block);
	assert_true(malloc_usable_size(block) >= at_least);
	free(block);
}

/* What the libc allocates for the program, the program frees: both sides must mean the same allocator. */
static void blocks_from_the_libc_can_be_freed(void **state) {
	(void)state;
	char *text = NULL, *line = NULL;
	size_t length = 0;

	assert_ours(strdup("to the heap"), 12);
	assert_ours(strndup("to the heap", 6), 7);
	assert_int_equal(asprintf(&text, "%0*d", 100000, 7), 100000);
	assert_ours(text, 100001);
	assert_ours(realpath("/", NULL), 2);
	assert_ours(getcwd(NULL, 0), 2);

	FILE *memory = open_memstream(&text, &length);
	assert_non_null(memory);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(putc('a' + i % 26, memory), 'a' + i % 26);
	assert_int_equal(putc('\n', memory), '\n');
	assert_int_equal(fclose(memory), 0);
	assert_int_equal(length, 100001);

	FILE *input = fmemopen(text, length, "r");
	size_t capacity = 0;
	assert_non_null(input);
	assert_int_equal(getline(&line, &capacity, input), 100001);
	assert_memory_equal(line, text, length);
	fclose(input);
	assert_ours(line, 100002);
	assert_ours(text, 100001);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_size_blocks_are_unique),
		cmocka_unit_test(a_million_blocks_of_no_bytes_cost_little),
		cmocka_unit_test(every_size_is_aligned_and_holds_its_contents),
		cmocka_unit_test(live_blocks_never_overlap),
		cmocka_unit_test(impossible_sizes_fail_with_enomem),
		cmocka_unit_test(free_keeps_errno),
		cmocka_unit_test(free_of_null_does_nothing),
		cmocka_unit_test(freed_memory_serves_again),
		cmocka_unit_test(freed_batches_serve_again),
		cmocka_unit_test(sized_free_frees),
		cmocka_unit_test(cfree_frees),
		cmocka_unit_test(blocks_from_the_libc_can_be_freed),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
