/* Canaries: words that nobody but us knows, between blocks. A write beyond a block changes them.
 *
 * Each block has its own word, with no zero byte in it: the zero behind a string that is one too long is
 * seen, too. Who reads a few bytes too many learns words, which must not tell him those of other blocks: a
 * word is the block's address under a key of 256 bits, by two multiplications of which both halves are folded
 * together. Each span has a key, and so do all large blocks of a process together. */
#ifndef HARDEN_CANARY_H
#define HARDEN_CANARY_H

#include <string.h>

#include "base/base.h"

#define CANARY_SIZE sizeof(uint64_t)

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first bytes of a word are its low ones");

static inline uint64_t canary_fold(uint64_t a, uint64_t b) {
	__extension__ const unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t canary_of(const uint64_t key[4], uintptr_t block) {
	return canary_fold(canary_fold(block ^ key[0], key[1]) ^ key[2], key[3]) | UINT64_C(0x0101010101010101);
}

/* Without ThreadSanitizer: the last word lies between two blocks, whose owners may be two threads. Either may
 * write it while the other one writes or reads it; both write the same. */
#define UNSANITIZED __attribute__((no_sanitize("thread")))

UNSANITIZED static inline uint64_t load_word(const void *p) {
	uint64_t word;
	memcpy(&word, p, sizeof word);
	return word;
}

UNSANITIZED static inline void store_word(void *p, uint64_t word) { memcpy(p, &word, sizeof word); }

/* The canary goes from byte `size` of the block to byte `end`, a multiple of a word and one beyond `size` at
 * least. Its bytes lie as if whole words were there; from `size` on, that is the word rotated. Mostly these
 * are the first word and the last. */
static inline uint64_t canary_from(uint64_t word, size_t size) {
	const unsigned bits = size % CANARY_SIZE * 8;
	return word >> bits | word << (-bits & 63);
}

UNSANITIZED static inline void canary_fill(void *block, uint64_t word, size_t size, size_t end) {
	const uint64_t rotated = canary_from(word, size);
	char *at = (char *)block + size, *last = (char *)block + end - CANARY_SIZE;
	store_word(at, rotated);
	store_word(last, word);
	while (unlikely((at += CANARY_SIZE) < last)) store_word(at, rotated);
}

UNSANITIZED static inline bool canary_intact(const void *block, uint64_t word, size_t size, size_t end) {
	const uint64_t rotated = canary_from(word, size);
	const char *at = (const char *)block + size, *last = (const char *)block + end - CANARY_SIZE;
	uint64_t wrong = (load_word(at) ^ rotated) | (load_word(last) ^ word);
	while (unlikely((at += CANARY_SIZE) < last)) wrong |= load_word(at) ^ rotated;
	return wrong == 0;
}

/* Canaries of the first CANARY_WORDS words and the last one only, with no branch but one that is mostly
 * foreseen: how many words there are is random where sizes are, and a loop over all of them would be
 * mispredicted each time. What lies in between can be reached only by a write that leaves out more than the
 * first 40 bytes behind the block, and harms nobody. */
#define CANARY_WORDS 5

UNSANITIZED static inline void canary_fill_edges(void *block, uint64_t word, size_t size, size_t end) {
	const uint64_t rotated = canary_from(word, size);
	const size_t last = end - size - CANARY_SIZE, most = last / CANARY_SIZE * CANARY_SIZE;
	char *at = (char *)block + size;
	store_word(at, rotated);
	store_word(at + last, word);
	if (most > 0)
		for (size_t i = 1; i < CANARY_WORDS; i++) store_word(at + min_size(i * CANARY_SIZE, most), rotated);
}

UNSANITIZED static inline bool canary_edges_intact(const void *block, uint64_t word, size_t size,
                                                   size_t end) {
	const uint64_t rotated = canary_from(word, size);
	const size_t last = end - size - CANARY_SIZE, most = last / CANARY_SIZE * CANARY_SIZE;
	const char *at = (const char *)block + size;
	uint64_t wrong = (load_word(at) ^ rotated) | (load_word(at + last) ^ word);
	if (most > 0)
		for (size_t i = 1; i < CANARY_WORDS; i++)
			wrong |= load_word(at + min_size(i * CANARY_SIZE, most)) ^ rotated;
	return wrong == 0;
}

/* Vectors of the width that every processor has; four at a time, for the compiler does not unroll loops by
 * itself. */
typedef uint64_t words_16 __attribute__((vector_size(16), may_alias, aligned(8)));

/* For whole words. */
static inline bool reads_as_zero(const void *block, size_t size) {
	const char *at = block, *end = at + size;
	words_16 bits = { 0, 0 };
	for (; end - at >= 64; at += 64) {
		const words_16 *w = (const words_16 *)at;
		bits |= (w[0] | w[1]) | (w[2] | w[3]);
	}
	for (; end - at >= 16; at += 16) bits |= *(const words_16 *)at;
	uint64_t last = at < end ? *(const uint64_t *)at : 0;
	return (bits[0] | bits[1] | last) == 0;
}

#endif
