/* When the next allocation of a thread is to be guarded: one in conf.guard_sample, on average. A refill of
 * a magazine counts for as many allocations as it brings blocks, a large block for one, unless the thread
 * kept it itself. The allocation whose turn it is gets its block from above (cache_hooks.guard): from
 * harden/guard.c. */
#ifndef CACHE_GUARD_TURN_H
#define CACHE_GUARD_TURN_H

#include "base/base.h"
#include "base/conf.h"
#include "base/random.h"

/* Zeroed: never. Owner: its thread. */
struct guard_turn {
	int64_t left;  /* allocations until then */
	int64_t every; /* conf.guard_sample, when `left` was drawn */
	uint64_t last; /* milliseconds: when it was the thread's turn, see guard_turn.c */
	struct random random;
	int process; /* whose random numbers these are; 0: no block was guarded yet */
	bool due;    /* the next one that comes by a slow path is it */
	bool busy;   /* in the middle of one: what is allocated for it is not guarded */
};

/* Once for each thread, before the first count. */
void guard_turn_init(struct guard_turn *turn);

/* Draws how many allocations are left. */
COLD void guard_turn_draw(struct guard_turn *turn);

/* The thread gets so many blocks, one large one or a magazine's refill. */
static inline void guard_count(struct guard_turn *turn, size_t blocks) {
	turn->left -= (int64_t)blocks;
	if (unlikely(turn->left < 0 || turn->every != conf.guard_sample)) guard_turn_draw(turn);
}

/* A guarded block for the thread whose turn it is; it reads as zero. NULL when it is too large, or none can
 * be made. A `size` that is a multiple of a power of two up to a slice gets an address that is one, too. */
COLD void *guard_turn_take(struct guard_turn *turn, size_t size);

/* Around the making of the block. A child that no handler of fork hears of has its parent's random numbers:
 * it gets others here. */
void guard_turn_begin(struct guard_turn *turn);
static inline void guard_turn_end(struct guard_turn *turn) {
	turn->busy = false;
	guard_count(turn, 1);
}

#endif
