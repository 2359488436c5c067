/* Does the process rest: do all of its threads sleep? What is free, and what their caches hold, is not about
 * to be used then, so it need not wait for several looks. The processor time of the process tells. All of it
 * counts: who looks may have slept when the process worked.
 *
 * A process that rests again and again, and works in between, would pay for each rest with the page faults
 * after it. So a rest that turned out short makes the next ones wait. */
#ifndef CACHE_REST_H
#define CACHE_REST_H

#include "arena/policy.h"

/* Times are in nanoseconds. Owner: who looks. */
struct rest {
	uint64_t cpu;        /* the processor time at the last look */
	uint64_t since;      /* the running rest was found; 0: there is none */
	uint64_t not_before; /* none is looked for until then */
};

/* Did the process rest since the last look, an interval ago or more? Not if nobody knows: `cpu` is 0. */
static inline bool rest_look(struct rest *r, uint64_t now, uint64_t cpu, uint64_t interval) {
	const uint64_t taken = cpu - min_size(cpu, r->cpu); /* it may seem to go back a little */
	r->cpu = cpu;
	if (cpu == 0) return false;
	if (taken > REST_CPU * UINT64_C(1000)) {
		const bool was_short = r->since != 0 && now - r->since < REST_WORTH * interval;
		if (was_short) r->not_before = now + REST_PATIENCE * interval;
		r->since = 0;
		return false;
	}
	if (r->since == 0 && now < r->not_before) return false;
	if (r->since == 0) r->since = now;
	return true;
}

#endif
