/* Random numbers for choices that an attacker should not foresee: small generators from a seed of the
 * kernel's. Nobody outside sees their numbers themselves. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include "base/base.h"

struct random {
	uint64_t state;
};

/* splitmix64 */
static inline uint64_t random_next(struct random *r) {
	uint64_t n = r->state += UINT64_C(0x9E3779B97F4A7C15);
	n = (n ^ n >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	n = (n ^ n >> 27) * UINT64_C(0x94D049BB133111EB);
	return n ^ n >> 31;
}

/* A number below `bound` (at least 1): PCG-XSH-RS (O'Neill, 2014), a third of the instructions, for each
 * block needs two. */
static inline uint32_t random_below(struct random *r, uint32_t bound) {
	const uint64_t n = r->state;
	r->state = n * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	const uint32_t mixed = (uint32_t)((n ^ n >> 22) >> (22 + (n >> 61)));
	return (uint32_t)((uint64_t)mixed * bound >> 32);
}

#endif
