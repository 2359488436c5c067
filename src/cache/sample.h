/* Which allocations the heap profile looks at (observe/profile.h): a sample of all bytes that threads
 * allocate.
 *
 * Points lie on the row of these bytes as events of a Poisson process do, one in `sample_mean` bytes on
 * average. A block that one or more of them fall into is sampled. So a block of n bytes is with the
 * probability 1 - exp(-n / mean), whatever was allocated before it, and stands for 1 / (1 - exp(-n / mean))
 * blocks like it (Horvitz and Thompson, 1952): then the expected value of an estimate is the true one, for
 * blocks and for bytes, for each size alone and for all of them. */
#ifndef CACHE_SAMPLE_H
#define CACHE_SAMPLE_H

#include <stdatomic.h>

#include "base/base.h"
#include "base/random.h"

struct tcache;

/* More bytes than this are none that anybody would sample by: it keeps estimates in 64 bits. */
#define SAMPLE_MEAN_MAX GIB

/* Bytes from one point to the next, on average; 0: the profile is off. Written by tcache_sample. */
extern _Atomic uint64_t sample_mean __attribute__((visibility("hidden")));

static inline bool sample_is_on(void) {
	return atomic_load_explicit(&sample_mean, memory_order_relaxed) != 0;
}

/* How far a thread is from its next point. Zeroed: not drawn yet, or the profile is off. Owner: its thread;
 * but when sample_mean changes, sample_forget is called from outside. A thread that writes at that moment
 * may go on to the point that it had drawn. */
struct sample_turn {
	uint64_t left; /* bytes before it */
	uint64_t mean; /* sample_mean, when `left` was drawn */
	struct random random;
	bool busy; /* in the middle of a sample: what is allocated for it is not counted */
};

/* Is the profile on, and a block of so many bytes no sample? For those who count it then by sample_pass. */
static inline bool sample_passes(const struct sample_turn *turn, size_t size) { return size <= turn->left; }
static inline void sample_pass(struct sample_turn *turn, size_t size) { turn->left -= size; }

/* ThreadSanitizer looks away: the owner reads and writes plainly. */
__attribute__((no_sanitize("thread"))) static inline void sample_forget(struct sample_turn *turn) {
	*(volatile uint64_t *)&turn->mean = 0;
	*(volatile uint64_t *)&turn->left = 0;
}

/* What the heap profile does with blocks (observe/profile.c): for all layers, of which some lie below it.
 * NULL until it is on for the first time. No lock may be held. */
struct sample_hooks {
	void (*_Atomic allocated)(void *block, size_t size);
	void (*_Atomic freed)(const void *block);
};
extern struct sample_hooks sample_hooks __attribute__((visibility("hidden")));

/* The calling thread has got this block, of a kind that is freed on slow paths, sample or not; NULL is fine.
 * Returns it. */
static inline void *sample_allocated(void *block, size_t size) {
	if (likely(!sample_is_on())) return block;
	void (*function)(void *, size_t) = atomic_load_explicit(&sample_hooks.allocated, memory_order_acquire);
	if (function != NULL) function(block, size);
	return block;
}

/* Is somebody to be told of blocks that are freed? */
static inline bool sample_is_told(void) {
	return atomic_load_explicit(&sample_hooks.freed, memory_order_relaxed) != NULL;
}

/* The block is about to be freed, or to become another one. For all blocks that may be samples. */
static inline void sample_freed(const void *block) {
	void (*function)(const void *) = atomic_load_explicit(&sample_hooks.freed, memory_order_relaxed);
	if (unlikely(function != NULL)) function(block);
}

/* Counts a block. True: it is a sample. Never while the profile is off. */
bool sample_count(struct sample_turn *turn, size_t size);

/* The probability for a block of `size` bytes, at least 1. */
double sample_probability(size_t size, uint64_t mean);

/* From now on, one byte in `mean` on average is a point of the sample, and all caches lead sizes to the
 * slow path; 0: none is, and the caches are as before. False when out of memory: nothing changed. */
bool tcache_sample(uint64_t mean);

/* Counts a block of `size` bytes that the calling thread gets. When it is a sample: the mean that it was
 * drawn with; else 0. */
uint64_t tcache_sample_count(size_t size);

/* While a sample is taken, what the thread allocates is none. */
void tcache_sample_busy(bool busy);

/* Leads sizes to their magazines; or all of them to magazine 0 while the heap profile is on or the cache is
 * led away. Its thread may be in the middle of malloc: it finds either. Under the cache's lock, unless nobody
 * knows it yet: a drain, which ends with this, may be under way. */
void sample_lead_sizes(struct tcache *tc);

#endif
