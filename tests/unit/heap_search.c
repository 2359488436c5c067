/* arena/heap.c: the search for a run, of which a call does a piece, however many regions there are. */
#include "unit.h"

#include "arena/heap_inner.h"
#include "base/random.h"

enum { REGIONS = 150, LENGTH = 4, LOOKS = 1024 / 16, RUNS = REGIONS * REGION_SLICES / LENGTH };

static struct span *runs[RUNS];

static struct span *run(size_t slices, size_t align) {
	struct span *s = heap_alloc(slices, align, REGION_MAPPED, SPAN_RUN, NULL);
	assert_non_null(s);
	return s;
}

static size_t longest_free(const struct region *r) {
	size_t longest = 0;
	for (size_t at = 0, end; at < REGION_SLICES; at = end) {
		at = bit_find(r->free, at, REGION_SLICES, true);
		end = bit_find(r->free, at, REGION_SLICES, false);
		longest = max_size(longest, end - at);
	}
	return longest;
}

/* ---- many regions that have no run that is long enough ---- */

/* The rest of what was opened: it would serve first. */
static void take_what_is_longer(void) {
	heap_lock();
	for (struct region *r = heap.with_free[REGION_MAPPED], *next; r != NULL; r = next) {
		next = r->next_free;
		for (size_t at = 0, end; at < REGION_SLICES; at = end) {
			at = bit_find(r->free, at, REGION_SLICES, true);
			end = bit_find(r->free, at, REGION_SLICES, false);
			if (end - at > LENGTH) heap_take(r, at, end - at, NULL)->kind = SPAN_RUN;
		}
	}
	heap_unlock();
}

/* Every other run is free, and clean. */
static int fill(void **state) {
	start_arenal(state);
	conf.background = 0;
	for (size_t i = 0; i < RUNS; i++) runs[i] = run(LENGTH, 1);
	for (size_t i = 0; i < RUNS; i += 2) heap_free(runs[i]);
	heap_purge();
	return 0;
}

static int empty(void **state) {
	(void)state;
	for (size_t i = 1; i < RUNS; i += 2) heap_free(runs[i]);
	heap_purge();
	return 0;
}

/* As if all had changed since they were looked at. */
static void forget_bounds(void) {
	for (struct region *r = heap.with_free[REGION_MAPPED]; r != NULL; r = r->next_free) r->run_bound = REGION_SLICES;
	heap.resume[REGION_MAPPED] = NULL;
}

static size_t looked_at(void) {
	size_t count = 0;
	for (struct region *r = heap.with_free[REGION_MAPPED]; r != NULL; r = r->next_free) count += r->run_bound < REGION_SLICES;
	return count;
}

static struct region *last_region(void) {
	struct region *r = heap.with_free[REGION_MAPPED];
	while (r->next_free != NULL) r = r->next_free;
	return r;
}

/* The run of ours that is in the middle of the region: with the holes beside it, there are three lengths. */
static size_t one_within(const struct region *r) {
	for (size_t i = 1; i + 1 < RUNS; i += 2) {
		const uintptr_t at = (uintptr_t)runs[i]->start;
		if (ALIGN_DOWN(at, REGION_SIZE) == r->base && slice_number(at) > REGION_SLICES / 2) return i;
	}
	fail();
	return 0;
}

static void a_call_looks_at_some_and_takes_new_memory(void **state) {
	(void)state;
	take_what_is_longer();
	forget_bounds();
	struct heap_stats before, after;
	heap_stats_get(&before);
	struct span *s = run(LENGTH + 1, 1);
	heap_stats_get(&after);
	assert_int_equal(after.regions, before.regions + 1);
	/* The new one is not among them. */
	assert_in_range(looked_at(), 1, 2 * LOOKS);
	heap_free(s);
	heap_purge();
}

static struct span *take(size_t slices) {
	heap_lock();
	struct span *s = heap_take_free(REGION_MAPPED, slices, 1, false, NULL);
	if (s != NULL) s->kind = SPAN_RUN;
	heap_unlock();
	return s;
}

static void the_next_calls_go_on(void **state) {
	(void)state;
	take_what_is_longer();
	struct region *last = last_region();
	const size_t i = one_within(last);
	const uintptr_t hole = (uintptr_t)runs[i]->start - LENGTH * SLICE_SIZE;
	heap_free(runs[i]);
	heap_purge();
	assert_int_equal(longest_free(last), 3 * LENGTH);
	forget_bounds();
	assert_null(take(LENGTH + 1));
	struct region *at = heap.resume[REGION_MAPPED];
	assert_non_null(at);
	assert_int_equal(looked_at(), 2 * LOOKS);
	/* The first part is looked at again, and then what was not yet. */
	for (struct region *r = heap.with_free[REGION_MAPPED]; r != at; r = r->next_free) r->run_bound = REGION_SLICES;
	struct span *s = take(LENGTH + 1);
	assert_non_null(s);
	assert_int_equal((uintptr_t)s->start, hole);
	heap_free(s);
	/* Who would fail otherwise looks at all. */
	forget_bounds();
	heap_lock();
	s = heap_take_any(REGION_MAPPED, 3 * LENGTH, 1, false, NULL);
	heap_unlock();
	assert_non_null(s);
	assert_int_equal((uintptr_t)s->start, hole);
	s->kind = SPAN_RUN;
	heap_free(s);
	runs[i] = run(LENGTH, 1); /* somewhere */
}

/* Slices of what has grown are taken, however far back in the list its region is. */
static void what_grew_is_found_at_once(void **state) {
	(void)state;
	const int64_t thp = conf.thp;
	conf.thp = 0; /* else it opens all of it */
	take_what_is_longer();
	forget_bounds();
	struct heap_stats before, after;
	struct span *s = run(LENGTH + 1, 1); /* opens a new region, as far as it needs */
	struct region *r = heap.with_free[REGION_MAPPED];
	assert_ptr_equal(page_map_region((uintptr_t)s->start), r);
	take_what_is_longer();
	assert_true(r->committed < REGION_OPEN && r->slices_used == r->slices_total);
	heap_free(s);
	heap_purge();
	/* To the end of the list, behind all that a search looks at. */
	heap_lock();
	region_unlink(r);
	struct region *last = last_region();
	last->next_free = r;
	r->prev_free = last;
	r->next_free = NULL;
	heap_unlock();
	forget_bounds();
	heap_stats_get(&before);
	struct span *grown = run(2 * LENGTH, 1);
	heap_stats_get(&after);
	assert_int_equal(after.regions, before.regions);
	assert_ptr_equal(page_map_region((uintptr_t)grown->start), r);
	heap_free(grown);
	heap_purge();
	conf.thp = thp;
}

/* Where an aligned run has no room, a longer one may be that has no such place. */
static void what_is_not_aligned_bounds_no_more(void **state) {
	(void)state;
	const size_t i = one_within(last_region());
	heap_free(runs[i]);
	heap_purge();
	forget_bounds();
	heap_lock();
	for (struct span *s; (s = heap_take_any(REGION_MAPPED, LENGTH, 8 * LENGTH, false, NULL)) != NULL;) s->kind = SPAN_RUN;
	for (struct region *r = heap.with_free[REGION_MAPPED]; r != NULL; r = r->next_free)
		assert_true(longest_free(r) <= r->run_bound);
	heap_unlock();
	runs[i] = run(LENGTH, 1);
}

/* At the cap, only what is dirty is left: all regions are searched for it. */
static void at_the_cap_all_are_searched(void **state) {
	(void)state;
	take_what_is_longer();
	const size_t i = one_within(last_region());
	const uintptr_t hole = (uintptr_t)runs[i]->start;
	heap_purge();
	/* Holes of a slice in front, which are dirty, too. */
	size_t scraps = 0;
	static struct span *single[REGIONS];
	for (struct region *r = heap.with_free[REGION_MAPPED]; r != NULL && scraps < REGIONS - 10; r = r->next_free) {
		const size_t at = bit_find(r->free, 0, REGION_SLICES, true);
		heap_lock();
		single[scraps] = heap_take(r, at, 1, NULL);
		single[scraps++]->kind = SPAN_RUN;
		heap_unlock();
	}
	for (size_t k = 0; k < scraps; k++) {
		struct region *r = page_map_region((uintptr_t)single[k]->start);
		heap_lock();
		const size_t at = slice_number((uintptr_t)single[k]->start);
		single[k]->kind = SPAN_NONE;
		heap_put(r, at, 1, true);
		r->slices_dirty += LENGTH; /* as if there were more */
		heap_unlock();
	}
	heap_free(runs[i]);
	forget_bounds();
	const int64_t cap = conf.cap;
	conf.cap = 1;
	struct span *s = heap_alloc(LENGTH, 1, REGION_MAPPED, SPAN_RUN, NULL);
	conf.cap = cap;
	assert_non_null(s);
	assert_int_equal((uintptr_t)s->start, hole);
	runs[i] = s;
	for (size_t k = 0; k < scraps; k++) page_map_region((uintptr_t)single[k]->start)->slices_dirty -= LENGTH;
}

static void a_region_that_is_full_is_no_place_to_go_on(void **state) {
	(void)state;
	take_what_is_longer();
	forget_bounds();
	assert_null(take(LENGTH + 1));
	struct region *at = heap.resume[REGION_MAPPED], *next = at->next_free;
	heap_lock();
	while (at->slices_used < at->slices_total) {
		const size_t first = bit_find(at->free, 0, REGION_SLICES, true);
		heap_take(at, first, bit_find(at->free, first, REGION_SLICES, false) - first, NULL)->kind = SPAN_RUN;
	}
	heap_unlock();
	assert_ptr_equal(heap.resume[REGION_MAPPED], next);
}

/* ---- what is said of a region stays true ---- */

static void no_run_is_longer_than_its_bound(void **state) {
	(void)state;
	enum { HELD = 700, STEPS = 30000 };
	static struct span *held[HELD];
	struct random random = { 42 };
	for (size_t step = 0; step < STEPS; step++) {
		struct span **slot = &held[random_below(&random, HELD)];
		if (*slot == NULL) {
			const size_t align = (size_t)1 << (random_below(&random, 4) == 0 ? random_below(&random, 6) : 0);
			*slot = run(1 + random_below(&random, random_below(&random, 8) == 0 ? 200 : 8), align);
			assert_int_equal((uintptr_t)(*slot)->start & (align * SLICE_SIZE - 1), 0);
		} else {
			heap_free(*slot);
			*slot = NULL;
		}
		if (step % 16 != 0) continue;
		for (struct region *r = heap.with_free[REGION_MAPPED]; r != NULL; r = r->next_free)
			assert_true(longest_free(r) <= r->run_bound);
	}
	for (size_t i = 0; i < HELD; i++)
		if (held[i] != NULL) heap_free(held[i]);
}

int main(void) {
	const struct CMUnitTest alone[] = { cmocka_unit_test(no_run_is_longer_than_its_bound) };
	const struct CMUnitTest filled[] = {
		cmocka_unit_test(a_call_looks_at_some_and_takes_new_memory),
		cmocka_unit_test(the_next_calls_go_on),
		cmocka_unit_test(what_is_not_aligned_bounds_no_more),
		cmocka_unit_test(at_the_cap_all_are_searched),
		cmocka_unit_test(a_region_that_is_full_is_no_place_to_go_on),
		cmocka_unit_test(what_grew_is_found_at_once),
	};
	return cmocka_run_group_tests(alone, start_arenal, NULL) + cmocka_run_group_tests(filled, fill, empty);
}
