/* vm.max_map_count: a process that can have no more mappings, nor split one. */
#include "all_kinds.h"
#include "stamp.h"
#include "support.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Enough that no mapping can be added or split; they are unmapped again through `maps`. */
static size_t fill_map_count(char *maps, size_t pages) {
	size_t made = 0;

	/* Every other page is of another kind, and so a mapping of its own. */
	while (made < pages && mprotect(maps + 2 * made * 4096, 4096, PROT_READ) == 0)
		made++;
	return made;
}

static void run_out_of_mappings(void *unused) {
	const size_t pages = 40000;
	char *maps = mmap(NULL, 2 * pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct {
		char *address;
		size_t size;
	} before[60], after[600] = { { NULL, 0 } };
	size_t failures = 0;

	(void)unused;
	CHILD_CHECK(maps != MAP_FAILED);
	for (size_t i = 0; i < COUNT_OF(before); i++) {
		before[i].size = sample_size(i * 3) + (i % 10 == 0) * 3 * MIB;
		before[i].address = malloc(before[i].size);
		stamp_block(before[i].address, before[i].size, 1);
	}
	CHILD_CHECK(fill_map_count(maps, pages) < pages);
	for (size_t i = 0; i < COUNT_OF(after); i++) {
		size_t size = after[i].size = sample_size(i % 150) + (i % 20 == 0) * 2 * MIB;
		errno = 0;
		char *block = after[i].address = i % 3 ? malloc(size) : aligned_alloc(64 * KIB << i % 4, size);
		if (block)
			stamp_block(block, size, 2);
		else
			CHILD_CHECK(errno == ENOMEM);
		failures += !block;
	}
	/* There is the break; but the kernel refuses that too, when the last mapping that was to be had is
	 * taken. */
	bool break_moves = sbrk(4096) != (void *)-1;
	CHILD_CHECK(!break_moves || failures < COUNT_OF(after) / 4);
	for (size_t i = 0; i < COUNT_OF(before); i++) {
		CHILD_CHECK(stamp_intact(before[i].address, before[i].size, 1));
		uint64_t key = stamp_key(before[i].address, before[i].size, 1);
		char *moved = realloc(before[i].address, before[i].size * 2);
		CHILD_CHECK(stamp_holds(moved ? moved : before[i].address, before[i].size, key));
		errno = EXDEV;
		free(moved ? moved : before[i].address);
		CHILD_CHECK(errno == EXDEV);
	}
	for (size_t i = 0; i < COUNT_OF(after); i++) {
		CHILD_CHECK(!after[i].address || stamp_intact(after[i].address, after[i].size, 2));
		free(after[i].address);
	}
	malloc_trim(0);
	CHILD_CHECK(munmap(maps, 2 * pages * 4096) == 0);
	work_in_two_threads();
}

/* Blocks of `least`, `least` + `step`, ... bytes: of these, every other one is freed and had again when no
 * mapping can be added. */
struct sizes {
	size_t count, least, step;
};

enum { BLOCKS_MOST = 2000 };

static void have_sizes_again(void *argument) {
	const struct sizes *sizes = argument;
	const size_t pages = 40000, half = sizes->count / 2;
	static char *blocks[BLOCKS_MOST];
	char *maps = mmap(NULL, 2 * pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHILD_CHECK(maps != MAP_FAILED);
	for (size_t i = 0; i < sizes->count; i++) {
		blocks[i] = malloc(sizes->least + i * sizes->step);
		CHILD_CHECK(blocks[i]);
		/* Of long blocks not each page: the test would take long. */
		memset(blocks[i], (int)i, sizes->step);
	}
	CHILD_CHECK(fill_map_count(maps, pages) < pages);
	for (size_t i = 0; i < sizes->count; i += 2)
		free(blocks[i]);
	/* Forwards, backwards, and mixed: 7 divides no number of blocks here. */
	for (int order = 0; order < 3; order++) {
		for (size_t n = 0; n < half; n++) {
			const size_t i = 2 * (order == 0 ? n : order == 1 ? half - 1 - n : n * 7 % half);
			const size_t size = sizes->least + i * sizes->step;
			blocks[i] = order == 1 ? calloc(1, size) : malloc(size);
			CHILD_CHECK(blocks[i]);
			if (order == 1)
				CHILD_CHECK(blocks[i][0] == 0 && blocks[i][size / 2] == 0 && blocks[i][size - 1] == 0);
			memset(blocks[i], (int)i, sizes->step);
		}
		for (size_t i = 0; i < sizes->count; i++)
			CHILD_CHECK(blocks[i][0] == (char)i && blocks[i][sizes->step - 1] == (char)i);
		for (size_t i = 0; i < sizes->count; i += 2)
			free(blocks[i]);
	}
}

/* Side by side, they are one mapping, and the one in the middle cannot be unmapped: nobody may get it as
 * the program left it. */
static void have_no_altered_block(void *unused) {
	enum { BLOCKS = 12 };
	const size_t pages = 40000, size = 4 * MIB - 4 * 4096;
	char *blocks[BLOCKS],
		*maps = mmap(NULL, 2 * pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)unused;
	CHILD_CHECK(maps != MAP_FAILED);
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(size);
		CHILD_CHECK(blocks[i]);
	}
	for (int i = 0; i < BLOCKS; i++)
		CHILD_CHECK(mprotect((char *)((uintptr_t)blocks[i] & -4096ul), size + 4096, PROT_READ) == 0);
	CHILD_CHECK(fill_map_count(maps, pages) < pages);
	for (int i = 2; i < BLOCKS - 2; i += 2) {
		free(blocks[i]);
		blocks[i] = malloc(size);
		if (blocks[i]) memset(blocks[i], i, size);
	}
}

static bool mappings_are_many(void) {
	FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
	size_t most = 0;

	assert_true(file && fscanf(file, "%zu", &most) == 1);
	fclose(file);
	return most > 75000;
}

static void sizes_are_had_again_without_mappings(void **state) {
	static const struct sizes kinds[] = {
		{ BLOCKS_MOST, 100, 100 },        /* small blocks and runs */
		{ 200, 40 * MIB, 100000 },        /* mappings */
	};

	(void)state;
	if (mappings_are_many())
		SKIP("vm.max_map_count is far higher than by default");
	for (size_t i = 0; i < COUNT_OF(kinds); i++)
		assert_int_equal(run_in_child(have_sizes_again, (void *)&kinds[i]), 0);
}

static void what_was_altered_is_nobodys(void **state) {
	(void)state;
	if (mappings_are_many())
		SKIP("vm.max_map_count is far higher than by default");
	assert_int_equal(run_in_child(have_no_altered_block, NULL), 0);
}

static void no_more_mappings(void **state) {
	(void)state;
	if (mappings_are_many())
		SKIP("vm.max_map_count is far higher than by default");
	assert_int_equal(run_in_child(run_out_of_mappings, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_more_mappings),
		cmocka_unit_test(sizes_are_had_again_without_mappings),
		cmocka_unit_test(what_was_altered_is_nobodys),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
