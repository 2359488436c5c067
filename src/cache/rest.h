/* Does the process rest: do all of its threads sleep? What is free, and what their caches hold, is not about to
 * be used then, so it need not wait for several looks. The processor time of the process tells, which costs
 * the same for any number of sleeping threads that nobody asks one by one.
 *
 * A process that rests again and again, and works in between, would pay for each rest with the page faults
 * after it. So a rest that turned out short makes the next ones wait. */
#ifndef CACHE_REST_H
#define CACHE_REST_H

#include "arena/policy.h"

/* Times are in nanoseconds. Owner: who looks. */
struct rest {
	uint64_t begun, cpu; /* the running interval: when it began, and the processor time at that moment */
	uint64_t since;      /* the running rest was found; 0: there is none */
	uint64_t not_before; /* none is looked for until then */
};

#define REST_MILLISECOND UINT64_C(1000000)

/* An interval begins. */
static inline void rest_begin(struct rest *r, uint64_t now, uint64_t cpu) {
	r->begun = now;
	r->cpu = cpu;
}

/* It is over: did the process rest all the time? */
static inline bool rest_look(struct rest *r, uint64_t now, uint64_t cpu) {
	const uint64_t taken = cpu - min_size(cpu, r->cpu); /* it may seem to go back a little */
	if (taken > (now - r->begun) / REST_CPU_SHARE) {
		const bool was_short = r->since != 0 && now - r->since < REST_WORTH * REST_MILLISECOND;
		if (was_short) r->not_before = now + REST_PATIENCE * REST_MILLISECOND;
		r->since = 0;
		return false;
	}
	if (r->since == 0 && now < r->not_before) return false;
	if (r->since == 0) r->since = now;
	return true;
}

#endif
