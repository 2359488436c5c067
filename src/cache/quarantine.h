/* Freed blocks of hardened mode that wait, so that no block is handed out again soon, nor in the order in
 * which blocks were freed: a queue in which each new block takes a random place among the younger half.
 * Part of a thread's cache. */
#ifndef CACHE_QUARANTINE_H
#define CACHE_QUARANTINE_H

#include "arena/policy.h"
#include "arena/size_class.h"
#include "base/random.h"

#define QUARANTINE_BLOCKS (QUARANTINE_SLOTS - 1)

#define RECENT_BLOCKS 8

/* Owner: its thread. */
struct quarantine {
	struct random random;
	int process; /* whose random numbers these are */
	uint32_t first, count;
	size_t bytes, most_bytes;           /* most_bytes: as of the last time that the queue had gone round */
	uint64_t entries[QUARANTINE_SLOTS]; /* address, and size class from bit 48 on */
	void *recent[RECENT_BLOCKS];        /* the blocks that the thread got last, see harden/patrol.c */
	uint32_t recent_next;
};
static_assert(ADDRESS_BITS <= 48, "a class fits above an address");

struct quarantine *quarantine_create(void);

/* Gives all blocks back to their arenas. Inside of the gate, or under the threads lock. */
void quarantine_empty(struct quarantine *q);

/* Gives all blocks back, as quarantine_empty, and the quarantine up. */
void quarantine_destroy(struct quarantine *q);

/* Gives up the quarantine of a thread that is not there any more, wherever that was in malloc or free. */
void quarantine_inherit(struct quarantine *q);

/* While there are many threads, each of them keeps less; and in a child that no handler of fork hears of,
 * choices are made by other random numbers than in its parent. */
COLD void quarantine_look_at_room(struct quarantine *q);

/* The i-th youngest, i < count. */
static inline uint64_t quarantine_entry(const struct quarantine *q, uint32_t i) {
	return q->entries[(q->first + q->count - 1 - i) % QUARANTINE_SLOTS];
}

static inline void *quarantine_block(uint64_t entry) { return (void *)(entry & ((UINT64_C(1) << 48) - 1)); }
static inline unsigned quarantine_class(uint64_t entry) { return (unsigned)(entry >> 48); }

/* What lies in the queue are free blocks at any moment, so that the child of a fork can take it over from a
 * thread that it does not have: a block is counted after it was stored, and not any more before it is
 * taken. At worst, one is missing. */
static inline void quarantine_keep_order(void) { __asm__ volatile("" : : : "memory"); }

/* Adds a block. There must be room: quarantine_is_full was asked, and blocks taken, until it said no. */
static inline void quarantine_push(struct quarantine *q, unsigned class_, void *block) {
	const uint32_t end = q->first + q->count, place = end - random_below(&q->random, q->count / 2 + 1);
	q->entries[end % QUARANTINE_SLOTS] = q->entries[place % QUARANTINE_SLOTS];
	quarantine_keep_order();
	q->entries[place % QUARANTINE_SLOTS] = (uint64_t)class_ << 48 | (uintptr_t)block;
	quarantine_keep_order();
	q->count++;
	q->bytes += size_classes[class_].size;
}

/* Has a block waited long enough? */
static inline bool quarantine_is_full(const struct quarantine *q) {
	return q->count >= QUARANTINE_BLOCKS || (q->bytes > q->most_bytes && q->count > QUARANTINE_LEAST);
}

/* The block that has. */
static inline void *quarantine_pop(struct quarantine *q, unsigned *class_) {
	const uint64_t entry = q->entries[q->first % QUARANTINE_SLOTS];
	q->count--;
	quarantine_keep_order();
	q->first++;
	quarantine_keep_order();
	if (unlikely(q->first % QUARANTINE_SLOTS == 0)) quarantine_look_at_room(q);
	*class_ = quarantine_class(entry);
	q->bytes -= size_classes[*class_].size;
	return quarantine_block(entry);
}

#endif
