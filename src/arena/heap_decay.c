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

/* Purges one dirty run, inside of the gate. It is in nobody's reach meanwhile, so the lock is not held over
 * the system call. */
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

/* Purges until at most `keep` dirty bytes are left. `now`: nothing lazily, and the scraps of huge pages,
 * too. */
static size_t purge_locked(size_t keep, bool now) {
	size_t total = 0, spared = 0; /* not what others free meanwhile, where this look has passed already */
	for (struct region *r = atomic_load_explicit(&heap.regions, memory_order_relaxed); r != NULL;
	     r = r->next) {
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

static void decay(uint64_t now) {
	if (!wave_next(&heap.wave, heap_backed(), now)) return;
	pressure_tick(now);
	heap.refused = false;
	size_t unused = min_size(heap.least_dirty, purgeable());
	if (unused > 0 && conf.decay >= 0) {
		size_t keep = heap.stats.dirty - decay_part(unused);
		if (conf.trim_threshold >= 0 && unused > heap_trim_threshold())
			heap_lower_break(heap_trim_threshold(), (size_t)conf.top_pad);
		if (heap.stats.dirty > keep) purge_locked(keep, false);
	}
	if (conf.decay >= 0) heap_unmap_idle();
	heap.try_due = wave_is_large();
	heap.least_dirty = heap.stats.dirty;
}

void heap_purge_if_due(uint64_t now) {
	decay(now);
	if (heap.refused) return;
	if (purgeable() <= DIRTY_MIN && conf.dirty_max < 0 && conf.decay != 0) return;
	size_t limit = dirty_limit(now);
	if (purgeable() > limit) allowance_charge(purge_locked(limit / DIRTY_LEFT_SHARE, false));
}

size_t heap_decay(bool rests) {
	const uint64_t now = os_milliseconds();
	lock_take(&heap.lock, RANK_HEAP);
	decay(now);
	if (rests && purgeable() > 0 && !heap.refused) purge_locked(0, false);
	size_t left = purgeable() + (heap.any_idle ? SLICE_SIZE : 0);
	lock_drop(&heap.lock, RANK_HEAP);
	return left;
}

/* ---- when somebody asks ---- */

/* What was purged lazily counts as dirty again. */
static void recall_lazy(void) {
	for (struct region *r = atomic_load_explicit(&heap.regions, memory_order_relaxed); r != NULL;
	     r = r->next) {
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

void heap_count_purged(size_t bytes) {
	lock_take(&heap.lock, RANK_HEAP);
	heap.stats.purged_total += bytes;
	lock_drop(&heap.lock, RANK_HEAP);
}
