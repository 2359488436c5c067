/* arena/size_class and arena/page_map: arithmetic that every block depends on. */
#include "unit.h"

#include "arena/page_map.h"

static void smallest_class_that_fits(void **state) {
	(void)state;
	for (size_t n = 0; n <= SMALL_MAX; n++) {
		unsigned c = class_of_size(n);
		assert_in_range(c, 1, CLASS_COUNT - 1);
		assert_true(size_classes[c].size >= n);
		assert_true(c == 1 || size_classes[c - 1].size < n);
	}
}

static void little_waste(void **state) {
	(void)state;
	for (unsigned c = 2; c < CLASS_COUNT; c++) {
		size_t smallest = size_classes[c - 1].size + 1, span = size_classes[c].slices * SLICE_SIZE;
		if (smallest > 128) assert_true((size_classes[c].size - smallest) * 9 <= size_classes[c].size);
		size_t tail = span - size_classes[c].blocks * size_classes[c].size;
		assert_true(tail < size_classes[c].size);
		assert_true(tail * 100 <= span * 7);
		assert_true(size_classes[c].blocks <= SPAN_BLOCKS_MAX);
		assert_int_equal(size_classes[c].size % MIN_ALIGN, 0);
	}
}

static void block_numbers(void **state) {
	(void)state;
	for (unsigned c = 1; c < CLASS_COUNT; c++)
		for (size_t offset = 0; offset < size_classes[c].slices * SLICE_SIZE; offset++)
			if ((block_number(&size_classes[c], offset) * size_classes[c].size == offset) !=
			    (offset % size_classes[c].size == 0))
				fail_msg("class %u, offset %zu", c, offset);
}

static void powers_of_two_are_classes(void **state) {
	(void)state;
	for (size_t n = MIN_ALIGN; n <= SMALL_MAX; n *= 2) assert_int_equal(size_classes[class_of_size(n)].size, n);
}

static void unknown_addresses(void **state) {
	(void)state;
	int on_stack;
	assert_int_equal(page_map_tag(NULL), 0);
	assert_int_equal(page_map_tag(&on_stack), 0);
	assert_null(page_map_region(0));
	assert_null(page_map_region((uintptr_t)&on_stack));
	assert_null(page_map_region(UINTPTR_MAX));
	assert_null(page_map_region(UINT64_C(1) << 63));
}

/* Every address of a span: only the last byte of the last block passes wrongly, and only where there is a tail. */
static void starts_of_blocks_are_known(void **state) {
	(void)state;
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		const struct size_class *k = &size_classes[c];
		uint64_t test = k->start_test;
		assert_int_equal(test == 0, k->slices > 1);
		for (size_t offset = 0; test != 0 && offset < SLICE_SIZE; offset++) {
			bool start = offset % k->size == 0 && offset / k->size < k->blocks;
			bool exception = SLICE_SIZE % k->size != 0 && offset == (size_t)k->blocks * k->size - 1;
			bool passes = block_starts_at((char *)0x7f1234560000 + offset, &test);
			if (passes != (start || exception)) fail_msg("%u bytes, offset %zu", k->size, offset);
		}
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(smallest_class_that_fits), cmocka_unit_test(little_waste), cmocka_unit_test(block_numbers),
		cmocka_unit_test(powers_of_two_are_classes), cmocka_unit_test(starts_of_blocks_are_known),
		cmocka_unit_test(unknown_addresses),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
