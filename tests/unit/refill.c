/* cache/magazine.c: what a refill leaves in a magazine. The bin writes the batch below the place where a full one would end, so a short
 * one lies above the first slot, and whoever comes next finds it there. */
#include "unit.h"

#include "base/conf.h"
#include "cache/caches.h"
#include "cache/magazine.h"

enum { SIZE = 208, BATCH = 7, FEW = 5, ALL = (int)(SLICE_SIZE / SIZE) };

static void *all[ALL]; /* the blocks of the only span of their class, by address */
static unsigned class_;
static struct tcache *tc;
static struct magazine *m;

/* The bin gets these back, the last one first. */
static void give(size_t first, size_t count) {
	for (size_t i = first + count; i-- > first;) {
		void *scratch = all[i];
		mark_set(scratch);
		arena_give(class_, &scratch, 1);
	}
}

static void take_all(void) {
	for (size_t n = 0, more; n < ALL; n += more) {
		more = take_up_to(tc->arena, class_, all + n, ALL - n);
		assert_true(more > 0);
	}
	for (size_t i = 1; i < ALL; i++) assert_ptr_equal(all[i], (char *)all[i - 1] + SIZE);
}

static int start_with_a_span(void **state) {
	if (start_arenal(state) != 0) return -1;
	arenal_test_free(arenal_test_malloc(8)); /* this thread has a cache */
	class_ = class_of_size(SIZE);
	tc = tcache_current;
	m = &tc->magazines[class_];
	take_all();
	return 0;
}

static void **first_slot(void) { return m->full - tc->slots[class_].count; }

/* With slots, and without a block. The bin has none. */
static void start_empty(void) {
	give(0, 1);
	assert_ptr_equal(arenal_test_malloc(SIZE), all[0]);
	assert_true(tc->slots[class_].count / 2 >= BATCH);
	assert_ptr_equal(m->top, m->empty);
}

/* All of them are handed out, each once, whatever has them. */
static void expect_few(size_t first) {
	bool seen[FEW] = { false };
	for (size_t n = 0; n < FEW; n++) {
		void *block = arenal_test_malloc(SIZE);
		size_t i = 0;
		while (i < FEW && all[first + i] != block) i++;
		assert_true(i < FEW && !seen[i]);
		seen[i] = true;
	}
	assert_true(m->top == m->empty);
}

static void a_refill_hands_out_low_addresses_first(void **state) {
	(void)state;
	start_empty();
	give(10, 20);
	for (size_t i = 0; i < 20; i++) {
		assert_ptr_equal(arenal_test_malloc(SIZE), all[10 + i]);
		assert_true(m->empty == m->top || m->empty[-1] == magazine_no_block);
	}
	assert_ptr_equal(m->top, m->empty);
}

/* FEW in the bin: one is handed out, the others lie at the end of where a batch would have. */
static void refill_with_few(size_t first) {
	start_empty();
	const size_t wanted = tc->slots[class_].count / 2;
	give(first, FEW);
	assert_true(wanted > FEW);
	assert_ptr_equal(arenal_test_malloc(SIZE), all[first]);
	assert_ptr_equal(m->top, first_slot() + wanted - 1);
	assert_ptr_equal(m->empty, m->top - (FEW - 1));
	assert_ptr_equal(m->empty[-1], magazine_no_block);
	for (size_t i = 1; i < FEW; i++) assert_ptr_equal(m->top[-(ptrdiff_t)i], all[first + i]);
}

static void a_short_batch_ends_where_a_full_one_would(void **state) {
	(void)state;
	refill_with_few(40);
	for (size_t i = 1; i < FEW; i++) assert_ptr_equal(magazine_take(tc, TAG_OF_CLASS(class_)), all[40 + i]);
	assert_null(magazine_take(tc, TAG_OF_CLASS(class_)));
	assert_null(magazine_pop(m));
	for (size_t i = 0; i < FEW; i++) mark_clear(all[40 + i]);
}

/* What is freed behind it until the magazine is full moves down with it. */
static void a_short_batch_moves_down(void **state) {
	(void)state;
	refill_with_few(50);
	const size_t slots = tc->slots[class_].count, room = slots - (FEW - 1);
	assert_true((size_t)(m->full - m->top) < room);
	for (size_t i = 0; i < room; i++) arenal_test_free(all[100 + i]);
	assert_int_equal(tc->slots[class_].count, slots);
	assert_ptr_equal(m->empty, first_slot());
	assert_ptr_equal(m->top, m->full);
	for (size_t i = room; i-- > 0;) assert_ptr_equal(arenal_test_malloc(SIZE), all[100 + i]);
	for (size_t i = 1; i < FEW; i++) assert_ptr_equal(arenal_test_malloc(SIZE), all[50 + i]);
	assert_ptr_equal(m->top, m->empty);
}

/* The older half of a full one goes back, with the batch. malloc finds the others, and then none. */
static void a_short_batch_is_flushed(void **state) {
	(void)state;
	refill_with_few(50);
	const size_t slots = tc->slots[class_].count, freed = slots - (FEW - 1) + 1;
	const int64_t before = conf.tcache_max;
	conf.tcache_max = (int64_t)tc->room; /* it cannot grow */
	for (size_t i = 0; i < freed; i++) arenal_test_free(all[100 + i]);
	conf.tcache_max = before;
	assert_int_equal(tc->slots[class_].count, slots);
	assert_ptr_equal(m->empty, first_slot());
	const size_t left = (size_t)(m->top - m->empty), gone = FEW - 1 + freed - left;
	assert_int_equal(gone, (slots + 1) / 2);
	for (size_t i = freed; i-- > freed - left;)
		assert_ptr_equal(magazine_take(tc, TAG_OF_CLASS(class_)), all[100 + i]);
	assert_null(magazine_take(tc, TAG_OF_CLASS(class_)));
	for (size_t i = 0; i < gone; i++) assert_non_null(arenal_test_malloc(SIZE));
	assert_int_equal(span_of(all[0])->free_count, 0);
	assert_ptr_equal(m->top, m->empty);
}

static void flush(void) { tcache_flush(); }

static void drain(void) { tcache_drain(0); }

static void inherit(void) { magazine_inherit(tc, class_); }

static void shorten(void) { magazines_shorten(tc); }

/* Nothing gets lost, and nothing is there twice, whoever comes by. */
static void others_find_a_short_batch(void **state) {
	static void (*const others[])(void) = { flush, drain, inherit, shorten };
	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		refill_with_few(60);
		arenal_test_free(all[60]);
		others[i]();
		expect_few(60);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refill_hands_out_low_addresses_first),
		cmocka_unit_test(a_short_batch_ends_where_a_full_one_would),
		cmocka_unit_test(a_short_batch_moves_down),
		cmocka_unit_test(a_short_batch_is_flushed),
		cmocka_unit_test(others_find_a_short_batch),
	};
	return cmocka_run_group_tests(tests, start_with_a_span, NULL);
}
