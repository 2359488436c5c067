/* arenal_expand and arenal_good_size. Run in each mode. */
#include "heaps.h"

static void good_sizes_are_what_malloc_gives(void **state) {
	(void)state;
	assert_int_equal(arenal_good_size(0), 0);
	assert_int_equal(arenal_good_size(hidden(PTRDIFF_MAX)), 0);
	assert_int_equal(arenal_good_size(hidden(SIZE_MAX)), 0);
	size_t last = 0;
	for (size_t i = 0, size; (size = sample_size(i)) <= 8 * MIB; i++) {
		if (size == 0) continue;
		const size_t good = arenal_good_size(size);
		assert_true(good >= size && good >= last);
		last = good;
		char *block = malloc(size);
		const size_t usable = malloc_usable_size(block);
		assert_true(size > 32768 ? usable >= good : usable == good);
		memset(block, 1, good);
		free(block);
		if (is_hardened()) assert_int_equal(good, size);
		else assert_true(size < 1024 || good <= size + size / 8 + 65536);
	}
}

static void nothing_is_done_to_what_is_no_block(void **state) {
	(void)state;
	errno = 0;
	assert_int_equal(arenal_expand(NULL, 10), 0);
	assert_int_equal(errno, EINVAL);
}

/* Whatever comes of it: the block is where it was, with what was in it, and as long as is said. */
static void check(unsigned char *block, size_t old, size_t size) {
	const size_t before = malloc_usable_size(block);
	errno = 0;
	const size_t now = arenal_expand(block, size);
	if (now == 0) {
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(malloc_usable_size(block), before);
		assert_true(size > before);
	} else {
		assert_true(now >= size);
		assert_int_equal(malloc_usable_size(block), now);
	}
	assert_true(holds_only(block, old < size ? old : size, 5));
	memset(block, 5, now != 0 ? size : old);
}

static void blocks_stay_where_they_are(void **state) {
	(void)state;
	static const size_t sizes[] = { 1, 24, 1000, 32768, 32769, 65536, 200000, 1000000, 3000000, 20000000 };
	for (size_t from = 0; from < COUNT_OF(sizes); from++)
		for (size_t to = 0; to < COUNT_OF(sizes); to++) {
			unsigned char *block = malloc(sizes[from]);
			memset(block, 5, sizes[from]);
			check(block, sizes[from], sizes[to]);
			free(block);
		}
	unsigned char *block = malloc(100);
	memset(block, 5, 100);
	check(block, 100, hidden(PTRDIFF_MAX));
	check(block, 100, hidden(SIZE_MAX));
	free(block);
}

/* Of two that lie side by side, the first grows to where the second was. */
static void runs_grow_into_free_memory(void **state) {
	(void)state;
	enum { RUNS = 64, SIZE = 128 * 1024 };
	char *runs[RUNS];
	if (blocks_lie_elsewhere()) return; /* there, none grows */
	for (size_t i = 0; i < RUNS; i++) runs[i] = malloc(SIZE);
	size_t grown = 0;
	for (size_t i = 0; i + 1 < RUNS; i++) {
		char *next = NULL;
		for (size_t n = 0; n < RUNS; n++)
			if (runs[i] != NULL && runs[n] == runs[i] + SIZE) next = runs[n], runs[n] = NULL;
		if (next == NULL) continue;
		free(next);
		arenal_purge(); /* out of the thread's cache */
		memset(runs[i], 3, SIZE);
		grown += arenal_expand(runs[i], 2 * SIZE) >= 2 * SIZE;
		memset(runs[i] + SIZE, 3, SIZE);
	}
	assert_true(grown >= RUNS / 4);
	for (size_t i = 0; i < RUNS; i++) free(runs[i]);
}

/* And what they lose is free. */
static void large_blocks_shrink(void **state) {
	(void)state;
	if (blocks_lie_elsewhere()) return;
	static const size_t sizes[] = { 900000, 30000000 };
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		char *block = malloc(sizes[i]);
		memset(block, 1, sizes[i]);
		const size_t before = allocated_now(), now = arenal_expand(block, sizes[i] / 4);
		assert_true(now >= sizes[i] / 4 && now < sizes[i] / 2);
		assert_true(allocated_now() + sizes[i] / 2 < before);
		/* and down to the shortest that is not small */
		assert_true(arenal_expand(block, 10) <= 65536);
		free(block);
	}
}

/* A mapping grows where nothing is behind it: so it does after it was shortened. */
static void huge_blocks_grow_back(void **state) {
	(void)state;
	if (blocks_lie_elsewhere()) return;
	unsigned char *block = malloc(30000000);
	memset(block, 9, 30000000);
	assert_true(arenal_expand(block, 10000000) < 11000000);
	assert_true(arenal_expand(block, 29000000) >= 29000000);
	assert_true(holds_only(block, 10000000, 9));
	memset(block, 9, 29000000);
	free(block);
}

static void blocks_of_heaps_stay_theirs(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("expand");
	const size_t before = allocated_now();
	for (int round = 0; round < 5; round++) {
		for (size_t size = 50000; size < 5000000; size *= 2) {
			unsigned char *block = arenal_heap_alloc(heap, size);
			memset(block, 5, size);
			check(block, size, size / 3);
			check(block, size / 3, size * 2);
			assert_ptr_equal(arenal_heap_of(block), heap);
		}
		assert_true(stats_of(heap).blocks == 7);
		arenal_heap_reset(heap);
		assert_true(allocated_now() < before + MIB / 2);
	}
	arenal_heap_destroy(heap);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_sizes_are_what_malloc_gives),
		cmocka_unit_test(nothing_is_done_to_what_is_no_block),
		cmocka_unit_test(blocks_stay_where_they_are),
		cmocka_unit_test(runs_grow_into_free_memory),
		cmocka_unit_test(large_blocks_shrink),
		cmocka_unit_test(huge_blocks_grow_back),
		cmocka_unit_test(blocks_of_heaps_stay_theirs),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
