/* Guarded spans: hardened ones are followed by a slice that nobody may touch. While its slices are free,
 * nobody may touch them either. Each such span is two mappings to the kernel, whose number is limited
 * (vm.max_map_count, 65,530 by default): beyond HARD_SPANS_GUARDED_MAX, the guard of a new span is an unused
 * slice like any other. */
#include "arena/heap_inner.h"

#include "arena/pressure.h"

static struct span *take_guarded(size_t slices, struct stale *stale) {
	if (!cap_take(slices * SLICE_SIZE)) return NULL;
	struct span *s = heap_take_free(REGION_GUARDED, slices + 1, 1, false, stale);
	if (s == NULL && heap_grow(REGION_GUARDED, slices + 1))
		s = heap_take_free(REGION_GUARDED, slices + 1, 1, false, stale);
	if (s == NULL) s = heap_take_any(REGION_GUARDED, slices + 1, 1, false, stale);
	cap_give(s != NULL ? heap.backed : slices * SLICE_SIZE);
	if (s == NULL) return NULL;
	s->slices = (uint16_t)slices;
	heap.stats.used -= SLICE_SIZE;
	heap.guarded++;
	pressure_count(slices * SLICE_SIZE);
	return s;
}

static struct span *take_near_first(size_t slices, struct stale *stale) {
	struct span *s = NULL;
	if (node_matters()) {
		heap.near = node_of_memory() + 1;
		s = take_guarded(slices, stale);
		heap.near = 0;
	}
	return s != NULL ? s : take_guarded(slices, stale);
}

struct span *heap_alloc_guarded(size_t slices, enum span_kind kind, struct stale *stale) {
	lock_take(&heap.lock, RANK_HEAP);
	struct span *s = take_near_first(slices, stale);
	const bool guard = heap.guarded <= HARD_SPANS_GUARDED_MAX;
	if (s != NULL) {
		s->kind = (uint8_t)kind;
		heap.stats.spans += slices * SLICE_SIZE;
	}
	wave_note(&heap.wave, heap_backed());
	lock_drop(&heap.lock, RANK_HEAP);
	if (s == NULL || os_commit(s->start, (slices + !guard) * SLICE_SIZE)) return s;
	heap_free_guarded(s);
	return NULL;
}

void heap_free_guarded(struct span *s) {
	const size_t slices = s->slices + 1u;
	/* Where the kernel refuses, the slices stay accessible, and are dirty ones. Not to use them again would
	 * cost the program its memory, at a limit that it has reached already. */
	const bool clean = os_decommit(s->start, slices * SLICE_SIZE) == DECOMMITTED;
	os_name(s->start, slices * SLICE_SIZE, NAME_HEAP);
	lock_take(&heap.lock, RANK_HEAP);
	struct region *r = page_map_region((uintptr_t)s->start);
	heap.stats.spans -= s->slices * SLICE_SIZE;
	s->kind = SPAN_NONE;
	heap.stats.used += SLICE_SIZE;
	heap.guarded--;
	heap_put(r, slice_number((uintptr_t)s->start), slices, !clean);
	if (clean)
		cap_give(s->slices * SLICE_SIZE);
	else
		cap_add(SLICE_SIZE); /* the guard's slice may hold something, too */
	lock_drop(&heap.lock, RANK_HEAP);
}
