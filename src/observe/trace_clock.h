/* The time of a trace's records, in stamps: the CPU's counter where it runs evenly and the same on all cores,
 * which is cheaper than the kernel's clock. Chunks say what a stamp is in nanoseconds. */
#ifndef OBSERVE_TRACE_CLOCK_H
#define OBSERVE_TRACE_CLOCK_H

#include "base/base.h"
#include "base/os.h"
#ifdef __x86_64__
#include <x86intrin.h>
#endif

/* Once, at the start. */
void trace_clock_choose(void);

/* Is it the counter? Written by trace_clock_choose. */
extern bool trace_clock_is_counter __attribute__((visibility("hidden")));

static inline uint64_t trace_now(void) {
#if defined(__x86_64__)
	if (likely(trace_clock_is_counter)) return __rdtsc();
#elif defined(__aarch64__)
	if (likely(trace_clock_is_counter)) {
		uint64_t count;
		__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(count));
		return count;
	}
#endif
	return os_nanoseconds();
}

#endif
