#include "arena/shelf.h"

#include "arena/pressure.h"
#include "arena/report.h"
#include "base/annotate.h"
#include "base/conf.h"

static_assert(ARENAS_MAX < UINT16_MAX, "span.home is the number of any arena, and one more");
static_assert(SHELF_BYTES / SLICE_SIZE >= SHELF_SLICES, "the longest run fits");
static_assert(SHELF_BYTES / SLICE_SIZE <= UINT8_MAX, "shelf.count is that of any runs that fit");

static uint32_t slices_on(const struct shelf *shelf) {
	return atomic_load_explicit(&shelf->slices, memory_order_relaxed);
}

/* Under the lock. */
static void set_slices(struct shelf *shelf, uint32_t slices) {
	atomic_store_explicit(&shelf->slices, slices, memory_order_relaxed);
}

/* Of each shelf: its part of what all may have. None where nobody would come by, or caches are not wanted. */
static uint32_t most_slices(void) {
	if (!shelves_are_open() || conf.tcache_max == 0) return 0;
	const size_t all = atomic_load_explicit(&pressure.caches, memory_order_relaxed) / SHELF_SHARE,
	             each = all / atomic_load_explicit(&arena_count, memory_order_relaxed);
	return (uint32_t)(min_size(pressure_is_on() ? each : max_size(each, SHELF_LEAST), SHELF_BYTES) /
	                  SLICE_SIZE);
}

struct span *shelf_take(struct arena *arena, size_t size) {
	struct shelf *shelf = &arena->shelf;
	if (size - 1 >= SHELF_SLICES * SLICE_SIZE) return NULL; /* none as well */
	const uint32_t slices = (uint32_t)((size + SLICE_SIZE - 1) >> SLICE_SHIFT), length = slices - 1;
	if (slices_on(shelf) < slices || !lock_try(&shelf->lock, RANK_BIN)) return NULL;
	struct span *run = shelf->first[length];
	if (run != NULL) {
		annotate_found(run);
		shelf->first[length] = run->next;
		shelf->count[length]--;
		shelf->used |= (uint8_t)(1u << length);
		set_slices(shelf, slices_on(shelf) - slices);
		run->kind = SPAN_RUN;
	}
	lock_drop(&shelf->lock, RANK_BIN);
	return run;
}

static bool has_room(const struct shelf *shelf, uint32_t slices) {
	return slices_on(shelf) + slices <= most_slices();
}

bool shelf_put(struct span *run) {
	const uint32_t slices = run->slices, length = slices - 1;
	if (slices > SHELF_SLICES || run->home == 0) return false;
	struct shelf *shelf = &arena_list[run->home - 1]->shelf;
	if (!has_room(shelf, slices) || !lock_try(&shelf->lock, RANK_BIN)) return false;
	if (unlikely(run->kind != SPAN_RUN)) { /* another thread freed it meanwhile */
		lock_drop(&shelf->lock, RANK_BIN);
		report_pointer("free", run->start, NULL);
	}
	/* Once more: others came first; or the purger has just ended, and taken all that was there. */
	const bool fits = has_room(shelf, slices);
	if (fits) {
		annotate_freed(run);
		run->kind = SPAN_KEPT;
		run->next = shelf->first[length];
		shelf->first[length] = run;
		shelf->count[length]++;
		set_slices(shelf, slices_on(shelf) + slices);
	}
	lock_drop(&shelf->lock, RANK_BIN);
	return fits;
}

/* Takes the runs of lengths that are idle. Returns whether others stay. */
static bool take_idle(struct shelf *shelf, unsigned looks, struct span *found[SHELF_SLICES]) {
	bool others = false;
	lock_take(&shelf->lock, RANK_BIN);
	const bool too_full = slices_on(shelf) > most_slices();
	for (uint32_t i = 0; i < SHELF_SLICES; i++) {
		const bool used = shelf->first[i] == NULL || shelf->used >> i & 1;
		shelf->idle_looks[i] = used ? 0 : (uint8_t)(shelf->idle_looks[i] + 1);
		found[i] = NULL;
		if (shelf->idle_looks[i] >= looks || too_full) {
			found[i] = shelf->first[i];
			set_slices(shelf, slices_on(shelf) - shelf->count[i] * (i + 1));
			shelf->first[i] = NULL;
			shelf->count[i] = shelf->idle_looks[i] = 0;
		}
		others |= shelf->first[i] != NULL;
	}
	shelf->used = 0;
	lock_drop(&shelf->lock, RANK_BIN);
	return others;
}

/* Inside of the gate: no fork comes while the runs are in nobody's list. With 0 looks, whoever puts one there
 * now does so before us, or after us and knows what we know: that the purger has ended, for instance. */
static bool drain(struct shelf *shelf, unsigned looks) {
	struct span *found[SHELF_SLICES];
	if (looks > 0 && slices_on(shelf) == 0) return false;
	if (!gate_try_enter()) return true;
	const bool more_later = take_idle(shelf, looks, found);
	for (size_t i = 0; i < SHELF_SLICES; i++) {
		for (struct span *run = found[i], *next; run != NULL; run = next) {
			next = run->next;
			annotate_found(run);
			heap_free(run);
		}
	}
	gate_leave();
	return more_later;
}

bool shelves_drain(unsigned looks) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	bool more_later = false;
	for (uint32_t a = 0; a < count; a++) more_later |= drain(&arena_list[a]->shelf, looks);
	return more_later;
}

size_t shelves_bytes(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	size_t slices = 0;
	for (uint32_t a = 0; a < count; a++) slices += slices_on(&arena_list[a]->shelf);
	return slices * SLICE_SIZE;
}
