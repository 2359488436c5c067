/* Size classes: the block sizes of small allocations, 16 bytes to 32 KiB.
 *
 * Steps of 16 bytes up to 128, then eight classes per doubling, so that rounding up wastes at most a ninth of
 * a block. Class 0 is no class: it stands for everything that is not a small block. */
#ifndef ARENA_SIZE_CLASS_H
#define ARENA_SIZE_CLASS_H

#include "base/base.h"

#define CLASS_COUNT 73 /* classes 1..72, and 0 */
#define SMALL_MAX ((size_t)32768)
#define SPAN_BLOCKS_MAX 4096 /* 16-byte blocks in one slice */
#define SPAN_SLICES_MAX 4

struct size_class {
	uint32_t size;       /* bytes of a block */
	uint32_t reciprocal; /* 2^32 / size, rounded up, for block_number */
	uint16_t blocks;     /* in one span */
	uint16_t slices;     /* of one span: enough for the tail that no block fits into to stay below 7% */
	uint64_t start_test; /* for block_starts_at; 0: spans have several slices, and there is none */
};

extern const struct size_class size_classes[CLASS_COUNT];

/* The smallest class whose blocks hold n bytes, for n <= SMALL_MAX. */
static inline unsigned class_of_size(size_t n) {
	if (n <= 128) return n == 0 ? 1 : (unsigned)(n + 15) >> 4;
	unsigned doubling = 63 - (unsigned)__builtin_clzll(n - 1); /* 7 for 129..256, 8 for 257..512, ... */
	return 8 + (doubling - 7) * 8 + (unsigned)((n - 1) >> (doubling - 3)) - 7;
}

/* The class that blocks of an alignment and a size, which is rounded up to it already, are taken from. */
static inline unsigned class_of_aligned(size_t align, size_t rounded) {
	unsigned c = class_of_size(rounded);
	while ((size_classes[c].size & (align - 1)) != 0) c++;
	return c;
}

/* The number of the block that starts `offset` bytes into a span. For an offset where none starts, some
 * number whose block starts elsewhere: rounding may even lead past the end of the span. */
static inline size_t block_number(const struct size_class *c, size_t offset) {
	return (size_t)((uint64_t)offset * c->reciprocal >> 32);
}

/* Does a block start at this address? It lies in a span of one slice, of the class that the test is from.
 * With 0 for a test, the answer is no.
 *
 * It is Lemire's test of divisibility ("Faster remainder by direct computation", 2019): n is a multiple of d
 * if n * M mod 2^64 < M, where M = 2^64 / d, rounded up. In spans with a tail, M is larger by so much that
 * the error of the last block is still below M, and that of the tail is not. One wrong address passes then:
 * the last byte of the last block. */
static inline bool block_starts_at(const void *p, uint64_t *test) {
	const uint64_t product = (uint16_t)(uintptr_t)p * *test;
	USE_IN_MEMORY(*test);
	return product < *test;
}
static_assert(SLICE_SHIFT == 16, "the low 16 bits of an address are its offset in a slice");

#endif
