/* cache/magazine.h: pop and push of a magazine, and the marks of the blocks in it. */
#include "unit.h"

#include "base/os.h"
#include "cache/magazine.h"

#define SLOTS 4
#define SIZE 48

static char *slice; /* blocks of SIZE bytes, from its start on */
static void *slots[SLOTS];

static int map_slice(void **state) {
	slice = start_arenal(state) == 0 ? os_map(SLICE_SIZE, SLICE_SIZE) : NULL;
	return slice != NULL ? 0 : -1;
}

static struct magazine empty_magazine(void) {
	memset(slots, 0, sizeof slots);
	return (struct magazine){
		.top = slots, .full = slots + SLOTS, .empty = slots, .start_test = start_tests[class_of_size(SIZE)],
	};
}

static bool is_marked(void *block) { return mark_is(block, mark_of(block, class_of_size(SIZE))); }

static void what_came_last_goes_first(void **state) {
	(void)state;
	struct magazine m = empty_magazine();
	assert_null(magazine_pop(&m));
	for (size_t i = 0; i < SLOTS; i++) {
		assert_false(magazine_is_full(&m));
		magazine_push(&m, slice + i * SIZE);
	}
	assert_true(magazine_is_full(&m));
	for (size_t i = SLOTS; i-- > 0;) assert_ptr_equal(magazine_pop(&m), slice + i * SIZE);
	assert_null(magazine_pop(&m));
}

/* A drain that comes in between raises `empty`: what lies below is its own. */
static void what_a_drain_takes_is_not_handed_out(void **state) {
	(void)state;
	struct magazine m = empty_magazine();
	for (size_t i = 0; i < SLOTS; i++) magazine_push(&m, slice + i * SIZE);
	m.empty = m.top - 1;
	assert_ptr_equal(magazine_pop(&m), slice + (SLOTS - 1) * SIZE);
	assert_null(magazine_pop(&m));
	magazine_push(&m, slice);
	assert_ptr_equal(magazine_pop(&m), slice);
}

static void free_blocks_have_marks(void **state) {
	(void)state;
	struct magazine m = empty_magazine();
	assert_true(magazine_give(&m, slice));
	assert_true(is_marked(slice));
	assert_ptr_equal(magazine_take(&m), slice);
	assert_false(is_marked(slice));
}

static void nothing_doubtful_is_taken_in(void **state) {
	(void)state;
	struct magazine m = empty_magazine();
	assert_false(magazine_give(&m, slice + 16));
	assert_false(magazine_give(&m, slice + SIZE + 1));
	assert_true(magazine_give(&m, slice));
	assert_false(magazine_give(&m, slice)); /* it has the mark */
	for (size_t i = 1; i < SLOTS; i++) assert_true(magazine_give(&m, slice + i * SIZE));
	assert_false(magazine_give(&m, slice + SLOTS * SIZE));
	assert_false(is_marked(slice + SLOTS * SIZE));
	/* No cache, and class 0. */
	struct magazine none = { 0 };
	assert_false(magazine_give(&none, slice + SLOTS * SIZE));
	assert_null(magazine_take(&none));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_came_last_goes_first),
		cmocka_unit_test(what_a_drain_takes_is_not_handed_out),
		cmocka_unit_test(free_blocks_have_marks),
		cmocka_unit_test(nothing_doubtful_is_taken_in),
	};
	return cmocka_run_group_tests(tests, map_slice, NULL);
}
