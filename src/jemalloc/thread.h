/* What is kept for the calling thread, for the nodes thread.*: what it has allocated and freed, and the arena
 * that it chose.
 *
 * The fast paths of malloc and free count nothing, and what they leave, a magazine's top, does not tell how
 * often they were taken. So a thread's bytes are counted from its first question on: its cache is hidden
 * then, as in hardened mode, and each of its calls takes the slow path, and comes to the counting front.
 * Threads that never ask pay nothing. */
#ifndef JEMALLOC_THREAD_H
#define JEMALLOC_THREAD_H

#include "base/base.h"

/* Owner: its thread. What programs read by thread.allocatedp and thread.deallocatedp, at any time. */
struct thread_counts {
	uint64_t allocated, deallocated; /* usable bytes of blocks, since `counts` */
	uint64_t base;                   /* allocated less deallocated at the last thread.peak.reset */
	uint64_t peak;                   /* the most that they were beyond `base` since then */
	bool counts;                     /* they are counted: each call comes to the counting front */
	bool inside;                /* of a call: what it calls itself is neither counted nor the program's */
	uint32_t arena, generation; /* the made arena that it chose, and which one of this number; 0: none */
	bool no_cache_asked;        /* the program said thread.tcache.enabled = false */
	bool not_profiled;          /* the program said thread.prof.active = false */
};
extern __thread struct thread_counts thread_counts
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Counts bytes that the calling thread, which counts, got and gave. */
void thread_count(size_t allocated, size_t freed);

/* From now on, the calling thread's bytes are counted. False: that cannot be, yet. */
bool thread_counts_begin(void);

/* From now on, each call of the thread comes to the counting front. False: that cannot be, yet. */
bool thread_calls_come(void);

/* The same no more, unless it counts. */
void thread_calls_come_no_more(void);

/* The front of this folder serves from now on, for all threads, with the one behind it that served so far.
 * False: it is too early, the environment is not known. */
bool counting_front_begin(void);

/* The front that serves, behind the counting one; NULL: plain does. */
struct front;
const struct front *front_behind_counting(void);

#endif
