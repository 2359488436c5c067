/* Small blocks of hardened mode. A block of its size class holds the bytes that were asked for, and a canary
 * from there to its end, CANARY_SIZE bytes at least. The last word stays its canary when the block is free,
 * so that it also is the canary in front of the next block, which writes it if need be. All other bytes of a
 * free block are zero. */
#ifndef HARDEN_BLOCK_H
#define HARDEN_BLOCK_H

#include "arena/hard_span.h"
#include "harden/canary.h"
#include "harden/harden.h"

struct tcache;

/* A block's record: what was asked for is `slack` less than its class has. */
enum block_state {
	BLOCK_FRESH, /* never handed out: it reads as zero to its end */
	BLOCK_LIVE,
	BLOCK_FREED, /* in a quarantine, a magazine or its span */
	BLOCK_HELD,  /* by realloc: nobody else may free it until that is done */
};
#define RECORD_STATE(record) ((enum block_state)((record)&3))
#define RECORD_FAMILY(record) ((enum family)((record) >> 2 & 7))
#define RECORD_SLACK(record) ((record) >> 5 & 0xFFFF)
/* Counts how often the block was handed out or resized, in 11 bits: to tell two blocks of one size at one
 * place from each other. It comes round after 2,048 of these, so that who relies on it looks twice
 * (patrol.c). */
#define RECORD_TURN_ONE (UINT32_C(1) << 21)
#define RECORD_TURN(record) ((record) & ~(RECORD_TURN_ONE - 1))
static_assert(FAMILY_COUNT <= 8 && SMALL_MAX <= 0xFFFF, "the fields of a record");

static inline uint32_t record_of(uint32_t turn, size_t slack, enum family family, enum block_state state) {
	return turn | (uint32_t)slack << 5 | (uint32_t)family << 2 | (uint32_t)state;
}

/* The largest small block. */
#define HARD_SMALL_MAX (SMALL_MAX - CANARY_SIZE)

/* The class for size <= HARD_SMALL_MAX and an alignment of SMALL_MAX at most: the largest class has them
 * all. */
unsigned small_class(size_t align, size_t size);
void *small_alloc(unsigned class_, size_t size, enum family family);

/* For an address in the hardened span. They end the program when there is no such block. */
void small_free(struct span *s, void *block, const struct claim *claim);
size_t small_size(const struct span *s, const void *block, const char *function, enum family *family);

/* What small_size returns, for realloc: the block is its own then, until one of the others below. Of several
 * calls that free a block, or resize it, at the same moment, one gets it, and each other one ends the
 * program. */
size_t small_hold(struct span *s, void *block, enum family *family);
void small_let_go(struct span *s, void *block);
void small_free_held(struct span *s, void *block);

/* Changes the size in place; the class must be the same. */
void small_resize(struct span *s, void *block, size_t size);

/* Looks at what the thread got and freed last: each time that it fetches blocks from its arena. */
void patrol(struct tcache *tc);

/* Is the last word before the block, which the program holds, its neighbour's canary? */
bool small_front_intact(const struct span *s, const char *block);

#endif
