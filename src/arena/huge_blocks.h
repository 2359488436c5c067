/* Which huge blocks there are, and what is known of each; for huge.c. What others ask about them is in
 * huge.h. */
#ifndef ARENA_HUGE_BLOCKS_H
#define ARENA_HUGE_BLOCKS_H

#include "arena/huge.h"
#include "arena/wave.h"
#include "base/address_table.h"
#include "base/lock.h"

/* Beside its address and size, in the table's records: tools read only those from outside. */
struct huge_more {
	uint32_t origin; /* see struct piece */
	bool altered;    /* huge_alter was called for it */
};

/* The lock is that of the cache and of stuck mappings, too. All else: owner lock. */
extern struct huge_blocks {
	struct lock lock;
	struct address_table table; /* of struct huge_more */
	uint32_t resizing;          /* blocks taken out to be resized, inside of the gate: each must get an entry
	                               again */
	uint32_t origins;           /* given so far */
	size_t bytes;               /* of the blocks in the table */
	struct wave wave;
} huge;

/* Room for one entry more, beside those that will be put back. False without memory. Under the lock. */
bool huge_blocks_grow(void);
static inline bool huge_block_room(void) {
	return address_table_has_room(&huge.table, huge.resizing + 1) || huge_blocks_grow();
}

/* Puts a block into the table, which has room, with a new origin if that is 0. Under the lock. */
void huge_block_put(void *block, size_t size, struct huge_more more);

/* Takes the block out of the table. Returns its size, 0 when it is not there. Under the lock. */
size_t huge_block_take_out(const void *block, struct huge_more *more);

#endif
