/* Random numbers for choices that an attacker should not foresee: a small generator (splitmix64) from a seed of the kernel's.
 * Nobody outside sees its numbers themselves. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include "base/base.h"

struct random {
	uint64_t state;
};

static inline uint64_t random_next(struct random *r) {
	uint64_t n = r->state += UINT64_C(0x9E3779B97F4A7C15);
	n = (n ^ n >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	n = (n ^ n >> 27) * UINT64_C(0x94D049BB133111EB);
	return n ^ n >> 31;
}

/* A number below `bound` (at least 1). */
static inline uint32_t random_below(struct random *r, uint32_t bound) {
	return (uint32_t)((random_next(r) >> 32) * bound >> 32);
}

#endif
