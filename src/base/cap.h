/* The hard cap: no allocation takes the process's memory for blocks, free memory and records beyond the
 * tunable `cap`.
 *
 * What counts is what the kernel may back: blocks, whether they were written to or not; what is free and was
 * not given back; and records, as they are mapped. What was purged does not count, nor what is only reserved.
 * It is counted where memory is taken from the kernel, or taken again after a purge, and given back: on slow
 * paths, by one atomic addition, whether there is a cap or not, so that a cap may be set at any time.
 * cap_count (harden/cap_count.h) finds the same number in the records of all layers.
 *
 * Records are not refused, but for long tables: free can always be called at the cap, and a thread that libc
 * has memory to start (it calls calloc for that) gets its cache. They use up what is left for blocks. */
#ifndef BASE_CAP_H
#define BASE_CAP_H

#include <stdatomic.h>

#include "base/conf.h"

extern _Atomic size_t cap_bytes; /* that count now */

/* Counts so many bytes more, or does nothing and returns false: they would be too many. */
static inline bool cap_take(size_t bytes) {
	const size_t most = (size_t)conf.cap;
	if (likely(most == 0)) {
		atomic_fetch_add_explicit(&cap_bytes, bytes, memory_order_relaxed);
		return true;
	}
	/* Not added first: a large one that is refused must not make another thread's fail meanwhile. */
	size_t now = atomic_load_explicit(&cap_bytes, memory_order_relaxed);
	do
		if (now > most || bytes > most - now) return false;
	while (!atomic_compare_exchange_weak_explicit(&cap_bytes, &now, now + bytes, memory_order_relaxed,
	                                              memory_order_relaxed));
	return true;
}

/* Counts what is there in any case. */
static inline void cap_add(size_t bytes) {
	if (bytes > 0) atomic_fetch_add_explicit(&cap_bytes, bytes, memory_order_relaxed);
}

static inline void cap_give(size_t bytes) {
	if (bytes > 0) atomic_fetch_sub_explicit(&cap_bytes, bytes, memory_order_relaxed);
}

/* Bytes until the cap; SIZE_MAX when there is none. */
static inline size_t cap_left(void) {
	const size_t most = (size_t)conf.cap, now = atomic_load_explicit(&cap_bytes, memory_order_relaxed);
	return most == 0 ? SIZE_MAX : now < most ? most - now : 0;
}

#endif
