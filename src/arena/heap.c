/* Which slices a run gets: dirty ones first, then those of the preferred kind of region, then new ones. */
#include "arena/heap_inner.h"

#include "arena/pressure.h"
#include "arena/report.h"

struct page_heap heap __attribute__((aligned(CACHE_LINE)));

void region_link(struct region *r) {
	r->prev_free = NULL;
	r->next_free = heap.with_free[r->kind];
	if (r->next_free != NULL) r->next_free->prev_free = r;
	heap.with_free[r->kind] = r;
}

void region_unlink(struct region *r) {
	if (r->prev_free != NULL)
		r->prev_free->next_free = r->next_free;
	else
		heap.with_free[r->kind] = r->next_free;
	if (r->next_free != NULL) r->next_free->prev_free = r->prev_free;
	if (unlikely(heap.resume[r->kind] == r)) heap.resume[r->kind] = r->next_free;
}

/* The free slices at the end of window r, up to slice `end`: the first of them. */
size_t region_free_tail(const struct region *r, size_t end) { return bits_set_before(r->free, end); }

/* ---- runs ---- */

/* The first that is long enough, and begins at a multiple of `align`; REGION_SLICES: there is none. */
static size_t find_run(const uint64_t *map, size_t slices, size_t align) {
	const size_t least = min_size(slices, 64);
	size_t start = 0;
	if (likely(slices <= 64 && align == 1)) return bits_find_run(map, REGION_SLICES / 64, 0, slices);
	while ((start = bits_find_run(map, REGION_SLICES / 64, start, least)) < REGION_SLICES) {
		const size_t end = bit_find(map, start, REGION_SLICES, false), at = ALIGN_UP(start, align);
		if (at + slices <= end) return at;
		start = end;
	}
	return REGION_SLICES;
}

static void note_stale(const struct region *r, size_t first, size_t slices, struct stale *stale) {
	const size_t words = REGION_SLICES / 64;
	for (size_t i = 0; i < slices; i += 64) {
		const uint64_t bits = bits_from(r->dirty, words, first + i) | bits_from(r->lazy, words, first + i);
		stale->map[i / 64] = bits & bits_in_word(0, 0, min_size(slices - i, 64));
	}
}

struct span *heap_take(struct region *r, size_t first, size_t slices, struct stale *stale) {
	size_t dirty = bits_count(r->dirty, first, slices), lazy = 0;
	if (unlikely(heap.any_lazy)) lazy = bits_count(r->lazy, first, slices);
	heap.backed = (dirty + lazy) * SLICE_SIZE;
	if (stale != NULL) {
		stale->slices = dirty + lazy;
		if (stale->slices > 0) note_stale(r, first, slices, stale);
	}
	bits_clear(r->free, first, slices);
	bits_clear(r->dirty, first, slices);
	if (unlikely(heap.any_lazy)) bits_clear(r->lazy, first, slices);
	r->slices_used += (uint32_t)slices;
	r->slices_dirty -= (uint32_t)dirty;
	heap.stats.used += slices * SLICE_SIZE;
	heap.stats.dirty -= dirty * SLICE_SIZE;
	heap.least_dirty = min_size(heap.least_dirty, heap.stats.dirty);
	heap.spared = min_size(heap.spared, heap.stats.dirty);
	heap.settled = min_size(heap.settled, heap.stats.dirty);
	if (r->slices_used == r->slices_total) region_unlink(r);
	struct span *s = &r->spans[first];
	s->start = (char *)r->base + first * SLICE_SIZE;
	s->slices = (uint16_t)slices;
	return s;
}

static struct span *take_clean(struct region *r, size_t at, size_t slices, struct stale *stale) {
	if (r->kind != REGION_GUARDED && thp_wanted(heap.stats.used)) thp_ask(r, at);
	return heap_take(r, at, slices, stale);
}

/* From what the heap has just grown by, wherever that region is in its list. */
static struct span *take_grown(size_t slices, size_t align, struct stale *stale) {
	const size_t at = find_run(heap.grown->free, slices, align);
	return at < REGION_SLICES ? take_clean(heap.grown, at, slices, stale) : NULL;
}

/* Steps that a search may take at a time: one for a region that it passes, which is a cache miss, and so many
 * for one that it looks into. */
#define SEARCH_STEPS ((size_t)1024)
#define SEARCH_LOOK ((size_t)16)

/* In the region that last had something freed, or in the next ones. A heap may have any number of regions,
 * and all wait for who searches. So a search looks at some from the first on, and then goes on where the last
 * one stopped: what nothing is found for grows the heap, and is taken from what has grown. Dirty slices are
 * worth no more than the first part. */
static struct span *take_within(size_t steps, enum region_kind kind, size_t slices, size_t align, bool dirty,
                                struct stale *stale) {
	struct region *r = heap.with_free[kind];
	if (dirty && heap.stats.dirty < slices * SLICE_SIZE) return NULL;
	for (int part = 0; part < 2; part++) {
		for (size_t left = steps; r != NULL && left >= SEARCH_LOOK; r = r->next_free) {
			left--;
			if (r->run_bound < slices || (dirty && r->slices_dirty < slices) || !region_is_near(r)) continue;
			left -= SEARCH_LOOK - 1;
			const size_t at = find_run(dirty ? r->dirty : r->free, slices, align);
			if (at < REGION_SLICES)
				return dirty ? heap_take(r, at, slices, stale) : take_clean(r, at, slices, stale);
			/* Of a longer one, some part would be aligned. */
			if (!dirty) r->run_bound = (uint32_t)min_size(r->run_bound, slices + align - 2);
		}
		if (part == 1) heap.resume[kind] = r;
		if (r == NULL || dirty) return NULL;
		if (heap.resume[kind] != NULL) r = heap.resume[kind];
	}
	return NULL;
}

struct span *heap_take_free(enum region_kind kind, size_t slices, size_t align, bool dirty,
                            struct stale *stale) {
	return take_within(SEARCH_STEPS, kind, slices, align, dirty, stale);
}

struct span *heap_take_any(enum region_kind kind, size_t slices, size_t align, bool dirty,
                           struct stale *stale) {
	return take_within(SIZE_MAX, kind, slices, align, dirty, stale);
}

/* A heap may have any number of regions: the best of so many is good enough. */
#define REGIONS_COMPARED 64

/* The free run that is nearest to what is needed, of any kind that is not guarded, dirty or not. */
static struct span *take_best(size_t slices, size_t align, enum region_kind preferred, struct stale *stale) {
	struct region *best = NULL;
	size_t best_at = 0, best_length = SIZE_MAX, compared = 0;
	for (int i = 0; i < 2 && best_length > slices; i++) {
		struct region *r = heap.with_free[i == 0                    ? preferred
		                                  : preferred == REGION_BRK ? REGION_MAPPED
		                                                            : REGION_BRK];
		for (; r != NULL && best_length > slices && compared < REGIONS_COMPARED;
		     r = r->next_free, compared++) {
			if (r->run_bound < slices || find_run(r->free, slices, align) == REGION_SLICES) continue;
			size_t start = bit_find(r->free, 0, REGION_SLICES, true);
			while (start < REGION_SLICES && best_length > slices) {
				const size_t end = bit_find(r->free, start, REGION_SLICES, false),
				             at = ALIGN_UP(start, align);
				if (at + slices <= end && end - start < best_length) {
					best = r;
					best_at = at;
					best_length = end - start;
				}
				start = bit_find(r->free, end, REGION_SLICES, true);
			}
		}
	}
	return best != NULL ? heap_take(best, best_at, slices, stale) : NULL;
}

/* So many bytes were taken for it from the cap, before it was known what they are. */
static struct span *settle_cap(struct span *s, size_t bytes) {
	cap_give(s != NULL ? heap.backed : bytes);
	return s;
}

static NOINLINE struct span *take_best_within_cap(size_t slices, size_t align, enum region_kind preferred,
                                                  struct stale *stale) {
	if (!cap_take(slices * SLICE_SIZE)) return NULL;
	return settle_cap(take_best(slices, align, preferred, stale), slices * SLICE_SIZE);
}

/* Not of dirty slices alone: from what is mapped in regions of the preferred kind, then from new memory of
 * that kind; then the other kind. */
static struct span *take_or_grow(size_t slices, size_t align, enum region_kind preferred,
                                 enum region_kind other, struct stale *stale) {
	struct span *s = heap_take_free(preferred, slices, align, false, stale);
	for (int i = 0; i < 2 && s == NULL; i++) {
		enum region_kind kind = i == 0 ? preferred : other;
		if (i == 1) s = heap_take_free(other, slices, align, false, stale);
		/* Twice: what the break gained first may lie on both sides of a window's end, which no run
		 * crosses. */
		for (int again = 0; again < 2 && s == NULL && heap_grow(kind, slices + align - 1); again++) {
			s = take_grown(slices, align, stale);
			if (s == NULL) s = heap_take_free(kind, slices, align, false, stale);
		}
	}
	if (s == NULL) s = heap_take_any(preferred, slices, align, false, stale);
	if (s == NULL) s = heap_take_any(other, slices, align, false, stale);
	if (s != NULL) pressure_count(slices * SLICE_SIZE);
	if (s == NULL) heap.scarce = true;
	return s;
}

/* Dirty slices come first, wherever they are: they cost no page faults and no memory. */
static struct span *find_or_grow(size_t slices, size_t align, enum region_kind preferred,
                                 struct stale *stale) {
	enum region_kind other = preferred == REGION_BRK ? REGION_MAPPED : REGION_BRK;
	if (unlikely(heap.try_due)) heap_try_to_map();
	struct span *s = unlikely(heap.scarce) ? take_best_within_cap(slices, align, preferred, stale) : NULL;
	if (s == NULL) s = heap_take_free(preferred, slices, align, true, stale);
	if (s == NULL) s = heap_take_free(other, slices, align, true, stale);
	if (s != NULL) return s;
	/* At the cap, dirty slices are all that there is: they count already. */
	if (!cap_take(slices * SLICE_SIZE)) {
		s = heap_take_any(preferred, slices, align, true, stale);
		return s != NULL ? s : heap_take_any(other, slices, align, true, stale);
	}
	return settle_cap(take_or_grow(slices, align, preferred, other, stale), slices * SLICE_SIZE);
}

/* From the thread's own node. What lies on others is better than nothing. */
static NOINLINE struct span *find_near_first(size_t slices, size_t align, enum region_kind preferred,
                                             struct stale *stale) {
	heap.near = node_of_memory() + 1;
	struct span *s = find_or_grow(slices, align, preferred, stale);
	heap.near = 0;
	return s != NULL ? s : find_or_grow(slices, align, preferred, stale);
}

struct span *heap_alloc(size_t slices, size_t align, enum region_kind preferred, enum span_kind kind,
                        struct stale *stale) {
	lock_take(&heap.lock, RANK_HEAP);
	struct span *s = node_matters() ? find_near_first(slices, align, preferred, stale)
	                                : find_or_grow(slices, align, preferred, stale);
	if (s != NULL) s->kind = (uint8_t)kind;
	if (s != NULL) s->altered = false;
	if (s != NULL && kind == SPAN_SMALL) heap.stats.spans += slices * SLICE_SIZE;
	wave_note(&heap.wave, heap_backed());
	lock_drop(&heap.lock, RANK_HEAP);
	return s;
}

/* ---- giving back ---- */

void heap_put(struct region *r, size_t first, size_t count, bool dirty) {
	if (r->slices_used == r->slices_total) region_link(r);
	bits_set(r->free, first, count);
	r->slices_used -= (uint32_t)count;
	heap.stats.used -= count * SLICE_SIZE;
	/* With free slices on either side, the run is longer: how long, a search would have to find out. */
	const bool alone = (first == 0 || !bit_get(r->free, first - 1)) &&
	                   (first + count == REGION_SLICES || !bit_get(r->free, first + count));
	r->run_bound = alone ? (uint32_t)max_size(r->run_bound, count) : REGION_SLICES;
	if (dirty) {
		bits_set(r->dirty, first, count);
		r->slices_dirty += (uint32_t)count;
		heap.stats.dirty += count * SLICE_SIZE;
	}
}

static void free_run(struct span *run, bool dirty) {
	const uint64_t now = os_milliseconds(); /* nobody waits for the clock */
	lock_take(&heap.lock, RANK_HEAP);
	struct region *r = page_map_region((uintptr_t)run->start);
	size_t first = slice_number((uintptr_t)run->start);
	size_t slices = run->slices;
	if (run->kind == SPAN_SMALL) heap.stats.spans -= slices * SLICE_SIZE;
	run->kind = SPAN_NONE;
	heap_put(r, first, slices, dirty);
	if (heap_trim_is_due(r, first) && !purge_later(now)) heap_note_trim();
	heap_note_due(now);
	lock_drop(&heap.lock, RANK_HEAP);
}

void heap_free(struct span *run) { free_run(run, true); }
void heap_free_clean(struct span *run) { free_run(run, false); }

/* Takes so many slices from `at` on for the run before them. */
static bool grow_run(struct region *r, size_t at, size_t more) {
	if (!cap_take(more * SLICE_SIZE)) return false;
	const bool is_free = at + more <= REGION_SLICES && bit_find(r->free, at, at + more, false) == at + more;
	if (!is_free && !heap_grow_behind(r, at, more)) {
		cap_give(more * SLICE_SIZE);
		return false;
	}
	settle_cap(heap_take(r, at, more, NULL), more * SLICE_SIZE);
	pressure_count(more * SLICE_SIZE);
	return true;
}

bool heap_resize(struct span *run, size_t slices) {
	lock_take(&heap.lock, RANK_HEAP);
	struct region *r = page_map_region((uintptr_t)run->start);
	size_t first = slice_number((uintptr_t)run->start), old = run->slices;
	if (unlikely(run->kind != SPAN_RUN)) { /* another thread freed it meanwhile */
		lock_drop(&heap.lock, RANK_HEAP);
		report_pointer("realloc", run->start, NULL);
	}
	bool done = true;
	if (slices < old) {
		heap_put(r, first + slices, old - slices, true);
	} else if (slices > old) {
		done = grow_run(r, first + old, slices - old);
		wave_note(&heap.wave, heap_backed());
	}
	if (done) run->slices = (uint16_t)slices;
	lock_drop(&heap.lock, RANK_HEAP);
	return done;
}

/* ---- altered runs ---- */

/* The first slice of the run that the slice is in; of no run, some slice before it. */
static size_t run_start(const struct region *r, size_t slice) {
	while (slice > 0 && r->spans[slice].kind == SPAN_NONE) slice--;
	return slice;
}

/* Without the lock: runs that the program has stay what they are. */
bool heap_alter(const void *address, size_t size) {
	bool small = false;
	const uintptr_t end = (uintptr_t)address + size;
	for (uintptr_t at = (uintptr_t)address; at < end; at = ALIGN_DOWN(at, REGION_SIZE) + REGION_SIZE) {
		struct region *r = page_map_region(at);
		if (r == NULL) continue;
		const size_t first = slice_number(at),
		             stop = slice_number(min_size(end, at - at % REGION_SIZE + REGION_SIZE) - 1);
		for (size_t i = run_start(r, first); i <= stop; i++) {
			struct span *s = &r->spans[i];
			if (s->kind == SPAN_RUN && i + s->slices > first) s->altered = true;
			small |= i >= first && (s->kind == SPAN_SMALL || s->kind == SPAN_CONTINUED);
		}
	}
	return small;
}

bool heap_renew(struct span *run) {
	const size_t size = run->slices * SLICE_SIZE;
	if (os_decommit(run->start, size) != DECOMMITTED) return false;
	const struct region *r = page_map_region((uintptr_t)run->start);
	if (r->kind != REGION_BRK) os_name(run->start, size, NAME_HEAP);
	return os_commit(run->start, size);
}

/* ---- for others ---- */

struct region *heap_regions(void) {
	return atomic_load_explicit(&heap.regions, memory_order_acquire);
}

void heap_lock(void) { lock_take(&heap.lock, RANK_HEAP); }
void heap_unlock(void) { lock_drop(&heap.lock, RANK_HEAP); }
