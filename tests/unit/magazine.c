/* cache/magazine.h: pop and push of a magazine, and the marks of the blocks in it. */
#include "unit.h"

#include "base/os.h"
#include "cache/caches.h"
#include "cache/magazine.h"

#define SLOTS 4
#define SIZE 48

static char *slice; /* blocks of SIZE bytes, from its start on */
static void *slots[1 + SLOTS]; /* the first one is in front of the magazine's, and holds none of them */

static int map_slice(void **state) {
	slice = start_arenal(state) == 0 ? os_map(SLICE_SIZE, SLICE_SIZE) : NULL;
	return slice != NULL ? 0 : -1;
}

static struct tcache cache;
#define TAG TAG_OF_CLASS(class_of_size(SIZE))

static struct magazine *empty_magazine(void) {
	memset(slots, 0, sizeof slots);
	void **first = slots + 1;
	slots[0] = magazine_no_block;
	magazines_init(&cache);
	struct magazine *m = magazine_at(&cache, TAG);
	m->top = m->empty = first;
	m->full = first + SLOTS;
	return m;
}

static void what_came_last_goes_first(void **state) {
	(void)state;
	struct magazine *m = empty_magazine();
	assert_null(magazine_pop(m));
	for (size_t i = 0; i < SLOTS; i++) {
		assert_false(magazine_is_full(m));
		magazine_push(m, slice + i * SIZE);
	}
	assert_true(magazine_is_full(m));
	for (size_t i = SLOTS; i-- > 0;) assert_ptr_equal(magazine_pop(m), slice + i * SIZE);
	assert_null(magazine_pop(m));
}

/* A drain that comes in between raises `empty`: what lies below is its own. */
static void what_a_drain_takes_is_not_handed_out(void **state) {
	(void)state;
	struct magazine *m = empty_magazine();
	for (size_t i = 0; i < SLOTS; i++) magazine_push(m, slice + i * SIZE);
	m->empty = m->top - 1;
	assert_ptr_equal(magazine_pop(m), slice + (SLOTS - 1) * SIZE);
	assert_null(magazine_pop(m));
	magazine_push(m, slice);
	assert_ptr_equal(magazine_pop(m), slice);
}

/* For malloc, it leaves a block there that is none. */
static void malloc_stops_where_a_drain_did(void **state) {
	(void)state;
	struct magazine *m = empty_magazine();
	assert_null(magazine_take(&cache, TAG));
	for (size_t i = 0; i < SLOTS; i++) assert_true(magazine_give(m, slice + i * SIZE));
	m->empty = m->top - 1;
	m->empty[-1] = magazine_no_block;
	assert_ptr_equal(magazine_take(&cache, TAG), slice + (SLOTS - 1) * SIZE);
	assert_null(magazine_take(&cache, TAG));
	assert_null(magazine_take_off_the_way(&cache, TAG));
	assert_true(magazine_give(m, slice));
	assert_ptr_equal(magazine_take_off_the_way(&cache, TAG), slice);
}

static void free_blocks_have_marks(void **state) {
	(void)state;
	struct magazine *m = empty_magazine();
	assert_true(magazine_give(m, slice));
	assert_true(mark_is_there(slice));
	assert_ptr_equal(magazine_take(&cache, TAG), slice);
	assert_false(mark_is_there(slice));
	assert_int_equal(*mark_place(slice), 0);
	/* Whatever was there before, also a mark: it is not looked at. */
	mark_set(slice);
	assert_true(magazine_give(m, slice));
	assert_ptr_equal(magazine_take(&cache, TAG), slice);
}

static void what_has_no_mark_is_not_handed_out(void **state) {
	(void)state;
	struct magazine *m = empty_magazine();
	assert_true(magazine_give(m, slice));
	assert_true(magazine_give(m, slice + SIZE));
	*mark_place(slice + SIZE) += 1;
	const uint64_t written = *mark_place(slice + SIZE);
	void **const top = m->top;
	/* It stays as it is, for the slow path. */
	assert_null(magazine_take(&cache, TAG));
	assert_ptr_equal(m->top, top);
	assert_ptr_equal(magazine_pop(m), slice + SIZE);
	assert_false(mark_take(slice + SIZE));
	assert_int_equal(*mark_place(slice + SIZE), written);
	assert_ptr_equal(magazine_take(&cache, TAG), slice);
}

/* Freed twice, with others in between: who gets it first has it alone. */
static void one_that_was_given_twice_is_handed_out_once(void **state) {
	(void)state;
	struct magazine *m = empty_magazine();
	assert_true(magazine_give(m, slice));
	assert_true(magazine_give(m, slice + SIZE));
	assert_true(magazine_give(m, slice));
	assert_ptr_equal(magazine_take(&cache, TAG), slice);
	assert_ptr_equal(magazine_take(&cache, TAG), slice + SIZE);
	assert_null(magazine_take(&cache, TAG));
	assert_ptr_equal(magazine_pop(m), slice);
	assert_false(mark_take(slice));
}

static void nothing_doubtful_is_taken_in(void **state) {
	(void)state;
	struct magazine *m = empty_magazine();
	assert_false(magazine_give(m, slice + 16));
	assert_false(magazine_give(m, slice + SIZE + 1));
	assert_true(magazine_give(m, slice));
	assert_false(magazine_give(m, slice)); /* it is the last one */
	assert_true(magazine_has_on_top(m, slice));
	assert_false(magazine_has_on_top(m, slice + SIZE));
	for (size_t i = 1; i < SLOTS; i++) assert_true(magazine_give(m, slice + i * SIZE));
	assert_false(magazine_give(m, slice + SLOTS * SIZE));
	assert_false(mark_is_there(slice + SLOTS * SIZE));
	/* What a drain has taken is not there any more, though its slot still says so. */
	m->empty = m->top;
	assert_false(magazine_has_on_top(m, slice + (SLOTS - 1) * SIZE));
	/* No cache, and class 0. */
	assert_false(magazine_give(magazine_at(&cache, 0), slice + SLOTS * SIZE));
	assert_null(magazine_take(&cache, 0));
	assert_false(magazine_give(magazine_at(&no_cache_now, TAG), slice + SLOTS * SIZE));
	assert_null(magazine_take(&no_cache_now, 0));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_came_last_goes_first),
		cmocka_unit_test(what_a_drain_takes_is_not_handed_out),
		cmocka_unit_test(malloc_stops_where_a_drain_did),
		cmocka_unit_test(free_blocks_have_marks),
		cmocka_unit_test(what_has_no_mark_is_not_handed_out),
		cmocka_unit_test(one_that_was_given_twice_is_handed_out_once),
		cmocka_unit_test(nothing_doubtful_is_taken_in),
	};
	return cmocka_run_group_tests(tests, map_slice, NULL);
}
