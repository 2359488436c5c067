/* Where new slices come from: the break goes up, a region is mapped or opened further, or a piece of one
 * where there is no room for a whole one. */
#include "arena/heap_inner.h"

#include "arena/brk.h"
#include "arena/layout.h"
#include "arena/place.h"
#include "base/probe.h"

/* ---- records of regions ---- */

/* Without a region yet. */
static struct region *record_create(void) {
	struct region *r = heap.spare;
	if (r != NULL) {
		heap.spare = r->next_free;
		return r;
	}
	r = os_map_guarded(ALIGN_UP(sizeof *r, os_page_size));
	if (r == NULL) return NULL;
	r->next = atomic_load_explicit(&heap.regions, memory_order_relaxed);
	atomic_store_explicit(&heap.regions, r, memory_order_release);
	heap.stats.metadata += sizeof *r;
	cap_add(sizeof *r);
	arenal_layout.regions = (uintptr_t)r;
	return r;
}

static void record_retire(struct region *r) {
	r->next_free = heap.spare;
	heap.spare = r;
}

static struct region *region_create(uintptr_t base, enum region_kind kind) {
	if (!page_map_commit(base)) return NULL;
	struct region *r = record_create();
	if (r == NULL) return NULL;
	r->base = base;
	r->kind = kind;
	r->node = node_of_memory();
	r->whole = false;
	r->idle = 0;
	if (!page_map_set_region(base, r)) {
		record_retire(r);
		return NULL;
	}
	heap.stats.regions += kind != REGION_BRK;
	return r;
}

/* Nothing is mapped there any more, or is about to be. */
void heap_forget_region(struct region *r) {
	page_map_set_region(r->base, NULL);
	heap.stats.regions -= r->kind != REGION_BRK;
	r->whole = false;
	r->committed = 0;
	record_retire(r);
}

/* Makes the slices [start, end), fresh from the kernel, available. What no record can be had for stays
 * unused. */
static bool add_slices(uintptr_t start, uintptr_t end, enum region_kind kind) {
	bool any = false;
	while (start < end) {
		uintptr_t base = ALIGN_DOWN(start, REGION_SIZE);
		uintptr_t stop = min_size(end, base + REGION_SIZE);
		struct region *r = page_map_region(base);
		if (r == NULL) r = region_create(base, kind);
		const bool fits = r != NULL && (r->kind == REGION_GUARDED) == (kind == REGION_GUARDED);
		if (fits) {
			size_t first = slice_number(start), count = (stop - start) >> SLICE_SHIFT;
			if (r->slices_used == r->slices_total) region_link(r);
			heap.grown = r;
			bits_set(r->ours, first, count);
			bits_set(r->free, first, count);
			r->slices_total += (uint32_t)count;
			r->run_bound = REGION_SLICES;
			heap.stats.mapped += stop - start;
			if (r->kind == REGION_BRK) heap.stats.brk_bytes += stop - start;
			any = true;
		}
		start = stop;
	}
	return any;
}

/* Forgets slices that are free and about to go back to the kernel. */
void heap_remove_slices(struct region *r, size_t first, size_t count) {
	r->slices_total -= (uint32_t)count;
	size_t dirty = bits_count(r->dirty, first, count);
	cap_give((dirty + bits_count(r->lazy, first, count)) * SLICE_SIZE);
	r->slices_dirty -= (uint32_t)dirty;
	heap.stats.dirty -= dirty * SLICE_SIZE;
	bits_clear(r->dirty, first, count);
	bits_clear(r->lazy, first, count);
	bits_clear(r->free, first, count);
	bits_clear(r->ours, first, count);
	thp_forget(r, first, count);
	if (r->slices_used == r->slices_total) region_unlink(r);
	heap.stats.mapped -= count * SLICE_SIZE;
	if (r->kind == REGION_BRK) heap.stats.brk_bytes -= count * SLICE_SIZE;
}

/* ---- growth ---- */

static bool grow_brk(size_t slices) {
	size_t bytes = slices * SLICE_SIZE, pad = ALIGN_UP((size_t)conf.top_pad, SLICE_SIZE);
	if (thp_wanted(heap.stats.used))
		pad = ALIGN_UP(brk_extent().end + bytes + pad, THP_STRETCH) - brk_extent().end - bytes;
	struct brk_range got = brk_grow(bytes, ALIGN_UP(pad, SLICE_SIZE));
	if (got.start < got.end) thp_decline_brk(got.start, got.end);
	const bool any = add_slices(got.start, got.end, REGION_BRK);
	/* The last window has no record: what is unknown at the top would hold the break there for ever. */
	if (got.start < got.end && page_map_region(got.end - 1) == NULL)
		brk_shrink(max_size(got.start, ALIGN_DOWN(got.end - 1, REGION_SIZE)));
	return any;
}

/* Makes slices accessible, so that there are so many free ones at the end. */
static bool extend(struct region *r, size_t slices) {
	const size_t from = r->committed, left = REGION_OPEN - from, tail = from - region_free_tail(r, from);
	const size_t needed = slices > tail ? slices - tail : 1;
	if (needed > left) return false;
	size_t step =
	    max_size(min_size(max_size(from, COMMIT_LEAST / SLICE_SIZE), COMMIT_MOST / SLICE_SIZE), needed);
	step = thp_wanted(heap.stats.used) ? left : min_size(step, left);
	const uintptr_t start = r->base + from * SLICE_SIZE;
	if (!os_commit((void *)start, step * SLICE_SIZE)) {
		step = needed;
		if (!os_commit((void *)start, step * SLICE_SIZE)) return false;
	}
	r->committed = (uint16_t)(from + step);
	heap.extended = r;
	return add_slices(start, start + step * SLICE_SIZE, REGION_MAPPED);
}

/* A region that can be opened further is most often the last one that was. A heap may have any number of
 * regions, and all wait for who grows it: so many are passed at a time, and the next time goes on there. */
#define REGIONS_PASSED 256

static bool extend_any(size_t slices) {
	struct region *const newest = atomic_load_explicit(&heap.regions, memory_order_relaxed);
	struct region *r = heap.extended != NULL ? heap.extended : newest, *const begin = r;
	for (size_t passed = 0; r != NULL && passed < REGIONS_PASSED; passed++) {
		if (r->whole && r->kind == REGION_MAPPED && r->committed < REGION_OPEN && region_is_near(r) &&
		    extend(r, slices))
			return true;
		r = r->next != NULL ? r->next : newest;
		if (r == begin) break;
	}
	heap.extended = r;
	return false;
}

/* The first slice of guarded memory stays unused, and inaccessible. */
static bool map_region(enum region_kind kind, size_t slices) {
	char *p = place_map(REGION_SIZE, 0, false);
	if (p == NULL) return false;
	os_name(p, REGION_SIZE, NAME_HEAP);
	if (kind == REGION_MAPPED) thp_decline((uintptr_t)p, REGION_SIZE);
	struct region *r = region_create((uintptr_t)p, kind);
	if (r != NULL) {
		r->whole = true;
		const bool guarded = kind == REGION_GUARDED;
		if (guarded ? add_slices(r->base + SLICE_SIZE, r->base + REGION_SIZE, kind) : extend(r, slices)) {
			PROBE(region_mapped, p, REGION_SIZE);
			return true;
		}
		heap_forget_region(r);
	}
	os_unmap(p, REGION_SIZE);
	place_leave(p);
	return false;
}

/* Of one that lies in two windows, no more is known than its slices: it is never unmapped. */
static void note_piece(uintptr_t first, uintptr_t last) {
	struct region *r = page_map_region(first);
	if (r == NULL || r != page_map_region(last)) return;
	bit_set(r->starts, slice_number(first));
	bit_set(r->ends, slice_number(last));
}

/* Maps a piece of a region, where there is no room for a whole one. Behind a piece lies an inaccessible
 * page. */
static bool map_piece(enum region_kind kind, size_t slices) {
	const size_t front = kind == REGION_GUARDED ? SLICE_SIZE : 0;
	const size_t bytes = ALIGN_UP(slices * SLICE_SIZE + front, PIECE_SIZE);
	if (bytes >= REGION_SIZE) return false;
	char *p = place_map(bytes, os_page_size, kind != REGION_GUARDED);
	if (p == NULL) return false;
	os_name(p, bytes + os_page_size, NAME_HEAP);
	if (kind != REGION_GUARDED) thp_decline((uintptr_t)p, bytes + os_page_size);
	if (kind != REGION_GUARDED) os_guard(p + bytes, os_page_size);
	if (add_slices((uintptr_t)p + front, (uintptr_t)p + bytes, kind)) {
		note_piece((uintptr_t)p + front, (uintptr_t)p + bytes - 1);
		PROBE(region_mapped, p, bytes);
		return true;
	}
	os_unmap(p, bytes + os_page_size);
	place_leave(p);
	return false;
}

/* The break goes up behind slices of one node. */
static bool break_is_near(void) {
	const uintptr_t end = brk_extent().end;
	const struct region *r = end > 0 ? page_map_region(end - 1) : NULL;
	return r == NULL || region_is_near(r);
}

bool heap_grow(enum region_kind kind, size_t slices) {
	if (kind == REGION_BRK) return break_is_near() && grow_brk(slices);
	if (kind == REGION_MAPPED && extend_any(slices)) return true;
	return map_region(kind, slices) || map_piece(kind, slices);
}

/* Is the slice `at` of region r behind all that is in use there? The end of what is ours is `*end`. */
static bool is_free_end(const struct region *r, size_t at, size_t *end) {
	if (r->kind == REGION_BRK) {
		const uintptr_t top = brk_top();
		if (top == 0 || page_map_region(top - 1) != r) return false;
		*end = slice_number(top - 1) + 1;
	} else {
		if (r->kind != REGION_MAPPED || !r->whole) return false;
		*end = r->committed;
	}
	return region_free_tail(r, *end) == at;
}

bool heap_grow_behind(struct region *r, size_t at, size_t slices) {
	size_t end;
	if (at + slices > REGION_SLICES || !is_free_end(r, at, &end)) return false;
	if (r->kind == REGION_MAPPED) return extend(r, slices);
	/* Somebody else's sbrk may come in between: then ours lies behind his. */
	return grow_brk(slices - (end - at)) && bits_count(r->free, at, slices) == slices;
}

bool heap_can_map(size_t size) {
	char *p = os_reserve(size, os_page_size);
	const bool opened = p != NULL && os_commit(p, os_page_size);
	if (p != NULL) os_unmap(p, size);
	return opened;
}

/* At the limit of a process's mappings (vm.max_map_count) or addresses, each run that is cut from a longer
 * one may be missed: then all runs are looked at for the best. Otherwise that is not worth its time. */
void heap_try_to_map(void) {
	heap.try_due = false;
	heap.scarce = !heap_can_map(REGION_SIZE);
}
