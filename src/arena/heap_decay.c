/* Dirty slices go back to the kernel: by time, by a limit that holds at every moment, and when somebody
 * asks. */
#include "arena/heap_inner.h"

#include "arena/pressure.h"
#include "base/gate.h"

/* ---- purging ---- */

void heap_break_huge(struct region *r, size_t first, size_t count) {
	uint64_t broken = thp_break(r, first, count);
	if (broken == 0) return;
	lock_take(&heap.lock, RANK_HEAP);
	for (size_t page = 0;
	     (page = bit_find(&broken, page, REGION_SIZE / HUGE_PAGE, true)) < REGION_SIZE / HUGE_PAGE; page++) {
		const size_t at = page * HUGE_PAGE_SLICES, w = at / 64;
		const uint64_t rest = bits_in_word(w, at, HUGE_PAGE_SLICES) & r->free[w] & ~r->dirty[w] & ~r->lazy[w];
		const uint32_t slices = (uint32_t)__builtin_popcountll(rest);
		r->dirty[w] |= rest;
		r->slices_dirty += slices;
		heap.stats.dirty += slices * SLICE_SIZE;
		cap_add(slices * SLICE_SIZE);
	}
	lock_drop(&heap.lock, RANK_HEAP);
}
static_assert(64 % HUGE_PAGE_SLICES == 0, "the slices of a huge page are in one word");

/* Purges dirty slices, up to the end of a huge page: so a fork waits for no more than that, as does who wants
 * more memory from the kernel. Inside of the gate. They are in nobody's reach meanwhile, so the lock is not
 * held over the system call. */
static size_t purge_run(struct region *r, size_t first, size_t count, bool lazily) {
	heap_take(r, first, count, NULL);
	heap.stats.purging += count * SLICE_SIZE;
	lock_drop(&heap.lock, RANK_HEAP);
	heap_break_huge(r, first, count);
	enum purge done = os_purge((char *)r->base + first * SLICE_SIZE, count * SLICE_SIZE, lazily);
	lock_take(&heap.lock, RANK_HEAP);
	heap.stats.purging -= count * SLICE_SIZE;
	heap_put(r, first, count, done == PURGE_REFUSED);
	if (done == PURGE_REFUSED) {
		heap.refused = true;
		return 0;
	}
	if (done == PURGED_LAZILY) {
		bits_set(r->lazy, first, count);
		heap.any_lazy = true;
	} else {
		cap_give(count * SLICE_SIZE);
	}
	heap.stats.purged_total += count * SLICE_SIZE;
	return count * SLICE_SIZE;
}

bool heap_purge_slices(struct region *r, size_t first, size_t end, bool lazily, size_t *total) {
	while (first < end) {
		const size_t stop = min_size(end, ALIGN_DOWN(first, HUGE_PAGE_SLICES) + HUGE_PAGE_SLICES);
		/* What others took meanwhile will be looked at again. */
		if (bits_count(r->dirty, first, stop - first) != stop - first) return true;
		if (!gate_try_enter()) return false;
		*total += purge_run(r, first, stop - first, lazily);
		gate_leave();
		first = stop;
	}
	return true;
}

void heap_pause(size_t *looked) {
	if (++*looked % HEAP_LOOK != 0) return;
	lock_drop(&heap.lock, RANK_HEAP);
	lock_take(&heap.lock, RANK_HEAP);
}

/* Purges until at most `keep` dirty bytes are left, or until `most` bytes were tried: the next such piece
 * begins where the last one ended, for each would pass all regions before it again. `now`: nothing lazily,
 * and the scraps of huge pages, too. */
static size_t purge_locked(size_t keep, size_t most, bool now) {
	size_t total = 0, tried = 0, looked = 0;
	size_t spared = 0; /* not what others free meanwhile, where this look has passed already */
	struct region *const newest = heap_regions();
	struct region *const begin = most < SIZE_MAX && heap.purged != NULL ? heap.purged : newest;
	if (begin == NULL) return 0;
	struct region *r = begin;
	do {
		size_t first = r->slices_dirty > 0 ? bit_find(r->dirty, 0, REGION_SLICES, true) : REGION_SLICES;
		while (first < REGION_SLICES && heap.stats.dirty > keep) {
			size_t end = bit_find(r->dirty, first, REGION_SLICES, false);
			const size_t found = (end - first) * SLICE_SIZE, left = ALIGN_UP(most - tried, SLICE_SIZE);
			size_t count = now ? end - first : thp_spare(r, &first, end - first);
			if (most < SIZE_MAX) count = min_size(count, left / SLICE_SIZE);
			size_t purged = 0;
			/* What a fork leaves dirty will be looked at again. */
			if (!heap_purge_slices(r, first, first + count, !now && conf.lazy_purge, &purged))
				return total + purged;
			total += purged;
			tried += count * SLICE_SIZE;
			spared += found - purged;
			if (tried >= most) {
				heap.purged = r;
				return total;
			}
			first = bit_find(r->dirty, end, REGION_SLICES, true);
		}
		r = r->next != NULL ? r->next : newest;
		heap_pause(&looked);
	} while (r != begin && heap.stats.dirty > keep);
	heap.purged = r;
	if (heap.stats.dirty > keep && tried < most) heap.spared = min_size(spared, heap.stats.dirty);
	return total;
}

/* ---- by time and by limits ---- */

/* Dirty bytes, without those that could not be purged when all were looked at. */
static size_t purgeable(void) { return heap.stats.dirty - min_size(heap.spared, heap.stats.dirty); }

/* How much free memory may stay: a share of what is in use, and, when it can be purged later, whatever was in
 * use a moment ago. So a program that frees and allocates in waves keeps its pages. */
static size_t dirty_limit(uint64_t now) {
	if (conf.dirty_max >= 0) return pressure_bound((size_t)conf.dirty_max);
	if (conf.decay == 0) return 0;
	const size_t used = heap_backed(), share = max_size(used / DIRTY_SHARE, wave_room(&heap.wave, used, now));
	return pressure_bound(max_size(share, DIRTY_MIN));
}

/* When the interval is over, the next one begins. Returns the bytes that are to go then, by time. */
static size_t next_interval(uint64_t now) {
	if (!wave_next(&heap.wave, heap_backed(), now)) return 0;
	pressure_tick(now);
	heap.refused = false;
	const size_t unused = conf.decay >= 0 ? min_size(heap.least_dirty, purgeable()) : 0;
	heap.trim_due |= conf.trim_threshold >= 0 && unused > heap_trim_threshold();
	heap.idle_due |= conf.decay >= 0;
	heap.try_due = wave_is_large();
	heap.least_dirty = heap.stats.dirty;
	return unused > 0 ? decay_part(unused) : 0;
}

/* What is due but for dirty slices: all of it, or within `most` bytes. Returns the bytes given back. */
static size_t trim_due(size_t most) {
	size_t bytes = 0;
	if (heap.trim_due) {
		heap.trim_due = false;
		bytes = heap_lower_break(heap_trim_threshold(), (size_t)conf.top_pad, most);
	}
	if (heap.idle_due) {
		heap.idle_due = false;
		heap_unmap_idle();
	}
	return bytes;
}

size_t heap_decay(bool rests) {
	const uint64_t now = os_milliseconds();
	lock_take(&heap.lock, RANK_HEAP);
	const size_t part = next_interval(now), keep = heap.stats.dirty - part;
	trim_due(SIZE_MAX);
	if (part > 0 && heap.stats.dirty > keep) purge_locked(keep, SIZE_MAX, false);
	if (part > 0) heap.least_dirty = heap.stats.dirty;
	if (rests && purgeable() > 0 && !heap.refused) purge_locked(0, SIZE_MAX, false);
	size_t left = purgeable() + (heap.any_idle ? SLICE_SIZE : 0);
	lock_drop(&heap.lock, RANK_HEAP);
	return left;
}

/* ---- by those who free ---- */

_Atomic bool heap_purge_is_due;

static void note_due(size_t bytes) {
	heap.due = max_size(heap.due, bytes);
	if (heap.due > 0 || heap.trim_due || heap.idle_due)
		atomic_store_explicit(&heap_purge_is_due, true, memory_order_relaxed);
}

void heap_note_trim(void) {
	heap.trim_due = true;
	note_due(0);
}

static COLD void note_interval(uint64_t now) { note_due(heap.due + next_interval(now)); }

/* Where the purger does it in time, only a limit that was set, or that is near, is for those who free. */
static COLD void note_limit(uint64_t now) {
	const bool watched = atomic_load_explicit(&purged_in_background, memory_order_relaxed);
	if (watched && conf.dirty_max < 0 && conf.decay != 0 && !pressure_is_on()) return;
	const size_t limit = dirty_limit(now);
	if (purgeable() > limit) note_due(purgeable() - limit / DIRTY_LEFT_SHARE);
}

/* Where nobody purges in the background, time goes by for those who free. */
void heap_note_due(uint64_t now) {
	if (unlikely(wave_is_over(&heap.wave, now)) &&
	    !atomic_load_explicit(&purged_in_background, memory_order_relaxed))
		note_interval(now);
	if (likely(purgeable() <= DIRTY_MIN && conf.dirty_max < 0 && conf.decay != 0) || heap.refused) return;
	note_limit(now);
}

/* Bytes that one call may purge beyond a piece: what became dirty and was not counted against one yet. Where
 * somebody purges in the background it was left to him. */
static size_t credit(void) {
	if (atomic_load_explicit(&purged_in_background, memory_order_relaxed)) return 0;
	return min_size(heap.stats.dirty - min_size(heap.stats.dirty, heap.settled), PURGE_CREDIT);
}

void heap_purge_due(void) {
	if (!atomic_exchange_explicit(&heap_purge_is_due, false, memory_order_acquire)) return;
	lock_take(&heap.lock, RANK_HEAP);
	const size_t extra = credit(), most = PURGE_PIECE + extra;
	size_t bytes = trim_due(most);
	/* Others who come meanwhile see to the rest, not to the same. */
	const size_t own = min_size(min_size(heap.due, heap.stats.dirty), most - min_size(bytes, most));
	heap.due = min_size(heap.due, heap.stats.dirty) - own;
	if (own > 0) {
		const size_t keep = heap.stats.dirty - own, purged = purge_locked(keep, most - bytes, false);
		bytes += purged;
		/* No more can be purged, or a fork is under way: who frees next looks at the limits again. */
		if (purged < own && heap.stats.dirty > keep) heap.due = 0;
	}
	heap.settled = heap.stats.dirty - min_size(heap.stats.dirty, extra - min_size(extra, bytes));
	if (heap.due > 0 || heap.trim_due) atomic_store_explicit(&heap_purge_is_due, true, memory_order_relaxed);
	lock_drop(&heap.lock, RANK_HEAP);
	allowance_charge(bytes);
}

/* No more pieces than what is dirty now has: others may free all the time, and see to that. */
void heap_purge_all_due(void) {
	lock_take(&heap.lock, RANK_HEAP);
	const size_t pieces = heap.stats.dirty / PURGE_PIECE + 1;
	lock_drop(&heap.lock, RANK_HEAP);
	for (size_t i = 0; i < pieces && atomic_load_explicit(&heap_purge_is_due, memory_order_relaxed); i++)
		heap_purge_due();
}

/* ---- when somebody asks ---- */

/* What was purged lazily counts as dirty again. */
static void recall_lazy(void) {
	size_t looked = 0;
	if (!heap.any_lazy) return;
	for (struct region *r = heap_regions(); r != NULL; r = r->next, heap_pause(&looked)) {
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
	size_t purged = purge_locked(0, SIZE_MAX, true);
	lock_drop(&heap.lock, RANK_HEAP);
	return purged;
}

void heap_count_purged(size_t bytes) {
	lock_take(&heap.lock, RANK_HEAP);
	heap.stats.purged_total += bytes;
	lock_drop(&heap.lock, RANK_HEAP);
}
