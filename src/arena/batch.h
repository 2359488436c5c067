/* Long refills: while the bin's lock is held, words of bitmaps are copied; which blocks these are is told,
 * one by one, after it was dropped. The line of a block may be in another CPU's cache, and to fetch 256 of
 * them takes microseconds; others would wait for these, and for a thread that loses its CPU meanwhile, for as
 * long as it has none. A few lines a CPU fetches without waiting for them: short refills tell their blocks at
 * once.
 *
 * Blocks that are not told yet are out of their bin, and nowhere else. Who refills a magazine holds his
 * cache's lock until he has it all, so no fork comes in between; and no others take so many. */
#ifndef ARENA_BATCH_H
#define ARENA_BATCH_H

#include "arena/bare.h"

/* From so many blocks on, a refill is long. */
#define BATCH_LONG 17

/* Words of bitmaps that are copied: 256 blocks side by side are four or five. Where blocks are scattered, the
 * others are told under the lock. */
#define BATCH_WORDS 8

/* Owner: the thread that refills. */
struct batch {
	size_t words; /* that are not told yet */
	struct batch_word {
		char *first;   /* the block that bit 0 stands for */
		uint64_t bits; /* those that were taken, one at least */
		void **end;    /* they are told below, the first one last */
	} word[BATCH_WORDS];
};

/* The lowest `count` of the bits that are set: not all. */
static inline uint64_t lowest_bits(uint64_t bits, size_t count) {
	uint64_t left = bits;
	while (count-- > 0) left &= left - 1;
	return bits ^ left;
}

/* Does what bare_take does. Some of the blocks are told by batch_tell. Under bin->lock. */
static inline size_t batch_take(struct batch *b, struct span *s, const struct size_class *c, void **end,
                                size_t count, enum second_word *word) {
	if (unlikely(span_needs_care(s))) return bare_take_with_care(s, c, end, count, word);
	const size_t wanted = min_size(count, s->free_count);
	size_t at = s->scan, missing = wanted;
	while (missing > 0 && likely(b->words < BATCH_WORDS)) {
		const uint64_t all = s->free_blocks[at];
		const size_t there = (size_t)__builtin_popcountll(all), taken = min_size(there, missing);
		const uint64_t bits = there <= missing ? all : lowest_bits(all, missing);
		b->word[b->words] = (struct batch_word){ s->start + at * 64 * c->size, bits, end };
		b->words += bits != 0;
		s->free_blocks[at] = all ^ bits;
		if (bits == all) at++;
		missing -= taken;
		end -= taken;
	}
	s->free_count = (uint16_t)(s->free_count - (wanted - missing));
	s->scan = (uint8_t)at;
	return likely(missing == 0) ? wanted : wanted - missing + bare_take(s, c, end, missing, word);
}

/* After the lock was dropped. malloc would wait for the marks: another CPU may have written there last. */
static inline void batch_tell(const struct batch *b, size_t size) {
	for (const struct batch_word *w = b->word; w < b->word + b->words; w++) {
		void **end = w->end;
		for (uint64_t left = w->bits; left != 0; left &= left - 1) {
			void *block = w->first + (size_t)__builtin_ctzll(left) * size;
			prefetch_to_write(mark_place(block));
			*--end = block;
		}
	}
}

#endif
