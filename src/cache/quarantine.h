/* Freed blocks of hardened mode that wait, so that no block is handed out again soon, nor in the order in which blocks were
 * freed: a queue in which each new block takes a random place among the younger half. Part of a thread's cache. */
#ifndef CACHE_QUARANTINE_H
#define CACHE_QUARANTINE_H

#include "base/random.h"

#define QUARANTINE_SLOTS 256 /* a power of two */
#define QUARANTINE_BLOCKS (QUARANTINE_SLOTS - 1)

/* Large blocks are bounded by their bytes instead; but some always wait. */
#define QUARANTINE_BYTES (256 * KIB)
#define QUARANTINE_LEAST 8

#define RECENT_BLOCKS 8

/* Owner: its thread. */
struct quarantine {
	struct random random;
	uint32_t first, count;
	size_t bytes;
	uint64_t entries[QUARANTINE_SLOTS]; /* address, and size class from bit 48 on */
	void *recent[RECENT_BLOCKS];        /* the blocks that the thread got last, see harden/patrol.c */
	uint32_t recent_next;
};
static_assert(ADDRESS_BITS <= 48, "a class fits above an address");

struct quarantine *quarantine_create(void);

/* Gives all blocks back to their arenas, and the quarantine up. */
void quarantine_destroy(struct quarantine *q);

/* Adds a block. There must be room: quarantine_pop was called until it returned NULL. */
void quarantine_push(struct quarantine *q, unsigned class_, void *block);

/* The next block that has waited long enough, with its class; NULL when there is none. */
void *quarantine_pop(struct quarantine *q, unsigned *class_);

/* The i-th youngest, i < count. */
static inline uint64_t quarantine_entry(const struct quarantine *q, uint32_t i) {
	return q->entries[(q->first + q->count - 1 - i) % QUARANTINE_SLOTS];
}

static inline void *quarantine_block(uint64_t entry) { return (void *)(entry & ((UINT64_C(1) << 48) - 1)); }
static inline unsigned quarantine_class(uint64_t entry) { return (unsigned)(entry >> 48); }

#endif
