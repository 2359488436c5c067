#include "arena/large.h"

#include <string.h>

#include "arena/heap.h"
#include "arena/huge.h"
#include "arena/pressure.h"
#include "base/conf.h"

static_assert(RUN_MAX / SLICE_SIZE <= UINT16_MAX, "span.slices counts any run");

static void *run_alloc(size_t size, size_t align, bool zero, enum region_kind preferred) {
	size_t slices = ALIGN_UP(size, SLICE_SIZE) >> SLICE_SHIFT;
	bool zeroed;
	struct span *run = heap_alloc(slices, max_size(align >> SLICE_SHIFT, 1), preferred, SPAN_RUN, &zeroed);
	if (run == NULL) return NULL;
	pressure_poke();
	if (zero && !zeroed) memset(run->start, 0, size);
	return run->start;
}

static void *map_block(size_t size, size_t align, bool zero) {
	bool zeroed;
	void *block = huge_alloc(size, align, &zeroed);
	if (block != NULL && zero && !zeroed) memset(block, 0, size);
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
	return slices == run->slices || heap_resize(run, slices);
}
