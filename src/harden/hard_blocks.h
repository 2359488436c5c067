/* Which large blocks there are in hardened mode, and what is known of each; for hard_large.c and
 * hard_map.c. */
#ifndef HARDEN_HARD_BLOCKS_H
#define HARDEN_HARD_BLOCKS_H

#include "arena/wave.h"
#include "base/address_table.h"
#include "base/lock.h"
#include "harden/harden.h"

/* Beside its address and size, in the table's records: tools read only those from outside. */
struct hard_more {
	uint64_t canary;
	uint32_t guard; /* bytes of the guard in front, in pages; one page follows the block; 0: no guards */
	uint16_t family;
	bool held;    /* by realloc, which owns the block until it is done */
	bool altered; /* large_hard_alter was called for it */
};

/* A copy of all that is known of a block. */
struct hard_block {
	char *address;
	size_t size; /* bytes asked for */
	struct hard_more more;
};

/* The lock is that of hard_waiting.c, too. All else: owner lock. */
extern struct hard_blocks {
	struct lock lock;
	struct address_table table; /* of struct hard_more */
	size_t bytes;               /* in pages */
	struct wave wave;
	_Atomic size_t guarded; /* of the blocks; also read without the lock */
	uint64_t key[4];        /* of canaries */
	uint64_t total;         /* since the start: the next block at the same address has another canary */
} hard_blocks;

static inline size_t hard_pages(size_t size) { return ALIGN_UP(max_size(size, 1), os_page_size); }
static inline size_t hard_guard(const struct hard_block *b) { return b->more.guard * os_page_size; }

/* Says how much memory there is in large blocks, and those that wait. Under the lock. */
void hard_blocks_tell_pressure(void);

/* Those below take the lock. Adds a block; false without memory for the entry. */
bool hard_block_add(const struct hard_block *b);

/* Takes the block out: the caller owns it then, alone. False when it is not there, or another thread's
 * realloc holds it; *freed tells whether it was there. `held`: the caller is that realloc. */
bool hard_block_take_out(const void *block, struct hard_block *out, bool held, bool *freed);

/* Marks the block as realloc's, so that nobody else may free or resize it, or takes the mark back; *out
 * becomes a copy. False when it is not there, or another thread came first; *freed tells whether it was
 * there. */
bool hard_block_set_held(const void *block, bool held, struct hard_block *out, bool *freed);

/* The block, which is held, has another size within its pages, and is held no more. */
void hard_block_set_size(const void *block, size_t size);

/* Copies what is known of the block. False when it is not there. */
bool hard_block_look_up(const void *block, struct hard_block *out);

/* Draws a canary for the block at this address, different each time. */
uint64_t hard_block_draw_canary(const char *address);

#endif
