#include "arena/heap.h"

#include <stdatomic.h>

#include "arena/brk.h"
#include "arena/holes.h"
#include "arena/layout.h"
#include "arena/page_map.h"
#include "arena/place.h"
#include "arena/pressure.h"
#include "arena/report.h"
#include "arena/thp.h"
#include "arena/wave.h"
#include "base/bitmap.h"
#include "base/conf.h"
#include "base/gate.h"
#include "base/lock.h"
#include "base/probe.h"

/* A region that stayed free for so many intervals, four of which are `decay`, is unmapped. */
#define IDLE_INTERVALS 16

/* When a whole region cannot be mapped (RLIMIT_AS, fragmentation), pieces of this size are tried. */
#define PIECE_SIZE MIB

_Atomic uint64_t allowance_since;
_Atomic size_t wave_highest = ALLOWANCE_LEAST;
void (*_Atomic wave_rises)(void);
_Atomic bool purged_in_background;

static struct {
	struct lock lock;
	struct region *with_free[3];     /* by kind: regions with free slices */
	struct region *spare;            /* records of regions that were unmapped */
	_Atomic(struct region *) regions; /* all */
	struct heap_stats stats;
	struct wave wave;
	size_t spared;                    /* dirty bytes that the last look over all of them left: scraps of huge pages, and what
	                                     the kernel refused to take, as it does for locked memory */
	size_t guarded;                   /* guarded spans in use */
	bool refused;                     /* in the running interval, by the kernel: whoever frees need not try it each time */
	bool any_lazy;                    /* slices were purged lazily, ever */
	bool any_idle;                    /* regions are free that will be unmapped if that lasts */
	bool scarce;                      /* no region could be mapped when that was tried last */
	bool try_due;                     /* it is time to try */
	size_t least_dirty;               /* least dirty bytes in the running interval: nobody needed these */
} heap __attribute__((aligned(CACHE_LINE)));

/* ---- regions ---- */

static void link_free(struct region *r) {
	r->prev_free = NULL;
	r->next_free = heap.with_free[r->kind];
	if (r->next_free != NULL) r->next_free->prev_free = r;
	heap.with_free[r->kind] = r;
}

static void unlink_free(struct region *r) {
	if (r->prev_free != NULL)
		r->prev_free->next_free = r->next_free;
	else
		heap.with_free[r->kind] = r->next_free;
	if (r->next_free != NULL) r->next_free->prev_free = r->prev_free;
}

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
static void region_forget(struct region *r) {
	page_map_set_region(r->base, NULL);
	heap.stats.regions -= r->kind != REGION_BRK;
	r->whole = false;
	r->committed = 0;
	record_retire(r);
}

/* Makes the slices [start, end), fresh from the kernel, available. What no record can be had for stays unused. */
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
			if (r->slices_used == r->slices_total) link_free(r);
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
static void remove_slices(struct region *r, size_t first, size_t count) {
	r->slices_total -= (uint32_t)count;
	size_t dirty = bits_count(r->dirty, first, count);
	r->slices_dirty -= (uint32_t)dirty;
	heap.stats.dirty -= dirty * SLICE_SIZE;
	bits_clear(r->dirty, first, count);
	bits_clear(r->lazy, first, count);
	bits_clear(r->free, first, count);
	bits_clear(r->ours, first, count);
	thp_forget(r, first, count);
	if (r->slices_used == r->slices_total) unlink_free(r);
	heap.stats.mapped -= count * SLICE_SIZE;
	if (r->kind == REGION_BRK) heap.stats.brk_bytes -= count * SLICE_SIZE;
}

static bool grow_brk(size_t slices) {
	size_t bytes = slices * SLICE_SIZE, pad = ALIGN_UP((size_t)conf.top_pad, SLICE_SIZE);
	if (thp_wanted(heap.stats.used)) pad = ALIGN_UP(brk_extent().end + bytes + pad, THP_STRETCH) - brk_extent().end - bytes;
	struct brk_range got = brk_grow(bytes, ALIGN_UP(pad, SLICE_SIZE));
	if (got.start < got.end) thp_decline_brk(got.start, got.end);
	const bool any = add_slices(got.start, got.end, REGION_BRK);
	/* The last window has no record: what is unknown at the top would hold the break there for ever. */
	if (got.start < got.end && page_map_region(got.end - 1) == NULL) brk_shrink(max_size(got.start, ALIGN_DOWN(got.end - 1, REGION_SIZE)));
	return any;
}

/* Of a region that is not guarded, no more is accessible than is used, and charged to the process where the kernel does not promise more
 * than it has (vm.overcommit_memory): it grows like the break does, by what there is already, within these bounds. So its mapping is
 * two to the kernel, as with a guard. */
#define COMMIT_LEAST MIB
#define REGION_OPEN (REGION_SLICES - 1) /* the last slice stays inaccessible: what overflows there ends, not in the next region */
#define COMMIT_MOST (8 * MIB)

/* The free slices at the end of window r, up to slice `end`: the first of them. */
static size_t free_tail(const struct region *r, size_t end) {
	size_t first = end;
	while (first > 0 && bit_get(r->free, first - 1)) first--;
	return first;
}

/* Makes slices accessible, so that there are so many free ones at the end. */
static bool extend_region(struct region *r, size_t slices) {
	const size_t from = r->committed, left = REGION_OPEN - from, tail = from - free_tail(r, from);
	const size_t needed = slices > tail ? slices - tail : 1;
	if (needed > left) return false;
	size_t step = max_size(min_size(max_size(from, COMMIT_LEAST / SLICE_SIZE), COMMIT_MOST / SLICE_SIZE), needed);
	step = thp_wanted(heap.stats.used) ? left : min_size(step, left);
	const uintptr_t start = r->base + from * SLICE_SIZE;
	if (!os_commit((void *)start, step * SLICE_SIZE)) {
		step = needed;
		if (!os_commit((void *)start, step * SLICE_SIZE)) return false;
	}
	r->committed = (uint16_t)(from + step);
	return add_slices(start, start + step * SLICE_SIZE, REGION_MAPPED);
}

static bool extend_any(size_t slices) {
	struct region *r = atomic_load_explicit(&heap.regions, memory_order_relaxed);
	for (; r != NULL; r = r->next)
		if (r->whole && r->kind == REGION_MAPPED && r->committed < REGION_OPEN && extend_region(r, slices)) return true;
	return false;
}

/* The first slice of guarded memory stays unused, and inaccessible. */
static bool map_region(enum region_kind kind, size_t slices) {
	char *p = place_map(REGION_SIZE, 0, false);
	if (p == NULL) return false;
	if (kind == REGION_MAPPED) thp_decline((uintptr_t)p, REGION_SIZE);
	struct region *r = region_create((uintptr_t)p, kind);
	if (r != NULL) {
		r->whole = true;
		const bool guarded = kind == REGION_GUARDED;
		if (guarded ? add_slices(r->base + SLICE_SIZE, r->base + REGION_SIZE, kind) : extend_region(r, slices)) {
			PROBE(region_mapped, p, REGION_SIZE);
			return true;
		}
		region_forget(r);
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

/* The same where there is no room for a region. Behind a piece lies an inaccessible page. */
static bool map_piece(enum region_kind kind, size_t slices) {
	const size_t front = kind == REGION_GUARDED ? SLICE_SIZE : 0;
	const size_t bytes = ALIGN_UP(slices * SLICE_SIZE + front, PIECE_SIZE);
	if (bytes >= REGION_SIZE) return false;
	char *p = place_map(bytes, os_page_size, kind != REGION_GUARDED);
	if (p == NULL) return false;
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

static bool grow(enum region_kind kind, size_t slices) {
	if (kind == REGION_BRK) return grow_brk(slices);
	if (kind == REGION_MAPPED && extend_any(slices)) return true;
	return map_region(kind, slices) || map_piece(kind, slices);
}

/* Bytes in use, without the holes in them. */
static size_t backed(void) {
	return heap.stats.used - min_size(atomic_load_explicit(&holes_bytes, memory_order_relaxed), heap.stats.used);
}

/* ---- runs ---- */

static size_t find_run(const uint64_t *map, size_t slices, size_t align, size_t *longest) {
	size_t start = bit_find(map, 0, REGION_SLICES, true);
	while (start < REGION_SLICES) {
		size_t end = bit_find(map, start, REGION_SLICES, false);
		size_t aligned = ALIGN_UP(start, align);
		if (aligned + slices <= end) return aligned;
		*longest = max_size(*longest, end - start);
		start = bit_find(map, end, REGION_SLICES, true);
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

static struct span *take_run(struct region *r, size_t first, size_t slices, struct stale *stale) {
	size_t dirty = bits_count(r->dirty, first, slices), lazy = 0;
	if (unlikely(heap.any_lazy)) lazy = bits_count(r->lazy, first, slices);
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
	if (r->slices_used == r->slices_total) unlink_free(r);
	struct span *s = &r->spans[first];
	s->start = (char *)r->base + first * SLICE_SIZE;
	s->slices = (uint16_t)slices;
	return s;
}

/* First fit, in the region that last had something freed. */
static struct span *take_free(enum region_kind kind, size_t slices, size_t align, bool dirty, struct stale *stale) {
	if (dirty && heap.stats.dirty < slices * SLICE_SIZE) return NULL;
	for (struct region *r = heap.with_free[kind]; r != NULL; r = r->next_free) {
		if (r->run_bound < slices || (dirty && r->slices_dirty < slices)) continue;
		size_t longest = 0;
		size_t at = find_run(dirty ? r->dirty : r->free, slices, align, &longest);
		if (at < REGION_SLICES && !dirty && kind != REGION_GUARDED && thp_wanted(heap.stats.used)) thp_ask(r, at);
		if (at < REGION_SLICES) return take_run(r, at, slices, stale);
		if (!dirty && align == 1) r->run_bound = (uint32_t)longest;
	}
	return NULL;
}

/* A heap may have any number of regions: the best of so many is good enough. */
#define REGIONS_COMPARED 64

/* The free run that is nearest to what is needed, of any kind that is not guarded, dirty or not. */
static struct span *take_best(size_t slices, size_t align, enum region_kind preferred, struct stale *stale) {
	struct region *best = NULL;
	size_t best_at = 0, best_length = SIZE_MAX, compared = 0;
	for (int i = 0; i < 2 && best_length > slices; i++) {
		struct region *r = heap.with_free[i == 0 ? preferred : preferred == REGION_BRK ? REGION_MAPPED : REGION_BRK];
		for (; r != NULL && best_length > slices && compared < REGIONS_COMPARED; r = r->next_free, compared++) {
			size_t start = r->run_bound < slices ? REGION_SLICES : bit_find(r->free, 0, REGION_SLICES, true);
			while (start < REGION_SLICES && best_length > slices) {
				const size_t end = bit_find(r->free, start, REGION_SLICES, false), at = ALIGN_UP(start, align);
				if (at + slices <= end && end - start < best_length) {
					best = r;
					best_at = at;
					best_length = end - start;
				}
				start = bit_find(r->free, end, REGION_SLICES, true);
			}
		}
	}
	return best != NULL ? take_run(best, best_at, slices, stale) : NULL;
}

/* Can a region be mapped, and opened? At the limit of a process's mappings (vm.max_map_count) or addresses, each run that is cut from a
 * longer one may be missed: then all runs are looked at for the best. Otherwise that is not worth its time. */
static void try_to_map(void) {
	heap.try_due = false;
	char *p = os_reserve(REGION_SIZE, os_page_size);
	heap.scarce = p == NULL || !os_commit(p, os_page_size);
	if (p != NULL) os_unmap(p, REGION_SIZE);
}

/* Dirty slices come first, wherever they are: they cost no page faults and no memory. Then what is mapped in regions of
 * the preferred kind, then new memory of that kind; then the other kind. */
static struct span *find_or_grow(size_t slices, size_t align, enum region_kind preferred, struct stale *stale) {
	enum region_kind other = preferred == REGION_BRK ? REGION_MAPPED : REGION_BRK;
	if (unlikely(heap.try_due)) try_to_map();
	struct span *s = unlikely(heap.scarce) ? take_best(slices, align, preferred, stale) : NULL;
	if (s == NULL) s = take_free(preferred, slices, align, true, stale);
	if (s == NULL) s = take_free(other, slices, align, true, stale);
	if (s != NULL) return s;
	s = take_free(preferred, slices, align, false, stale);
	for (int i = 0; i < 2 && s == NULL; i++) {
		enum region_kind kind = i == 0 ? preferred : other;
		if (i == 1) s = take_free(other, slices, align, false, stale);
		/* Twice: what the break gained first may lie on both sides of a window's end, which no run crosses. */
		for (int again = 0; again < 2 && s == NULL && grow(kind, slices + align - 1); again++)
			s = take_free(kind, slices, align, false, stale);
	}
	if (s != NULL) pressure_count(slices * SLICE_SIZE);
	if (s == NULL) heap.scarce = true;
	return s;
}

struct span *heap_alloc(size_t slices, size_t align, enum region_kind preferred, enum span_kind kind, struct stale *stale) {
	lock_take(&heap.lock, RANK_HEAP);
	struct span *s = find_or_grow(slices, align, preferred, stale);
	if (s != NULL) s->kind = (uint8_t)kind;
	if (s != NULL) s->altered = false;
	if (s != NULL && kind == SPAN_SMALL) heap.stats.spans += slices * SLICE_SIZE;
	wave_note(&heap.wave, backed());
	lock_drop(&heap.lock, RANK_HEAP);
	return s;
}

/* ---- giving back ---- */

static void put_free(struct region *r, size_t first, size_t count, bool dirty) {
	if (r->slices_used == r->slices_total) link_free(r);
	bits_set(r->free, first, count);
	r->slices_used -= (uint32_t)count;
	heap.stats.used -= count * SLICE_SIZE;
	r->run_bound = REGION_SLICES;
	if (dirty) {
		bits_set(r->dirty, first, count);
		r->slices_dirty += (uint32_t)count;
		heap.stats.dirty += count * SLICE_SIZE;
	}
}

/* Lowers the break over the free top when that is longer than `threshold`, but for `keep` bytes of it. Goes on from
 * window to window, for a free top may be longer than one. */
static size_t trim_locked(size_t threshold, size_t keep) {
	uintptr_t top = brk_top();
	size_t total = 0;
	while (top != 0) {
		struct region *r = page_map_region(top - 1);
		if (r == NULL || r->kind != REGION_BRK) break;
		size_t end = slice_number(top - 1) + 1, first = free_tail(r, end);
		bool whole = first == 0;
		if (!whole && (end - first) * SLICE_SIZE <= threshold) break;
		if (!whole) first = min_size(end, first + (ALIGN_UP(keep, SLICE_SIZE) >> SLICE_SHIFT));
		uintptr_t bottom = r->base + first * SLICE_SIZE;
		if (bottom == top || !brk_shrink(bottom)) break;
		remove_slices(r, first, end - first);
		total += top - bottom;
		top = whole ? bottom : 0;
	}
	heap.stats.purged_total += total;
	return total;
}

/* As much more is kept below the break of a large heap as it grows by, see grow_brk. */
static size_t trim_threshold(void) {
	return (size_t)conf.trim_threshold + (thp_wanted(heap.stats.used) ? THP_STRETCH : 0);
}

/* Is there more to trim than the threshold, now that the slices from `first` on are free? Asks the kernel nothing. */
static bool trim_is_due(const struct region *r, size_t first) {
	if (r->kind != REGION_BRK || conf.trim_threshold < 0) return false;
	size_t end = bit_find(r->free, first, REGION_SLICES, false);
	uintptr_t start = r->base + free_tail(r, end) * SLICE_SIZE, stop = r->base + end * SLICE_SIZE;
	const uintptr_t top = brk_extent().end;
	/* The free stretch may begin in a window below, and go on over windows that are all free. */
	for (const struct region *below = r; below != NULL && below->kind == REGION_BRK && start == below->base;) {
		below = page_map_region(start - 1);
		if (below != NULL) start = below->base + free_tail(below, REGION_SLICES) * SLICE_SIZE;
	}
	while (stop < top && stop % REGION_SIZE == 0) {
		r = page_map_region(stop);
		if (r == NULL || r->kind != REGION_BRK || r->slices_used > 0) return false;
		stop = min_size(top, stop + REGION_SIZE);
	}
	return stop == top && stop - start > trim_threshold();
}

void heap_break_huge(struct region *r, size_t first, size_t count) {
	uint64_t broken = thp_break(r, first, count);
	if (broken == 0) return;
	lock_take(&heap.lock, RANK_HEAP);
	for (size_t page = 0; (page = bit_find(&broken, page, REGION_SIZE / HUGE_PAGE, true)) < REGION_SIZE / HUGE_PAGE; page++) {
		const size_t at = page * HUGE_PAGE_SLICES, w = at / 64;
		const uint64_t rest = bits_in_word(w, at, HUGE_PAGE_SLICES) & r->free[w] & ~r->dirty[w] & ~r->lazy[w];
		const uint32_t slices = (uint32_t)__builtin_popcountll(rest);
		r->dirty[w] |= rest;
		r->slices_dirty += slices;
		heap.stats.dirty += slices * SLICE_SIZE;
	}
	lock_drop(&heap.lock, RANK_HEAP);
}
static_assert(64 % HUGE_PAGE_SLICES == 0, "the slices of a huge page are in one word");

/* Purges one dirty run, inside of the gate. It is in nobody's reach meanwhile, so the lock is not held over the system call. */
static size_t purge_run(struct region *r, size_t first, size_t count, bool lazily) {
	take_run(r, first, count, NULL);
	heap.stats.purging += count * SLICE_SIZE;
	lock_drop(&heap.lock, RANK_HEAP);
	heap_break_huge(r, first, count);
	enum purge done = os_purge((char *)r->base + first * SLICE_SIZE, count * SLICE_SIZE, lazily);
	lock_take(&heap.lock, RANK_HEAP);
	heap.stats.purging -= count * SLICE_SIZE;
	put_free(r, first, count, done == PURGE_REFUSED);
	if (done == PURGE_REFUSED) {
		heap.refused = true;
		return 0;
	}
	if (done == PURGED_LAZILY) {
		bits_set(r->lazy, first, count);
		heap.any_lazy = true;
	}
	heap.stats.purged_total += count * SLICE_SIZE;
	return count * SLICE_SIZE;
}

/* Purges until at most `keep` dirty bytes are left. `now`: nothing lazily, and the scraps of huge pages, too. */
static size_t purge_locked(size_t keep, bool now) {
	size_t total = 0, spared = 0; /* not what others free meanwhile, where this look has passed already */
	for (struct region *r = atomic_load_explicit(&heap.regions, memory_order_relaxed); r != NULL; r = r->next) {
		size_t first = bit_find(r->dirty, 0, REGION_SLICES, true);
		while (first < REGION_SLICES && heap.stats.dirty > keep) {
			/* One by one: a fork waits for no more than one. What it leaves dirty will be looked at again. */
			if (!gate_try_enter()) return total;
			size_t end = bit_find(r->dirty, first, REGION_SLICES, false);
			const size_t found = (end - first) * SLICE_SIZE;
			size_t count = now ? end - first : thp_spare(r, &first, end - first);
			const size_t purged = count > 0 ? purge_run(r, first, count, !now && conf.lazy_purge) : 0;
			gate_leave();
			total += purged;
			spared += found - purged;
			first = bit_find(r->dirty, end, REGION_SLICES, true);
		}
	}
	if (heap.stats.dirty > keep) heap.spared = min_size(spared, heap.stats.dirty);
	return total;
}

/* ---- regions that go ---- */

static bool is_free(const struct region *r, size_t first, size_t count) { return bits_count(r->free, first, count) == count; }

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
		if (count > 0 && bits_count(r->ours, first, count) != count) return 0; /* some could not be opened again: see close_tail */
		if (count > 0) remove_slices(r, first, count);
		count = max_size(count, 1); /* what is reserved only goes, too */
	} else {
		if (r->whole || r->kind == REGION_BRK || !free_piece(r, &first, &count)) return 0;
		*start += first * SLICE_SIZE - front;
		*size = front + count * SLICE_SIZE + os_page_size;
		bit_clear(r->starts, first);
		bit_clear(r->ends, first + count - 1);
		remove_slices(r, first, count);
	}
	if (r->slices_total == 0) region_forget(r);
	return count;
}

/* Unmaps what is free of the region, each mapping as a whole; a region that is free as a whole, if no other would be left. Returns the
 * bytes given back. The lock is dropped meanwhile. */
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

/* Makes the free end of a region inaccessible, so that nothing is charged for it. Returns the bytes. The lock is dropped meanwhile. */
static size_t close_tail(struct region *r) {
	if (!r->whole || r->kind != REGION_MAPPED) return 0;
	const size_t end = r->committed, first = free_tail(r, end), count = end - first;
	if (count < COMMIT_LEAST / SLICE_SIZE || !gate_try_enter()) return 0;
	char *start = (char *)r->base + first * SLICE_SIZE;
	take_run(r, first, count, NULL);
	heap.stats.purging += count * SLICE_SIZE;
	lock_drop(&heap.lock, RANK_HEAP);
	enum decommit done = os_decommit(start, count * SLICE_SIZE);
	if (done == DECOMMITTED) thp_decline((uintptr_t)start, count * SLICE_SIZE); /* it is a new mapping */
	/* Where it is closed, but may hold anything, it is opened again. */
	if (done == DECOMMIT_DIRTY && os_commit(start, count * SLICE_SIZE)) done = DECOMMIT_REFUSED;
	lock_take(&heap.lock, RANK_HEAP);
	heap.stats.purging -= count * SLICE_SIZE;
	/* Another thread may have gone on behind it. */
	bool closed = done != DECOMMIT_REFUSED;
	if (closed && r->committed != end) closed = !os_commit(start, count * SLICE_SIZE);
	put_free(r, first, count, done != DECOMMITTED);
	if (closed) {
		if (r->committed == end) r->committed = (uint16_t)first;
		remove_slices(r, first, count);
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

/* ---- by time and by limits ---- */

/* Dirty bytes, without those that could not be purged when all were looked at. */
static size_t purgeable(void) { return heap.stats.dirty - min_size(heap.spared, heap.stats.dirty); }

/* How much free memory may stay: a share of what is in use, and, when it can be purged later, whatever was in
 * use a moment ago. So a program that frees and allocates in waves keeps its pages. */
static size_t dirty_limit(uint64_t now) {
	if (conf.dirty_max >= 0) return pressure_bound((size_t)conf.dirty_max);
	if (conf.decay == 0) return 0;
	size_t used = backed();
	return pressure_bound(max_size(max_size(used / 4, wave_room(&heap.wave, used, now)), DIRTY_MIN));
}

/* Unmaps a region that has been free and clean for long, unless it is the only such one of its kind: a program may need one again and
 * again. */
static void unmap_idle(void) {
	heap.any_idle = false;
	for (int kind = REGION_MAPPED; kind <= REGION_GUARDED; kind++) {
		struct region *found = NULL;
		for (struct region *r = heap.with_free[kind]; r != NULL; r = r->next_free) {
			r->idle = is_idle(r) && r->slices_dirty == 0 ? (uint16_t)min_size(r->idle + 1u, IDLE_INTERVALS) : 0;
			if (r->idle == 0 || !has_other(r)) continue;
			heap.any_idle = true;
			if (r->idle == IDLE_INTERVALS) found = r;
		}
		if (found != NULL) unmap_free(found, true);
	}
}

static void decay(uint64_t now) {
	if (!wave_next(&heap.wave, backed(), now)) return;
	pressure_tick(now);
	heap.refused = false;
	size_t unused = min_size(heap.least_dirty, purgeable());
	if (unused > 0 && conf.decay >= 0) {
		size_t keep = heap.stats.dirty - decay_part(unused);
		if (conf.trim_threshold >= 0 && unused > trim_threshold()) trim_locked(trim_threshold(), (size_t)conf.top_pad);
		if (heap.stats.dirty > keep) purge_locked(keep, false);
	}
	if (conf.decay >= 0) unmap_idle();
	heap.try_due = wave_is_large();
	heap.least_dirty = heap.stats.dirty;
}

static void purge_if_due(uint64_t now) {
	decay(now);
	if (heap.refused) return;
	if (purgeable() <= DIRTY_MIN && conf.dirty_max < 0 && conf.decay != 0) return;
	size_t limit = dirty_limit(now);
	if (purgeable() > limit) allowance_charge(purge_locked(limit / 2, false));
}

size_t heap_decay(void) {
	lock_take(&heap.lock, RANK_HEAP);
	decay(os_milliseconds());
	size_t left = purgeable() + (heap.any_idle ? SLICE_SIZE : 0);
	lock_drop(&heap.lock, RANK_HEAP);
	return left;
}

void heap_free(struct span *run) {
	lock_take(&heap.lock, RANK_HEAP);
	struct region *r = page_map_region((uintptr_t)run->start);
	size_t first = slice_number((uintptr_t)run->start);
	size_t slices = run->slices;
	if (run->kind == SPAN_SMALL) heap.stats.spans -= slices * SLICE_SIZE;
	run->kind = SPAN_NONE;
	put_free(r, first, slices, true);
	uint64_t now = os_milliseconds();
	if (trim_is_due(r, first) && !purge_later(now))
		allowance_charge(trim_locked(trim_threshold(), (size_t)conf.top_pad));
	purge_if_due(now);
	lock_drop(&heap.lock, RANK_HEAP);
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
		put_free(r, first + slices, old - slices, true);
	} else if (slices > old) {
		done = first + slices <= REGION_SLICES && bit_find(r->free, first + old, first + slices, false) == first + slices;
		if (!done && r->whole && r->kind == REGION_MAPPED && free_tail(r, r->committed) == first + old)
			done = extend_region(r, slices - old);
		if (done) take_run(r, first + old, slices - old, NULL);
		if (done) pressure_count((slices - old) * SLICE_SIZE);
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
void heap_alter(const void *address, size_t size) {
	const uintptr_t end = (uintptr_t)address + size;
	for (uintptr_t at = (uintptr_t)address; at < end; at = ALIGN_DOWN(at, REGION_SIZE) + REGION_SIZE) {
		struct region *r = page_map_region(at);
		if (r == NULL) continue;
		const size_t first = slice_number(at), stop = slice_number(min_size(end, at - at % REGION_SIZE + REGION_SIZE) - 1);
		for (size_t i = run_start(r, first); i <= stop; i++) {
			struct span *s = &r->spans[i];
			if (s->kind == SPAN_RUN && i + s->slices > first) s->altered = true;
		}
	}
}

bool heap_renew(struct span *run) {
	const size_t size = run->slices * SLICE_SIZE;
	return os_decommit(run->start, size) == DECOMMITTED && os_commit(run->start, size);
}

/* ---- guarded spans ----
 *
 * Hardened spans are followed by a slice that nobody may touch. While its slices are free, nobody may touch them either. Each
 * such span is two mappings to the kernel, whose number is limited (vm.max_map_count, 65,530 by default): beyond GUARDS_MAX,
 * the guard of a new span is an unused slice like any other. */
#define GUARDS_MAX 12288

static struct span *take_guarded(size_t slices, struct stale *stale) {
	struct span *s = take_free(REGION_GUARDED, slices + 1, 1, false, stale);
	if (s == NULL && grow(REGION_GUARDED, slices + 1)) s = take_free(REGION_GUARDED, slices + 1, 1, false, stale);
	if (s == NULL) return NULL;
	s->slices = (uint16_t)slices;
	heap.stats.used -= SLICE_SIZE;
	heap.guarded++;
	pressure_count(slices * SLICE_SIZE);
	return s;
}

struct span *heap_alloc_guarded(size_t slices, enum span_kind kind, struct stale *stale) {
	lock_take(&heap.lock, RANK_HEAP);
	struct span *s = take_guarded(slices, stale);
	const bool guard = heap.guarded <= GUARDS_MAX;
	if (s != NULL) {
		s->kind = (uint8_t)kind;
		heap.stats.spans += slices * SLICE_SIZE;
	}
	wave_note(&heap.wave, backed());
	lock_drop(&heap.lock, RANK_HEAP);
	if (s == NULL || os_commit(s->start, (slices + !guard) * SLICE_SIZE)) return s;
	heap_free_guarded(s);
	return NULL;
}

void heap_free_guarded(struct span *s) {
	const size_t slices = s->slices + 1u;
	/* Where the kernel refuses, the slices stay accessible, and are dirty ones. Not to use them again would cost the program its
	 * memory, at a limit that it has reached already. */
	const bool clean = os_decommit(s->start, slices * SLICE_SIZE) == DECOMMITTED;
	lock_take(&heap.lock, RANK_HEAP);
	struct region *r = page_map_region((uintptr_t)s->start);
	heap.stats.spans -= s->slices * SLICE_SIZE;
	s->kind = SPAN_NONE;
	heap.stats.used += SLICE_SIZE;
	heap.guarded--;
	put_free(r, slice_number((uintptr_t)s->start), slices, !clean);
	lock_drop(&heap.lock, RANK_HEAP);
}

/* ---- the rest ---- */

/* What was purged lazily counts as dirty again. */
static void recall_lazy(void) {
	for (struct region *r = atomic_load_explicit(&heap.regions, memory_order_relaxed); r != NULL; r = r->next) {
		size_t slices = bits_count(r->lazy, 0, REGION_SLICES);
		for (size_t w = 0; w < REGION_SLICES / 64; w++) r->dirty[w] |= r->lazy[w];
		bits_clear(r->lazy, 0, REGION_SLICES);
		r->slices_dirty += (uint32_t)slices;
		heap.stats.dirty += slices * SLICE_SIZE;
	}
}

size_t heap_purge(void) {
	lock_take(&heap.lock, RANK_HEAP);
	recall_lazy();
	size_t purged = purge_locked(0, true);
	lock_drop(&heap.lock, RANK_HEAP);
	return purged;
}

size_t heap_trim(size_t keep) {
	lock_take(&heap.lock, RANK_HEAP);
	size_t trimmed = trim_locked(0, keep);
	for (struct region *r = atomic_load_explicit(&heap.regions, memory_order_relaxed); r != NULL; r = r->next)
		trimmed += unmap_free(r, true) + close_tail(r);
	lock_drop(&heap.lock, RANK_HEAP);
	return trimmed;
}

void heap_release(void) {
	lock_take(&heap.lock, RANK_HEAP);
	brk_forget_refusals();
	trim_locked(0, 0);
	for (struct region *r = atomic_load_explicit(&heap.regions, memory_order_relaxed); r != NULL; r = r->next) {
		unmap_free(r, false);
		close_tail(r);
		if (r->committed > 0) unmap_rest(r);
	}
	lock_drop(&heap.lock, RANK_HEAP);
}

void heap_count_purged(size_t bytes) {
	lock_take(&heap.lock, RANK_HEAP);
	heap.stats.purged_total += bytes;
	lock_drop(&heap.lock, RANK_HEAP);
}

/* Slices that are free and count as clean, and that the kernel may back all the same: what went lazily, and the rest of huge
 * pages of which anything is not clean. */
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

/* Regions that are looked at in one hold of the lock: a microsecond. */
#define LOOK 16

void heap_stats_get(struct heap_stats *out) {
	size_t unsure = 0, looked = 0;
	lock_take(&heap.lock, RANK_HEAP);
	for (const struct region *r = heap_regions(); r != NULL; r = r->next) {
		if (++looked % LOOK == 0) {
			lock_drop(&heap.lock, RANK_HEAP);
			lock_take(&heap.lock, RANK_HEAP);
		}
		unsure += unsure_slices(r) * SLICE_SIZE;
	}
	*out = heap.stats;
	out->unsure = min_size(unsure, out->mapped - out->used - out->dirty); /* of other moments: what it is a part of bounds it */
	struct brk_range brk = brk_extent();
	lock_drop(&heap.lock, RANK_HEAP);
	out->brk_start = brk.start;
	out->brk_end = brk.end;
}

struct region *heap_regions(void) { return atomic_load_explicit(&heap.regions, memory_order_acquire); }

void heap_lock(void) { lock_take(&heap.lock, RANK_HEAP); }
void heap_unlock(void) { lock_drop(&heap.lock, RANK_HEAP); }
