/* Spans of hardened blocks: what is known of each block lies beside the span's bitmap, outside user memory.
 *
 * A span is hardened when the arena whose bin it belongs to is (arena_harden). Its blocks are chosen at
 * random, it lies between guards, it has no tag in the page map, and free takes the slow path. */
#ifndef ARENA_HARD_SPAN_H
#define ARENA_HARD_SPAN_H

#include <stdatomic.h>

#include "arena/region.h"

/* What is known of a block, for harden/record.h to read and write; 0: it was never handed out. */
typedef _Atomic uint32_t block_record;

static inline size_t bitmap_words(const struct size_class *c) { return ((size_t)c->blocks + 63) / 64; }

/* What only the process knows that made the span. */
struct hard_span_secret {
	uint64_t key[4];     /* of its blocks' canaries, see harden/canary.h */
	uint64_t generation; /* that of the process */
};

/* Counts the processes from the first one that was hardened to this one, each the child of the one before, as
 * far as they allocate: blocks are handed out only by the process that has made their span, for its parent's
 * keys others know, too (arena_harden_anew). */
extern uint64_t hard_span_generation;

/* In one piece of metadata: the records, the last block's first; the secret; the bitmap. span.free_blocks
 * points at the bitmap, and a record is found from there without knowing how many blocks there are. */
static inline size_t hard_span_records_size(const struct size_class *c) {
	return ALIGN_UP(c->blocks * sizeof(block_record), sizeof(uint64_t));
}
static inline size_t hard_span_metadata(const struct size_class *c) {
	return hard_span_records_size(c) + sizeof(struct hard_span_secret) + bitmap_words(c) * sizeof(uint64_t);
}

static inline struct hard_span_secret *hard_span_secret(const struct span *s) {
	return (struct hard_span_secret *)s->free_blocks - 1;
}

static inline bool hard_span_is_inherited(const struct span *s) {
	return hard_span_secret(s)->generation != hard_span_generation;
}

static inline block_record *hard_span_record(const struct span *s, size_t number) {
	return (block_record *)hard_span_secret(s) - 1 - number;
}

static inline void *hard_span_metadata_of(const struct span *s) {
	return (char *)hard_span_secret(s) - hard_span_records_size(&size_classes[s->class_]);
}

#endif
