#include "arena/large.h"

#include "arena/clear.h"
#include "arena/heap.h"
#include "arena/huge.h"
#include "arena/pressure.h"
#include "arena/thp.h"
#include "base/bitmap.h"
#include "base/conf.h"

static_assert(RUN_MAX / SLICE_SIZE <= UINT16_MAX, "span.slices counts any run");

/* Huge pages are not broken up for it. */
static void clear_run(const struct span *run, size_t size, const struct stale *stale) {
	const struct region *r = page_map_region((uintptr_t)run->start);
	const size_t first = slice_number((uintptr_t)run->start);
	for (size_t i = bit_find(stale->map, 0, run->slices, true); i < run->slices;) {
		const size_t end = bit_find(stale->map, i, run->slices, false), from = i * SLICE_SIZE;
		if (from >= size) return;
		bool huge = false;
		for (size_t n = i; n < end; n += HUGE_PAGE_SLICES) huge |= thp_covers(r, first + n);
		clear_stale(run->start + from, min_size(end * SLICE_SIZE, size) - from,
		            !huge && !thp_covers(r, first + end - 1));
		i = bit_find(stale->map, end, run->slices, true);
	}
}

static void *run_alloc(size_t size, size_t align, bool zero, enum region_kind preferred) {
	size_t slices = ALIGN_UP(size, SLICE_SIZE) >> SLICE_SHIFT;
	struct stale stale;
	struct span *run =
	    heap_alloc(slices, max_size(align >> SLICE_SHIFT, 1), preferred, SPAN_RUN, zero ? &stale : NULL);
	if (run == NULL) return NULL;
	run->home = 0;
	pressure_poke();
	if (zero && stale.slices > 0) clear_run(run, size, &stale);
	return run->start;
}

static void *map_block(size_t size, size_t align, bool zero) {
	size_t stale;
	void *block = huge_alloc(size, align, &stale);
	if (block != NULL && zero && stale > 0) clear_stale(block, min_size(size, stale), true);
	return block;
}

void *large_alloc(size_t size, size_t align, bool zero, enum region_kind preferred) {
	bool fits = size <= RUN_MAX && align <= RUN_MAX;
	if (fits && size <= (size_t)conf.mmap_threshold) {
		void *block = run_alloc(size, align, zero, preferred);
		/* No whole region to be had: a mapping of just this size may still be. */
		return block != NULL ? block : map_block(size, align, zero);
	}
	void *block = map_block(size, align, zero);
	if (block == NULL && fits) block = run_alloc(size, align, zero, preferred);
	return block;
}

bool large_resize_run(struct span *run, size_t size) {
	if (size > RUN_MAX) return false;
	size_t slices = ALIGN_UP(size, SLICE_SIZE) >> SLICE_SHIFT;
	if (slices == run->slices && run->kind == SPAN_RUN) return true;
	return !run->altered && heap_resize(run, slices); /* what an altered one leaves would go on as it is */
}
