/* Programs use memory in waves: what was freed a moment ago is wanted again in a moment. How much free memory
 * is worth keeping for that, and how much may be purged by those who free. `now` is os_milliseconds(), which
 * callers read once.
 *
 * Invariant: peak is at least what is in use, and at least what was in use at any time of the running
 * interval; before is that of the last one. So what is kept for a wave and what is in use are together no
 * more than the program had lately: heap_decay.c and huge.c rely on that for their limits.
 * unit_huge_blocks and api.purge fail without. */
#ifndef ARENA_WAVE_H
#define ARENA_WAVE_H

#include <stdatomic.h>

#include "arena/policy.h"
#include "arena/pressure.h"
#include "base/conf.h"
#include "base/os.h"

/* The most that was in use lately, in bytes. Owner: the lock of the layer that counts. */
struct wave {
	uint64_t start;      /* milliseconds, of the running interval: decay_interval() long */
	size_t peak, before; /* of the running interval, and of the one before */
};

/* Milliseconds. When nothing decays, waves are remembered as by default. */
static inline uint64_t decay_interval(void) {
	int64_t decay = conf.decay >= 0 ? conf.decay : CONF_DECAY;
	return decay >= DECAY_INTERVALS ? (uint64_t)decay / DECAY_INTERVALS : 1;
}

/* The most that was ever in use, in one wave; ALLOWANCE_LEAST at least. */
extern _Atomic size_t wave_highest;

/* Said when more is in use than before: the layer above is waiting for that. With locks held. NULL: nobody
 * is. */
extern void (*_Atomic wave_rises)(void);

static inline void wave_note(struct wave *w, size_t used) {
	if (used <= w->peak) return;
	w->peak = used;
	if (unlikely(used > atomic_load_explicit(&wave_highest, memory_order_relaxed)))
		atomic_store_explicit(&wave_highest, used, memory_order_relaxed);
	void (*rises)(void) = atomic_load_explicit(&wave_rises, memory_order_acquire);
	if (rises != NULL) rises();
}

/* Milliseconds: nobody waits longer for a lock than that. */
#define WAVE_SKEW 1000

/* Is the running interval over? Not if it began a little later than `now`: that was read before a wait for
 * the lock. If it began much later, this process has another clock than its parent (time_namespaces(7)). */
static inline bool wave_is_over(const struct wave *w, uint64_t now) {
	return now - w->start >= decay_interval() && w->start - now >= WAVE_SKEW;
}

/* If it is, the next one begins. */
static inline bool wave_next(struct wave *w, size_t used, uint64_t now) {
	const uint64_t passed = now - w->start;
	if (!wave_is_over(w, now)) return false;
	w->before = passed < 2 * decay_interval() ? w->peak : used;
	w->peak = used;
	w->start = now;
	return true;
}

static inline bool wave_is_large(void) {
	return atomic_load_explicit(&wave_highest, memory_order_relaxed) > SMALL_PROCESS_MAX;
}

/* Purging costs the program about a microsecond a page: now, and when it needs the page again. So it is
 * limited for those who free, in a process that nobody purges in the background: to ALLOWANCE_WAVES times
 * what was ever in use at once, and in the long run to ALLOWANCE_RATE. A program that frees most of its
 * memory gets rid of it at once; one that does so all the time keeps it. This is a time in milliseconds: what
 * may be purged is ALLOWANCE_RATE times what has passed since then. */
extern _Atomic uint64_t allowance_since;

static inline bool allowance_left(uint64_t now) {
	const size_t highest = atomic_load_explicit(&wave_highest, memory_order_relaxed);
	const uint64_t longest = ALLOWANCE_WAVES * highest / ALLOWANCE_RATE;
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

/* Should those who free leave the purging for later: to the background thread, or to a time when it is their
 * turn again? */
static inline bool purge_later(uint64_t now) {
	return atomic_load_explicit(&purged_in_background, memory_order_relaxed) || !allowance_left(now);
}

/* How much of what nobody needed during an interval goes back: a share; all of it when that is little, or
 * memory is short. */
static inline size_t decay_part(size_t unused) {
	return unused <= DECAY_WHOLE || pressure_is_on() ? unused : unused / DECAY_SHARE;
}

/* Bytes that are worth keeping: as much as was in use lately, and is not now. */
static inline size_t wave_room(const struct wave *w, size_t used, uint64_t now) {
	size_t recent = max_size(w->peak, w->before);
	return purge_later(now) ? recent - min_size(recent, used) : 0;
}

#endif
