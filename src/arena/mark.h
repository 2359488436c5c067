/* The mark of a free block: its second word holds a number that nobody outside of the process knows. free
 * stores it, without a look at what is there: what is freed often lies in no cache of the CPU any more, and a
 * store waits for nothing, where a load and a branch do. malloc looks for it in the block that it is about to
 * hand out, which the program wants there anyway, and clears it. A block without it was written to after it
 * was freed; or it was freed twice, and is in use by who got it first. It is not handed out (misuse_lost_mark
 * in harden/misuse.h).
 *
 * Invariant: a block below the top of a magazine has the mark, at any moment that a fork may copy: free
 * stores it before it raises the top, malloc clears it after it lowered the top. A block that is free in its
 * bin has it, too, but on the pages that are bare (bare.h). malloc relies on it, which ends the program.
 * Hardened blocks have none.
 *
 * The number is the same for all blocks of the process, and of its forked children, which have its free
 * blocks: one that depends on the address takes an instruction more in each call, and who has read the mark
 * of a block knows what to write there either way. No file and no message from outside holds it. The second
 * word, for the first one is what programs that use a block after they freed it write to most, often without
 * harm. */
#ifndef ARENA_MARK_H
#define ARENA_MARK_H

#include "arena/page_map.h"

static inline uint64_t *mark_place(void *block) { return (uint64_t *)block + 1; }
static inline uint64_t mark_number(void) {
	return atomic_load_explicit(&page_map.mark, memory_order_relaxed);
}
static inline bool mark_is_there(void *block) { return *mark_place(block) == mark_number(); }
static inline void mark_set(void *block) { *mark_place(block) = mark_number(); }
static inline void mark_clear(void *block) { *mark_place(block) = 0; }

/* Draws the process's number: once, at start-up. */
void mark_draw(void);

/* The program has the kernel hand pages with small blocks to children as zeros (MADV_WIPEONFORK), those that
 * it frees later, too. From now on, a zero in place of a mark says nothing. For slow paths. */
void mark_let_be_wiped(void);
bool mark_was_wiped(void *block);

#endif
