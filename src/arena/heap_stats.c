/* What the page heap has, in bytes. */
#include "arena/heap_inner.h"

#include "arena/brk.h"

/* Slices that are free and count as clean, and that the kernel may back all the same: what went lazily, and
 * the rest of huge pages of which anything is not clean. */
static size_t unsure_slices(const struct region *r) {
	size_t count = 0;
	for (size_t w = 0; w < REGION_SLICES / 64; w++) {
		const uint64_t clean = r->free[w] & ~r->dirty[w];
		uint64_t huge = 0;
		for (size_t i = w * 64; i < (w + 1) * 64; i += HUGE_PAGE_SLICES) {
			const uint64_t page = bits_in_word(w, i, HUGE_PAGE_SLICES);
			if (thp_covers(r, i) && (clean & page) != page) huge |= page;
		}
		count += (size_t)__builtin_popcountll(r->lazy[w] | (clean & huge));
	}
	return count;
}

size_t heap_backed_at_most(void) {
	lock_take(&heap.lock, RANK_HEAP);
	size_t bytes = heap.stats.used + heap.stats.dirty + heap.stats.metadata, looked = 0;
	for (const struct region *r = heap.any_lazy ? heap_regions() : NULL; r != NULL;
	     r = r->next, heap_pause(&looked))
		bytes += bits_count(r->lazy, 0, REGION_SLICES) * SLICE_SIZE;
	lock_drop(&heap.lock, RANK_HEAP);
	return bytes;
}

void heap_stats_get(struct heap_stats *out) {
	size_t unsure = 0, looked = 0;
	lock_take(&heap.lock, RANK_HEAP);
	for (const struct region *r = heap_regions(); r != NULL; r = r->next, heap_pause(&looked))
		unsure += unsure_slices(r) * SLICE_SIZE;
	*out = heap.stats;
	/* of other moments: what it is a part of bounds it */
	out->unsure = min_size(unsure, out->mapped - out->used - out->dirty);
	struct brk_range brk = brk_extent();
	lock_drop(&heap.lock, RANK_HEAP);
	out->brk_start = brk.start;
	out->brk_end = brk.end;
}
