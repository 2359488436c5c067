/* cache/guard_turn.h: which allocations of a thread are to be guarded, and who is asked for the block; its first one
 * (harden/guard.h). */
#include "unit.h"

#include "base/gate.h"
#include "base/libc.h"
#include "base/os.h"
#include "cache/guard_turn.h"
#include "cache/hooks.h"
#include "harden/guard.h"

/* How often it is the thread's turn, in so many allocations that come one by one. */
static unsigned turns(struct guard_turn *turn, unsigned allocations) {
	unsigned found = 0;
	for (unsigned i = 0; i < allocations; i++) {
		if (!turn->due) {
			guard_count(turn, 1);
			continue;
		}
		found++;
		guard_turn_begin(turn);
		assert_true(turn->busy && !turn->due);
		guard_turn_end(turn);
		assert_false(turn->busy);
	}
	return found;
}

/* Distances are rounded down: that counts when they are short. */
static void as_often_as_it_should(void **state) {
	(void)state;
	static const unsigned samples[] = { 1, 10, 100, 900 };
	for (size_t s = 0; s < 4; s++) {
		struct guard_turn turn = { 0 };
		conf.guard_sample = samples[s];
		guard_turn_init(&turn);
		const unsigned wanted = 4000, found = turns(&turn, wanted * samples[s]);
		assert_in_range(found, wanted * 9 / 10, wanted * 11 / 10);
	}
}

static void never_when_off(void **state) {
	(void)state;
	struct guard_turn turn = { 0 };
	conf.guard_sample = 0;
	guard_turn_init(&turn);
	assert_int_equal(turns(&turn, 100000), 0);
}

/* What changes while the process runs counts from the next allocation on. */
static void a_new_value_is_seen(void **state) {
	(void)state;
	struct guard_turn turn = { 0 };
	conf.guard_sample = 0;
	guard_turn_init(&turn);
	conf.guard_sample = 10;
	assert_true(turns(&turn, 10000) > 500);
	conf.guard_sample = 0;
	turns(&turn, 1);
	assert_int_equal(turns(&turn, 100000), 0);
}

/* Of a usual sample, not more than one in four milliseconds, however many allocations there are. */
static void not_in_haste(void **state) {
	(void)state;
	struct guard_turn turn = { 0 };
	conf.guard_sample = 1000;
	guard_turn_init(&turn);
	const uint64_t before = os_milliseconds();
	const unsigned found = turns(&turn, 3000000);
	assert_in_range(found, 1, (os_milliseconds() - before) / 4 + 1);
}

static struct guard_turn *asked;
static size_t asked_size;

static void *make_block(struct guard_turn *turn, size_t size) {
	asked = turn;
	asked_size = size;
	return &asked;
}

static void who_is_above_makes_the_block(void **state) {
	(void)state;
	struct guard_turn turn = { .due = true };
	void *(*before)(struct guard_turn *, size_t) = atomic_load(&cache_hooks.guard);
	atomic_store(&cache_hooks.guard, NULL);
	assert_null(guard_turn_take(&turn, 100));
	assert_true(turn.due); /* it stays the thread's turn */
	atomic_store(&cache_hooks.guard, make_block);
	assert_ptr_equal(guard_turn_take(&turn, 100), &asked);
	assert_ptr_equal(asked, &turn);
	assert_int_equal(asked_size, 100);
	atomic_store(&cache_hooks.guard, before);
}

/* Without glibc's dl_find_object, nobody can tell while a fork is under way whether there are stacks. */
static void a_fork_under_way_is_no_answer(void **state) {
	(void)state;
	struct guard_turn turn = { .due = true };
	__typeof__(libc.find_object) find_object = libc.find_object;
	libc.find_object = NULL;
	guard_start();
	gate_close();
	assert_null(guard_turn_take(&turn, 100));
	gate_open();
	void *block = guard_turn_take(&turn, 100);
	libc.find_object = find_object;
	assert_non_null(block);
	assert_true(guard_free(block));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_often_as_it_should),
		cmocka_unit_test(never_when_off),
		cmocka_unit_test(a_new_value_is_seen),
		cmocka_unit_test(not_in_haste),
		cmocka_unit_test(who_is_above_makes_the_block),
		cmocka_unit_test(a_fork_under_way_is_no_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
