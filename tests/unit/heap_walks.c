/* arena/heap_trim.c, heap_grow.c: what a call looks at, however many regions there are. */
#include "unit.h"

#include <sys/mman.h>
#include <unistd.h>

#include "arena/brk.h"
#include "arena/heap_inner.h"

/* ---- a free top of the break's heap ---- */

enum { WINDOWS = 4 };

static struct span *below[4 * WINDOWS], *top;
static size_t count;

static bool is_due(uintptr_t start) {
	heap_lock();
	const bool due = heap_trim_is_due(page_map_region(start), slice_number(start));
	heap_unlock();
	return due;
}

/* Whoever reads the record of this window ends. */
static void hide(uintptr_t start, bool hidden) {
	struct region *r = page_map_region(start);
	assert_int_equal(mprotect(r, ALIGN_UP(sizeof *r, os_page_size), hidden ? PROT_NONE : PROT_READ | PROT_WRITE), 0);
}

/* Runs on several windows, and one that is the last below the break. */
static int fill(void **state) {
	start_arenal(state);
	conf.background = 0;
	conf.thp = 0; /* else the break goes up, and regions are opened, by more than is asked for */
	uintptr_t first = 0, window;
	do {
		struct span *s = heap_alloc(RUN_MAX / SLICE_SIZE, 1, REGION_BRK, SPAN_RUN, NULL);
		assert_non_null(s);
		below[count++] = s;
		window = ALIGN_DOWN((uintptr_t)s->start, REGION_SIZE);
		if (first == 0) first = window;
	} while (window < first + WINDOWS * REGION_SIZE);
	top = below[--count];
	heap_trim(0); /* it may have got what lies behind it as well */
	return 0;
}

static void a_free_looks_no_further_down_than_the_threshold(void **state) {
	(void)state;
	const uintptr_t on_top = (uintptr_t)top->start, window = ALIGN_DOWN(on_top, REGION_SIZE);
	uintptr_t first = on_top, low = 0, high = 0; /* of all; two windows and one window below what is in use */
	for (size_t i = 0; i < count; i++) {
		const uintptr_t start = (uintptr_t)below[i]->start;
		first = min_size(first, start);
		if (ALIGN_DOWN(start, REGION_SIZE) == window - REGION_SIZE) high = start;
		if (ALIGN_DOWN(start, REGION_SIZE) == window - 2 * REGION_SIZE) low = start;
		heap_free(below[i]);
	}
	assert_true(low > 0 && high > 0);
	hide(low, true);
	assert_false(is_due(high));
	assert_false(is_due(on_top));
	hide(low, false);
	/* The break goes down with the last one: as a threshold says that is longer than a window. */
	const int64_t threshold = conf.trim_threshold;
	conf.trim_threshold = (int64_t)(2 * REGION_SIZE);
	heap_lock();
	const size_t length = top->slices;
	top->kind = SPAN_NONE;
	heap_put(page_map_region(on_top), slice_number(on_top), length, true);
	heap_unlock();
	assert_true(is_due(on_top));
	assert_true(is_due(high));
	conf.trim_threshold = (int64_t)(16 * REGION_SIZE);
	assert_false(is_due(on_top));
	conf.trim_threshold = -1;
	assert_false(is_due(on_top));
	conf.trim_threshold = MIB;
	hide(low, true);
	assert_true(is_due(on_top));
	assert_true(is_due(high)); /* something may have held it up */
	hide(low, false);
	conf.trim_threshold = threshold;
	assert_true(heap_trim(0) > 0);
	assert_true((uintptr_t)sbrk(0) <= ALIGN_UP(first, REGION_SIZE));
}

/* ---- regions that cannot be opened further ---- */

enum { FULL = 300 };

static struct region full[FULL];

static void who_grows_passes_so_many_and_goes_on_there(void **state) {
	(void)state;
	heap_purge();
	heap_free(heap_alloc(1, 1, REGION_MAPPED, SPAN_RUN, NULL));
	heap_lock();
	struct region *const real = atomic_load(&heap.regions);
	struct region *open = real;
	while (open != NULL && !(open->whole && open->kind == REGION_MAPPED && open->committed < REGION_OPEN))
		open = open->next;
	assert_non_null(open);
	for (size_t i = 0; i < FULL; i++) {
		full[i].kind = REGION_MAPPED;
		full[i].next = i + 1 < FULL ? &full[i + 1] : real;
	}
	atomic_store(&heap.regions, full);
	heap.extended = full;
	const size_t before = heap.stats.regions, opened = open->committed;
	assert_true(heap_grow(REGION_MAPPED, 1));
	assert_int_equal(heap.stats.regions, before + 1);
	assert_int_equal(open->committed, opened);
	/* The new one is the next that is asked. */
	assert_true(heap_grow(REGION_MAPPED, REGION_OPEN / 2));
	assert_int_equal(heap.stats.regions, before + 1);
	/* From the middle on, an old one is near enough. */
	heap.extended = &full[FULL / 2];
	assert_true(heap_grow(REGION_MAPPED, 1));
	assert_int_equal(heap.stats.regions, before + 1);
	assert_true(heap.extended < full || heap.extended >= full + FULL);
	struct region *head = atomic_load(&heap.regions);
	while (head != full && head->next != full) head = head->next;
	if (head == full)
		atomic_store(&heap.regions, real);
	else
		head->next = real;
	heap_unlock();
	heap_trim(0);
}

/* ---- dirty slices, of which a call purges a piece ---- */

static void the_next_piece_goes_on(void **state) {
	(void)state;
	enum { RUNS = 8 };
	struct span *runs[RUNS];
	heap_purge();
	for (size_t i = 0; i < RUNS; i++)
		assert_non_null(runs[i] = heap_alloc(RUN_MAX / SLICE_SIZE, 1, REGION_MAPPED, SPAN_RUN, NULL));
	const int64_t limit = conf.dirty_max;
	conf.dirty_max = MIB; /* else nothing is due before time goes by */
	for (size_t i = 0; i < RUNS; i++) heap_free(runs[i]);
	conf.dirty_max = limit;
	size_t dirty = heap.stats.dirty;
	assert_true(dirty >= RUNS * RUN_MAX && heap.due > dirty / 2);
	struct region *passed = NULL;
	while (passed == NULL && heap.due > 0) {
		heap_purge_due();
		for (struct region *r = heap_regions(); r != NULL && r != heap.purged; r = r->next)
			if (r->slices_total > 0 && r->slices_dirty == 0) passed = r;
	}
	assert_non_null(passed);
	assert_true(heap.due > 0);
	dirty = heap.stats.dirty;
	const uintptr_t base = passed->base;
	hide(base, true);
	heap_purge_due();
	hide(base, false);
	assert_in_range(dirty - heap.stats.dirty, PURGE_PIECE, PURGE_PIECE + PURGE_CREDIT);
	/* And comes round. */
	heap.due = heap.stats.dirty;
	atomic_store(&heap_purge_is_due, true);
	heap_purge_all_due();
	assert_int_equal(heap.stats.dirty, 0);
	heap_trim(0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_piece_goes_on),
		cmocka_unit_test(a_free_looks_no_further_down_than_the_threshold),
		cmocka_unit_test(who_grows_passes_so_many_and_goes_on_there),
	};
	return cmocka_run_group_tests(tests, fill, NULL);
}
