/* arena/page_map and arena/place: which addresses have tags, and where regions lie. */
#include "unit.h"

#include <sys/mman.h>

#include "arena/heap.h"
#include "arena/page_map.h"
#include "arena/place.h"
#include "base/os.h"

static bool is_covered(const void *p) { return (uintptr_t)p - page_map.base < page_map.covered * SLICE_SIZE; }

static void only_what_is_covered_has_tags(void **state) {
	(void)state;
	const char *end = (char *)page_map.base + page_map.covered * SLICE_SIZE;
	const uint16_t one = 1;
	assert_int_equal(page_map_tag((char *)page_map.base - 1), 0);
	assert_int_equal(page_map_tag(end), 0);
	assert_int_equal(page_map_tag((void *)UINTPTR_MAX), 0);
	assert_int_equal(page_map_tag(&one), 0);
	/* Nothing is written for what lies elsewhere. */
	page_map_set_tags((uintptr_t)end, 1, one);
	assert_true(page_map_commit((uintptr_t)end));
	assert_int_equal(page_map_tag(end), 0);
}

static void both_kinds_of_region_are_covered(void **state) {
	(void)state;
	struct span *low = heap_alloc(1, 1, REGION_BRK, SPAN_RUN, NULL), *high = heap_alloc(1, 1, REGION_MAPPED, SPAN_RUN, NULL);
	assert_non_null(low);
	assert_non_null(high);
	assert_true(is_covered(low->start));
	assert_true(is_covered(high->start));
	heap_free(low);
	heap_free(high);
}

/* Somebody else has the next places: the region goes behind them, and is covered all the same. */
static void what_is_in_the_way_is_passed(void **state) {
	(void)state;
	heap_lock();
	char *first = place_map(REGION_SIZE, 0, false);
	assert_true(is_covered(first));
	assert_int_equal((uintptr_t)first % REGION_SIZE, 0);
	os_unmap(first, REGION_SIZE);
	place_leave(first);
	void *other = mmap(first + os_page_size, os_page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(other, first + os_page_size);
	char *second = place_map(REGION_SIZE, 0, false);
	assert_true(second > first && is_covered(second));
	assert_int_equal((uintptr_t)second % REGION_SIZE, 0);
	os_unmap(second, REGION_SIZE);
	os_unmap(other, os_page_size);
	place_leave(first);
	heap_unlock();
}

/* Pieces of a region, where a whole one cannot be had: side by side, but never beside those of another kind. */
static void pieces_share_a_window(void **state) {
	(void)state;
	heap_lock();
	const size_t all = MIB + os_page_size;
	char *one = place_map(MIB, os_page_size, true), *two = place_map(MIB, os_page_size, true);
	char *reserved = place_map(MIB, os_page_size, false);
	assert_ptr_equal(two, one + MIB + SLICE_SIZE);
	assert_true(is_covered(two) && is_covered(reserved));
	assert_int_not_equal((uintptr_t)reserved / REGION_SIZE, (uintptr_t)one / REGION_SIZE);
	os_unmap(one, all);
	os_unmap(two, all);
	os_unmap(reserved, all);
	place_leave(one);
	heap_unlock();
}

static void the_table_grows_in_place(void **state) {
	(void)state;
	heap_lock();
	const uint16_t *before = page_map.tags;
	const size_t covered = page_map.covered, page = os_page_size;
	const uintptr_t end = page_map.base + covered * SLICE_SIZE;
	page_map_let_derived(17);
	assert_true(page_map_cover(end));
	assert_int_equal(page_map.covered, covered);
	/* Something stands behind the table: no more than before is covered. */
	void *behind = (void *)(page_map.tags + covered);
	assert_ptr_equal(mmap(behind, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), behind);
	assert_false(page_map_cover(end + 1));
	assert_int_equal(page_map.covered, covered);
	munmap(behind, page);
	assert_true(page_map_cover(end + 1));
	assert_ptr_equal(page_map.tags, before);
	assert_int_equal(page_map.covered, 2 * covered);
	assert_int_equal(page_map.derived_covered, 2 * covered);
	assert_int_equal(page_map.derived_limit, 17);
	assert_int_equal(page_map_tag((void *)end), 0);
	assert_true(page_map_commit(end));
	page_map_set_tags(end + SLICE_SIZE, 1, 32);
	assert_int_equal(page_map_tag((char *)end + SLICE_SIZE + 5), 32);
	page_map_set_tags(end + SLICE_SIZE, 1, 0);
	/* There is room for all that is ever covered. */
	assert_true(page_map_cover(page_map.base + PLACE_SPREAD_MAX));
	assert_int_equal(page_map.covered, PLACE_SPREAD_MAX / SLICE_SIZE);
	assert_false(page_map_cover(page_map.base + PLACE_SPREAD_MAX + 1));
	heap_unlock();
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_is_covered_has_tags),
		cmocka_unit_test(both_kinds_of_region_are_covered),
		cmocka_unit_test(what_is_in_the_way_is_passed),
		cmocka_unit_test(pieces_share_a_window),
		cmocka_unit_test(the_table_grows_in_place),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
