/* Sampled guard pages: one allocation in conf.guard_sample (cache/guard_turn.h says which) lies alone
 * between inaccessible pages. Who runs over its end, or touches it after free, gets a report with the
 * stacks of who allocated and freed it (fault.c), instead of a mystery.
 *
 * The pool is mapped for the first such block. Its addresses lie in no region and are no huge block, so
 * that free finds them on its slow path only. */
#ifndef HARDEN_GUARD_H
#define HARDEN_GUARD_H

#include "base/base.h"
#include "harden/stack.h"

struct mapping;

/* Larger blocks are not guarded. */
#define GUARD_MAX SLICE_SIZE

/* The loader and libc are ready: until then, no block is guarded; the cache layer asks for them from now
 * on. */
void guard_start(void);

/* From now on, a guarded block has as many bytes as any other for the same request would: the program uses
 * more than it asks for, since it knows how much it gets (nallocx). */
void guard_round_sizes(void);

/* Takes the block back. False when the address is not in the pool; the program ends with a report when it
 * is, and is not that of a block in use, or if somebody wrote beside the block. */
bool guard_free(void *block);

/* The bytes that were asked for: nobody may write behind them. */
#define GUARD_NONE SIZE_MAX /* it is not in the pool */
size_t guard_size(const void *block);

bool guard_owns(const void *address);

/* Writes down the blocks in use, up to `room` of them. Returns how many there are. */
size_t guard_blocks(struct mapping *out, size_t room);

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
	SLOT_UNUSED, /* or being made */
	SLOT_LIVE,
	SLOT_FREEING, /* being closed */
	SLOT_FREED,
};

/* One block and its surroundings. Owner: the pool's lock; but who makes the block or frees it, alone until
 * it is done. */
struct guard_slot {
	uintptr_t block;
	size_t size;     /* that was asked for */
	uintptr_t pages; /* the accessible ones, while live */
	size_t pages_size;
	uint32_t state; /* enum slot_state */
	struct stack allocated, freed;
};

/* Copies the slot that is to blame for an access to the address; its state is SLOT_UNUSED when there was no
 * block near. False when the address is not in the pool. */
bool guard_find(uintptr_t address, struct guard_slot *out);

/* From now on, faults in the pool are reported. */
void fault_catch(void);

/* Reports about an address that was given to free or realloc, or about the byte that was found overwritten,
 * and ends the program. */
_Noreturn COLD void fault_end(const char *what, uintptr_t address, const struct guard_slot *slot);

/* In the child of a fork: nobody is reporting. */
void fault_after_fork(void);

#endif
