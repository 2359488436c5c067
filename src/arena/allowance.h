/* How much those who free may purge, in a process that nobody purges in the background.
 *
 * Purging costs the program about a microsecond a page: now, and when it needs the page again. So it is limited: to
 * ALLOWANCE_BURST bytes at once, and in the long run to ALLOWANCE_RATE bytes per millisecond, 5% of a CPU or so. A program
 * that frees most of its memory gets rid of it at once; one that does so all the time keeps it. */
#ifndef ARENA_ALLOWANCE_H
#define ARENA_ALLOWANCE_H

#include <stdatomic.h>

#include "base/os.h"

#define ALLOWANCE_BURST (1 * GIB)
#define ALLOWANCE_RATE (256 * KIB)

/* Milliseconds: what may be purged is ALLOWANCE_RATE times the time since then. */
extern _Atomic uint64_t allowance_since;

static inline bool allowance_left(void) {
	const uint64_t longest = ALLOWANCE_BURST / ALLOWANCE_RATE, now = os_milliseconds();
	uint64_t since = atomic_load_explicit(&allowance_since, memory_order_relaxed);
	if (now > since + longest)
		atomic_compare_exchange_strong_explicit(&allowance_since, &since, now - longest, memory_order_relaxed,
		                                        memory_order_relaxed);
	return now > since;
}

static inline void allowance_charge(size_t bytes) {
	atomic_fetch_add_explicit(&allowance_since, bytes / ALLOWANCE_RATE, memory_order_relaxed);
}

#endif
