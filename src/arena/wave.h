/* Programs use memory in waves: what was freed a moment ago is wanted again in a moment. How much free memory is worth
 * keeping for that, and how much may be purged by those who free. `now` is os_milliseconds(), which callers read once. */
#ifndef ARENA_WAVE_H
#define ARENA_WAVE_H

#include <stdatomic.h>

#include "arena/pressure.h"
#include "base/conf.h"
#include "base/os.h"

/* The most that was in use lately, in bytes. Owner: the lock of the layer that counts. */
struct wave {
	uint64_t start;      /* milliseconds, of the running interval: decay_interval() long */
	size_t peak, before; /* of the running interval, and of the one before */
};

/* The most that was ever in use, in one wave; ALLOWANCE_LEAST at least. */
#define ALLOWANCE_LEAST (16 * MIB)
extern _Atomic size_t wave_highest;

/* Said when more is in use than before: the layer above is waiting for that. With locks held. NULL: nobody is. */
extern void (*_Atomic wave_rises)(void);

static inline void wave_note(struct wave *w, size_t used) {
	if (used <= w->peak) return;
	w->peak = used;
	if (unlikely(used > atomic_load_explicit(&wave_highest, memory_order_relaxed)))
		atomic_store_explicit(&wave_highest, used, memory_order_relaxed);
	void (*rises)(void) = atomic_load_explicit(&wave_rises, memory_order_acquire);
	if (rises != NULL) rises();
}

/* Is the running interval over? Then the next one begins. */
static inline bool wave_next(struct wave *w, size_t used, uint64_t now) {
	uint64_t passed = now - w->start;
	if (passed < decay_interval()) return false;
	w->before = passed < 2 * decay_interval() ? w->peak : used;
	w->peak = used;
	w->start = now;
	return true;
}

/* A process that never had more than this, in slices or in mappings, is small: it is purged by limits only. */
#define LARGE (16 * MIB)
static_assert(LARGE >= ALLOWANCE_LEAST, "a process starts small");

static inline bool wave_is_large(void) { return atomic_load_explicit(&wave_highest, memory_order_relaxed) > LARGE; }

/* Purging costs the program about a microsecond a page: now, and when it needs the page again. So it is limited for those
 * who free, in a process that nobody purges in the background: to twice what was ever in use at once, and in the long run to
 * ALLOWANCE_RATE bytes per millisecond, 5% of a CPU or so. A program that frees most of its memory gets rid of it at once;
 * one that does so all the time keeps it. */
#define ALLOWANCE_RATE (256 * KIB)

/* Milliseconds: what may be purged is ALLOWANCE_RATE times the time since then. */
extern _Atomic uint64_t allowance_since;

static inline bool allowance_left(uint64_t now) {
	const uint64_t longest = 2 * atomic_load_explicit(&wave_highest, memory_order_relaxed) / ALLOWANCE_RATE;
	uint64_t since = atomic_load_explicit(&allowance_since, memory_order_relaxed), bounded = since;
	if (now > since + longest) bounded = now - longest;
	if (since > now + longest) bounded = now + longest; /* much was purged at once: no debt for ever */
	if (bounded != since)
		atomic_compare_exchange_strong_explicit(&allowance_since, &since, bounded, memory_order_relaxed,
		                                        memory_order_relaxed);
	return now > bounded;
}

static inline void allowance_charge(size_t bytes) {
	atomic_fetch_add_explicit(&allowance_since, bytes / ALLOWANCE_RATE, memory_order_relaxed);
}

/* True while a background thread purges. */
extern _Atomic bool purged_in_background;

/* Should those who free leave the purging for later: to the background thread, or to a time when it is their turn again? */
static inline bool purge_later(uint64_t now) {
	return atomic_load_explicit(&purged_in_background, memory_order_relaxed) || !allowance_left(now);
}

/* How much of what nobody needed during an interval goes back: half; all of it when that is little, or memory is short. */
#define DECAY_WHOLE MIB
static inline size_t decay_part(size_t unused) { return unused <= DECAY_WHOLE || pressure_is_on() ? unused : unused / 2; }

/* Bytes that are worth keeping: as much as was in use lately, and is not now. */
static inline size_t wave_room(const struct wave *w, size_t used, uint64_t now) {
	size_t recent = max_size(w->peak, w->before);
	return purge_later(now) ? recent - min_size(recent, used) : 0;
}

#endif
