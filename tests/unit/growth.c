/* cache/growth.h: what a thread left behind in its magazines does not make its process larger. */
#include "unit.h"

#include "arena/huge.h"
#include "arena/policy.h"
#include "base/conf.h"
#include "cache/caches.h"
#include "cache/growth.h"

#define SMALL ((size_t)48)
#define LARGER ((size_t)1100)

enum { SMALL_BLOCKS = 60000, LARGER_BLOCKS = 6000, STEP = 7919 }; /* 2.9 MB of the one, then 6.6 MB of the other */

static void *small[SMALL_BLOCKS], *larger[LARGER_BLOCKS];

static size_t blocks_in_magazine(size_t size) {
	const struct magazine *m = &tcache_current->magazines[class_of_size(size)];
	return (size_t)(m->top - m->empty);
}

static uint32_t spans_of(size_t size) { return arena_list[0]->bins[class_of_size(size)].spans; }

/* Freed in an order that has nothing to do with their addresses: what is left in the magazine lies in all spans. */
static void leave_some_in_each_span(void) {
	for (size_t i = 0; i < SMALL_BLOCKS; i++) small[i] = arenal_test_malloc(SMALL);
	for (size_t i = 0, n = 0; i < SMALL_BLOCKS; i++, n = (n + STEP) % SMALL_BLOCKS) arenal_test_free(small[n]);
	assert_true(blocks_in_magazine(SMALL) > 40);
	assert_true(spans_of(SMALL) > 40);
}

static void other_sizes_get_the_spans_of_an_idle_magazine(void **state) {
	(void)state;
	leave_some_in_each_span();
	struct heap_stats before, after;
	heap_stats_get(&before);
	for (size_t i = 0; i < LARGER_BLOCKS; i++) larger[i] = arenal_test_malloc(LARGER);
	assert_int_equal(blocks_in_magazine(SMALL), 0);
	assert_true(spans_of(SMALL) <= 1);
	/* All but what it takes until an idle magazine is known for one. */
	heap_stats_get(&after);
	assert_true(after.used + after.dirty - before.used - before.dirty <= LARGER_BLOCKS * 1152 * 3 / 4);
	for (size_t i = 0; i < LARGER_BLOCKS; i++) arenal_test_free(larger[i]);
}

static size_t kept(void) {
	struct huge_stats stats;
	huge_stats_get(&stats);
	return stats.cached;
}

static void look(void) {
	growth_look_above = cap_bytes - 1;
	growth_look();
}

/* The first look is for what was kept before: it tells only since when. Where a tunable says that free memory stays, it does. */
static void mappings_that_are_idle_go(void **state) {
	(void)state;
	enum { SIZE = 3 << 20 };
	for (int tunable = 0; tunable < 3; tunable++) {
		huge_purge();
		conf.decay = tunable == 1 ? -1 : CONF_DECAY;
		conf.dirty_max = tunable == 2 ? 2 * SIZE : -1;
		void *block = arenal_test_malloc(SIZE);
		look();
		arenal_test_free(block);
		assert_int_equal(kept(), SIZE);
		look();
		assert_int_equal(kept(), SIZE);
		look();
		assert_int_equal(kept(), tunable == 0 ? 0 : SIZE);
	}
	conf.decay = CONF_DECAY;
	conf.dirty_max = -1;
	huge_purge();
	/* It was in use between two looks. */
	arenal_test_free(arenal_test_malloc(SIZE));
	for (int i = 0; i < 5; i++) {
		look();
		assert_int_equal(kept(), SIZE);
		arenal_test_free(arenal_test_malloc(SIZE));
	}
}

/* What is used between two looks stays, however often it is looked. */
static void what_is_in_use_stays(void **state) {
	(void)state;
	for (int i = 0; i < 10; i++) {
		for (size_t k = 0; k < 100; k++) small[k] = arenal_test_malloc(SMALL);
		for (size_t k = 0; k < 100; k++) arenal_test_free(small[k]);
		const size_t there = blocks_in_magazine(SMALL);
		assert_true(there > 10);
		tcache_current->slots[class_of_size(SMALL)].events = 1;
		look();
		assert_int_equal(blocks_in_magazine(SMALL), there);
	}
	/* And nothing is looked at while the process does not grow. */
	growth_look_above = cap_bytes;
	for (int i = 0; i < 3; i++) growth_look();
	assert_true(blocks_in_magazine(SMALL) > 10);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_sizes_get_the_spans_of_an_idle_magazine),
		cmocka_unit_test(mappings_that_are_idle_go),
		cmocka_unit_test(what_is_in_use_stays),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
