/* Address space goes back: the break goes down, and regions that are free are unmapped, or closed at their
 * free ends. */
#include "arena/heap_inner.h"

#include "arena/brk.h"
#include "arena/place.h"
#include "base/gate.h"
#include "base/probe.h"

/* ---- the break ---- */

/* Purges the next dirty slices of the top, from `at` on: they go before the break. False: a fork is under
 * way. The lock is dropped meanwhile. */
static bool purge_top(struct region *r, size_t at, size_t end, size_t *total) {
	const size_t stop = min_size(bit_find(r->dirty, at, end, false), at + PURGE_PIECE / SLICE_SIZE);
	const size_t before = *total;
	const bool goes_on = heap_purge_slices(r, at, stop, false, total);
	heap.top_purged += *total - before;
	return goes_on;
}

/* What it takes to lower the break over the clean part of a window, in bytes that are purged meanwhile. */
#define TRIM_WORK MIB

/* Goes on from window to window, for a free top may be longer than one. */
size_t heap_lower_break(size_t threshold, size_t keep, size_t most) {
	size_t total = 0, work = 0;
	for (uintptr_t top; work < most && (top = brk_top()) != 0;) {
		struct region *r = page_map_region(top - 1);
		if (r == NULL || r->kind != REGION_BRK) break;
		size_t end = slice_number(top - 1) + 1, first = region_free_tail(r, end);
		bool whole = first == 0;
		if (!whole && (end - first) * SLICE_SIZE <= threshold) break;
		if (!whole) first = min_size(end, first + (ALIGN_UP(keep, SLICE_SIZE) >> SLICE_SHIFT));
		const size_t dirty = bit_find(r->dirty, first, end, true);
		if (dirty < end && !heap.refused) {
			const size_t before = total;
			if (!purge_top(r, dirty, end, &total)) break;
			work += total - before;
			continue; /* others may have taken what was free */
		}
		uintptr_t bottom = r->base + first * SLICE_SIZE;
		if (bottom == top || !brk_shrink(bottom)) break;
		heap_remove_slices(r, first, end - first);
		const size_t fresh = top - bottom - min_size(heap.top_purged, top - bottom);
		heap.top_purged -= top - bottom - fresh;
		total += fresh;
		work += TRIM_WORK;
		heap.stats.purged_total += fresh;
		if (!whole) break;
		lock_drop(&heap.lock, RANK_HEAP);
		lock_take(&heap.lock, RANK_HEAP);
	}
	if (work < most) heap.top_purged = 0;
	if (work >= most) heap.trim_due = true;
	return total;
}

/* As much more is kept below the break of a large heap as it grows by, see grow_brk. */
size_t heap_trim_threshold(void) {
	return (size_t)conf.trim_threshold + (thp_wanted(heap.stats.used) ? THP_STRETCH : 0);
}

/* Is there more to trim than the threshold, now that the slices from `first` on are free? Asks the kernel
 * nothing. Looks no further down from the break than the threshold is long: all windows below may be free,
 * and each free asks. */
bool heap_trim_is_due(const struct region *r, size_t first) {
	if (r->kind != REGION_BRK || conf.trim_threshold < 0) return false;
	const size_t threshold = heap_trim_threshold();
	const uintptr_t top = brk_extent().end, freed = r->base + first * SLICE_SIZE;
	uintptr_t start = top;
	const struct region *window;
	do {
		window = page_map_region(start - 1);
		if (window == NULL || window->kind != REGION_BRK) break;
		start = window->base + region_free_tail(window, slice_number(start - 1) + 1) * SLICE_SIZE;
	} while (start == window->base && top - start <= threshold);
	if (top - start <= threshold) return false;
	/* Else it was due before, unless something has held it up, and it is free from here on. */
	return start <= freed || bit_find(r->free, first, REGION_SLICES, false) == REGION_SLICES;
}

/* ---- regions ---- */

static bool is_free(const struct region *r, size_t first, size_t count) {
	return bits_count(r->free, first, count) == count;
}

/* Is the region mapped as a whole, and is all of it free? */
static bool is_idle(const struct region *r) { return r->whole && r->slices_used == 0; }

/* The first piece of the region that is free: its slices. False: there is none. */
static bool free_piece(const struct region *r, size_t *first, size_t *count) {
	size_t at = bit_find(r->starts, 0, REGION_SLICES, true);
	for (; at < REGION_SLICES; at = bit_find(r->starts, at + 1, REGION_SLICES, true)) {
		*first = at;
		*count = bit_find(r->ends, at, REGION_SLICES, true) + 1 - at;
		if (is_free(r, at, *count)) return true;
	}
	return false;
}

/* Is another region of the kind free as a whole? */
static bool has_other(const struct region *r) {
	const struct region *other = heap_regions();
	while (other != NULL && (other == r || other->kind != r->kind || !is_idle(other))) other = other->next;
	return other != NULL;
}

/* Takes a mapping that is free out of the records. Returns its slices; 0: there is none. */
static size_t take_out_mapping(struct region *r, bool keep_one, char **start, size_t *size) {
	const size_t front = r->kind == REGION_GUARDED ? SLICE_SIZE : 0;
	size_t first = 0, count = r->slices_total;
	*start = (char *)r->base;
	*size = REGION_SIZE;
	if (is_idle(r)) {
		if (keep_one && !has_other(r)) return 0;
		first = bit_find(r->ours, 0, REGION_SLICES, true);
		/* some could not be opened again: see close_tail */
		if (count > 0 && bits_count(r->ours, first, count) != count) return 0;
		if (count > 0) heap_remove_slices(r, first, count);
		count = max_size(count, 1); /* what is reserved only goes, too */
	} else {
		if (r->whole || r->kind == REGION_BRK || !free_piece(r, &first, &count)) return 0;
		*start += first * SLICE_SIZE - front;
		*size = front + count * SLICE_SIZE + os_page_size;
		bit_clear(r->starts, first);
		bit_clear(r->ends, first + count - 1);
		heap_remove_slices(r, first, count);
	}
	if (r->slices_total == 0) heap_forget_region(r);
	return count;
}

/* Unmaps what is free of the region, each mapping as a whole; a region that is free as a whole, if no other
 * would be left. Returns the bytes given back. The lock is dropped meanwhile. */
static size_t unmap_free(struct region *r, bool keep_one) {
	size_t total = 0, slices;
	do {
		char *start;
		size_t size;
		if (!gate_try_enter()) break;
		slices = take_out_mapping(r, keep_one, &start, &size);
		if (slices > 0) {
			lock_drop(&heap.lock, RANK_HEAP);
			os_unmap(start, size);
			PROBE(region_unmapped, start, ALIGN_DOWN(size, SLICE_SIZE));
			lock_take(&heap.lock, RANK_HEAP);
			place_leave(start);
		}
		gate_leave();
		total += slices * SLICE_SIZE;
	} while (slices > 0);
	heap.stats.purged_total += total;
	return total;
}

/* Makes the free end of a region inaccessible, so that nothing is charged for it. Returns the bytes. The lock
 * is dropped meanwhile. */
static size_t close_tail(struct region *r) {
	if (!r->whole || r->kind != REGION_MAPPED) return 0;
	const size_t end = r->committed, first = region_free_tail(r, end), count = end - first;
	if (count < COMMIT_LEAST / SLICE_SIZE || !gate_try_enter()) return 0;
	char *start = (char *)r->base + first * SLICE_SIZE;
	heap_take(r, first, count, NULL);
	const size_t backed = heap.backed;
	heap.stats.purging += count * SLICE_SIZE;
	lock_drop(&heap.lock, RANK_HEAP);
	enum decommit done = os_decommit(start, count * SLICE_SIZE);
	if (done == DECOMMITTED) { /* it is a new mapping */
		os_name(start, count * SLICE_SIZE, NAME_HEAP);
		thp_decline((uintptr_t)start, count * SLICE_SIZE);
	}
	/* Where it is closed, but may hold anything, it is opened again. */
	if (done == DECOMMIT_DIRTY && os_commit(start, count * SLICE_SIZE)) done = DECOMMIT_REFUSED;
	lock_take(&heap.lock, RANK_HEAP);
	heap.stats.purging -= count * SLICE_SIZE;
	/* Another thread may have gone on behind it. */
	bool closed = done != DECOMMIT_REFUSED;
	if (closed && r->committed != end) closed = !os_commit(start, count * SLICE_SIZE);
	heap_put(r, first, count, done != DECOMMITTED);
	cap_add(done != DECOMMITTED ? count * SLICE_SIZE : 0);
	cap_give(backed);
	if (closed) {
		if (r->committed == end) r->committed = (uint16_t)first;
		heap_remove_slices(r, first, count);
	}
	gate_leave();
	if (done == DECOMMITTED) heap.stats.purged_total += count * SLICE_SIZE;
	return done == DECOMMITTED ? count * SLICE_SIZE : 0;
}

/* Unmaps what of a region is reserved only: it is a piece from then on. The lock is dropped meanwhile. */
static void unmap_rest(struct region *r) {
	if (!r->whole || r->kind != REGION_MAPPED || r->committed == REGION_OPEN || !gate_try_enter()) return;
	const size_t size = r->committed * SLICE_SIZE;
	char *rest = (char *)r->base + size + os_page_size;
	r->whole = false;
	bit_set(r->starts, 0);
	bit_set(r->ends, r->committed - 1u);
	lock_drop(&heap.lock, RANK_HEAP);
	os_unmap(rest, REGION_SIZE - size - os_page_size);
	PROBE(region_unmapped, rest, REGION_SIZE - size - os_page_size);
	lock_take(&heap.lock, RANK_HEAP);
	gate_leave();
}

/* Unmaps a region that has been free and clean for long, unless it is the only such one of its kind: a
 * program may need one again and again. */
void heap_unmap_idle(void) {
	struct region *longest[REGION_GUARDED + 1] = { NULL };
	size_t count[REGION_GUARDED + 1] = { 0 }, looked = 0;
	for (struct region *r = heap_regions(); r != NULL; r = r->next, heap_pause(&looked)) {
		const uint32_t kind = r->kind;
		const bool idle = kind != REGION_BRK && is_idle(r) && r->slices_dirty == 0;
		r->idle = idle ? (uint16_t)min_size(r->idle + 1u, IDLE_INTERVALS) : 0;
		if (!idle) continue;
		count[kind]++;
		if (longest[kind] == NULL || r->idle > longest[kind]->idle) longest[kind] = r;
	}
	heap.any_idle = false;
	for (int kind = REGION_MAPPED; kind <= REGION_GUARDED; kind++) {
		if (count[kind] < 2) continue;
		heap.any_idle = true;
		if (longest[kind]->idle == IDLE_INTERVALS) unmap_free(longest[kind], true);
	}
}

/* ---- all of it ---- */

size_t heap_trim(size_t keep) {
	lock_take(&heap.lock, RANK_HEAP);
	size_t trimmed = heap_lower_break(0, keep, SIZE_MAX), looked = 0;
	for (struct region *r = heap_regions(); r != NULL; r = r->next, heap_pause(&looked))
		trimmed += unmap_free(r, true) + close_tail(r);
	lock_drop(&heap.lock, RANK_HEAP);
	return trimmed;
}

void heap_release(size_t wanted) {
	lock_take(&heap.lock, RANK_HEAP);
	/* Without its reserved end, a region never grows again, and the next one needs a record, which stays: so
	 * it is kept when it was not addresses that were missing, but the cap that refused. */
	const bool addresses_lack =
	    conf.cap == 0 || !heap_can_map(ALIGN_UP(wanted, os_page_size) + 2 * REGION_SIZE);
	brk_forget_refusals();
	heap_lower_break(0, 0, SIZE_MAX);
	size_t looked = 0;
	for (struct region *r = heap_regions(); r != NULL; r = r->next, heap_pause(&looked)) {
		unmap_free(r, false);
		close_tail(r);
		if (addresses_lack && r->committed > 0) unmap_rest(r);
	}
	lock_drop(&heap.lock, RANK_HEAP);
}
