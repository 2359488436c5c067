/* Spans of hardened blocks: what is known of each block lies beside the span's bitmap, outside user memory.
 *
 * A span is hardened when the arena whose bin it belongs to is (arena_harden). Its blocks are chosen at random, it lies
 * between guards, it has no tag in the page map, and free takes the slow path. */
#ifndef ARENA_HARD_SPAN_H
#define ARENA_HARD_SPAN_H

#include <stdatomic.h>

#include "arena/region.h"
#include "base/random.h"

/* What is known of a block, for harden/record.h to read and write; 0: it was never handed out. */
typedef _Atomic uint32_t block_record;

static inline size_t bitmap_words(const struct size_class *c) { return ((size_t)c->blocks + 63) / 64; }

/* In one piece of metadata: the random numbers for the choice of blocks, the bitmap, the records. span.free_blocks points at
 * the bitmap. */
static inline size_t hard_span_metadata(const struct size_class *c) {
	return sizeof(struct random) + bitmap_words(c) * sizeof(uint64_t) + c->blocks * sizeof(block_record);
}
static_assert(sizeof(struct random) == sizeof(uint64_t), "the bitmap follows it");

static inline struct random *hard_span_random(const struct span *s) { return (struct random *)(s->free_blocks - 1); }

static inline block_record *hard_span_records(const struct span *s) {
	return (block_record *)(s->free_blocks + bitmap_words(&size_classes[s->class_]));
}

#endif
