/* Spans of hardened blocks: what is known of each block lies beside the span's bitmap, outside user memory.
 *
 * A span is hardened when the arena whose bin it belongs to is (arena_harden). Its blocks are chosen at random, it lies
 * between guards, it has no tag in the page map, and free takes the slow path. */
#ifndef ARENA_HARD_SPAN_H
#define ARENA_HARD_SPAN_H

#include <stdatomic.h>

#include "arena/region.h"

/* What is known of a block, for harden/record.h to read and write; 0: it was never handed out. */
typedef _Atomic uint32_t block_record;

static inline size_t bitmap_words(const struct size_class *c) { return ((size_t)c->blocks + 63) / 64; }

/* In one piece of metadata: the records, the last block's first; the bitmap. span.free_blocks points at the bitmap, and a record is
 * found from there without knowing how many blocks there are. */
static inline size_t hard_span_records_size(const struct size_class *c) {
	return ALIGN_UP(c->blocks * sizeof(block_record), sizeof(uint64_t));
}
static inline size_t hard_span_metadata(const struct size_class *c) {
	return hard_span_records_size(c) + bitmap_words(c) * sizeof(uint64_t);
}

static inline block_record *hard_span_record(const struct span *s, size_t number) {
	return (block_record *)s->free_blocks - 1 - number;
}

static inline void *hard_span_metadata_of(const struct span *s) {
	return (char *)s->free_blocks - hard_span_records_size(&size_classes[s->class_]);
}

#endif
