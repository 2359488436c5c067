/* How long something took, as a histogram. Any thread adds to one, and anybody reads it, without a lock. */
#ifndef BASE_TIMES_H
#define BASE_TIMES_H

#include <stdatomic.h>

#include "base/base.h"

/* The first bucket has what took at most 128 ns, each further one what took at most twice as long as that of
 * the one before, and the last one all that took longer than 2^29 ns, half a second. */
#define TIMES_BUCKETS 24
#define TIMES_FIRST_LIMIT 128

struct times {
	_Atomic uint64_t counts[TIMES_BUCKETS];
	_Atomic uint64_t nanoseconds; /* of all of them together */
};

static inline unsigned times_bucket(uint64_t nanoseconds) {
	const uint64_t limits = (nanoseconds - (nanoseconds > 0)) / TIMES_FIRST_LIMIT; /* below the time */
	const unsigned bucket = limits == 0 ? 0 : 64 - (unsigned)__builtin_clzll(limits);
	return bucket < TIMES_BUCKETS ? bucket : TIMES_BUCKETS - 1;
}

static inline void times_add(struct times *times, uint64_t nanoseconds) {
	atomic_fetch_add_explicit(&times->counts[times_bucket(nanoseconds)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&times->nanoseconds, nanoseconds, memory_order_relaxed);
}

#endif
