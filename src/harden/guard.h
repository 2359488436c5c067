/* Sampled guard pages: one allocation in conf.guard_sample lies alone between inaccessible pages. Who runs over its end, or
 * touches it after free, gets a report with the stacks of who allocated and freed it (fault.c), instead of a mystery.
 *
 * The pool is mapped for the first such block. Its addresses lie in no region and are no huge block, so that free finds them
 * on its slow path only. */
#ifndef HARDEN_GUARD_H
#define HARDEN_GUARD_H

#include <stdatomic.h>

#include "base/conf.h"
#include "base/random.h"
#include "harden/stack.h"

/* Larger blocks are not guarded. */
#define GUARD_MAX SLICE_SIZE

/* When the next allocation of a thread is to be guarded. Zeroed: never. Owner: its thread. */
struct guard_turn {
	int64_t left;    /* allocations until then */
	int64_t every;   /* conf.guard_sample, when `left` was drawn */
	uint64_t last;   /* milliseconds: when it was the thread's turn, see guard.c */
	struct random random;
	int process;     /* whose random numbers these are; 0: no block was guarded yet */
	bool due;        /* the next one that comes by a slow path is it */
	bool busy;       /* in the middle of one: what is allocated for it is not guarded */
};

/* The loader and libc are ready: until then, no block is guarded. */
void guard_start(void);

/* Once for each thread, before the first count. */
void guard_turn_init(struct guard_turn *turn);

/* Draws how many allocations are left. */
COLD void guard_turn_draw(struct guard_turn *turn);

/* The thread gets so many blocks, one large one or a magazine's refill. */
static inline void guard_count(struct guard_turn *turn, size_t blocks) {
	turn->left -= (int64_t)blocks;
	if (unlikely(turn->left < 0 || turn->every != conf.guard_sample)) guard_turn_draw(turn);
}

/* A guarded block for the thread whose turn it is; it reads as zero. NULL when it is too large, or no slot is free. A
 * `size` that is a multiple of a power of two up to a slice gets an address that is one, too. */
COLD void *guard_alloc(struct guard_turn *turn, size_t size);

/* Takes the block back. False when the address is not in the pool; the program ends with a report when it is, and is not that
 * of a block in use, or if somebody wrote beside the block. */
bool guard_free(void *block);

/* The bytes that were asked for: nobody may write behind them. */
#define GUARD_NONE SIZE_MAX /* it is not in the pool */
size_t guard_size(const void *block);

bool guard_owns(const void *address);

struct guard_stats {
	size_t blocks, bytes; /* in use; bytes that were asked for */
	size_t pages;         /* bytes of accessible pages around them */
	uint64_t total;       /* blocks guarded since the start */
};
void guard_stats_get(struct guard_stats *out);

/* Around fork. */
void guard_lock(void);
void guard_unlock(void);

/* ---- between guard.c and fault.c ---- */

enum slot_state {
	SLOT_UNUSED,  /* or being made */
	SLOT_LIVE,
	SLOT_FREEING, /* being closed */
	SLOT_FREED,
};

/* One block and its surroundings. Owner: the pool's lock; but who makes the block or frees it, alone until it is done. */
struct guard_slot {
	uintptr_t block;
	size_t size;            /* that was asked for */
	uintptr_t pages;        /* the accessible ones, while live */
	size_t pages_size;
	uint32_t state;         /* enum slot_state */
	struct stack allocated, freed;
};

/* Copies the slot that is to blame for an access to the address; its state is SLOT_UNUSED when there was no block near. False
 * when the address is not in the pool. */
bool guard_find(uintptr_t address, struct guard_slot *out);

/* From now on, faults in the pool are reported. */
void fault_catch(void);

/* Reports about an address that was given to free or realloc, or about the byte that was found overwritten, and ends the
 * program. */
_Noreturn COLD void fault_end(const char *what, uintptr_t address, const struct guard_slot *slot);

#endif
