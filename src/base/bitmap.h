/* Operations on bitmaps: arrays of 64-bit words, bit i in word i / 64. */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include "base/base.h"

static inline bool bit_get(const uint64_t *map, size_t i) { return map[i / 64] >> (i % 64) & 1; }
static inline void bit_set(uint64_t *map, size_t i) { map[i / 64] |= UINT64_C(1) << (i % 64); }
static inline void bit_clear(uint64_t *map, size_t i) { map[i / 64] &= ~(UINT64_C(1) << (i % 64)); }

/* The bits [first, first + count) of word `word`, as a mask. */
static inline uint64_t bits_in_word(size_t word, size_t first, size_t count) {
	size_t start = word * 64, end = first + count;
	if (end <= start || first >= start + 64) return 0;
	uint64_t mask = ~UINT64_C(0);
	if (first > start) mask &= ~UINT64_C(0) << (first - start);
	if (end < start + 64) mask &= ~UINT64_C(0) >> (start + 64 - end);
	return mask;
}

static inline void bits_set(uint64_t *map, size_t first, size_t count) {
	for (size_t w = first / 64; w * 64 < first + count; w++) map[w] |= bits_in_word(w, first, count);
}

static inline void bits_clear(uint64_t *map, size_t first, size_t count) {
	for (size_t w = first / 64; w * 64 < first + count; w++) map[w] &= ~bits_in_word(w, first, count);
}

static inline size_t bits_count(const uint64_t *map, size_t first, size_t count) {
	size_t n = 0;
	for (size_t w = first / 64; w * 64 < first + count; w++)
		n += (size_t)__builtin_popcountll(map[w] & bits_in_word(w, first, count));
	return n;
}

/* The 64 bits from bit i on, of a map of `words` words; zeros behind its end. */
static inline uint64_t bits_from(const uint64_t *map, size_t words, size_t i) {
	const size_t w = i / 64, low = i % 64;
	uint64_t bits = map[w] >> low;
	if (low > 0 && w + 1 < words) bits |= map[w + 1] << (64 - low);
	return bits;
}

/* The first bit at or after `from` (below `end`) that is `value`; `end` when there is none. */
static inline size_t bit_find(const uint64_t *map, size_t from, size_t end, bool value) {
	while (from < end) {
		uint64_t word = (value ? map[from / 64] : ~map[from / 64]) >> (from % 64);
		if (word != 0) return min_size(from + (size_t)__builtin_ctzll(word), end);
		from = (from / 64 + 1) * 64;
	}
	return end;
}

/* The first of the bits before `end` that are all set; `end` when the last one is not. */
static inline size_t bits_set_before(const uint64_t *map, size_t end) {
	while (end > 0) {
		const size_t word = (end - 1) / 64;
		const uint64_t open = ~map[word] & bits_in_word(word, 0, end);
		if (open != 0) return (word + 1) * 64 - (size_t)__builtin_clzll(open);
		end = word * 64;
	}
	return 0;
}

/* The first bit at or after `from` with which `count` (1 to 64) begin that are all set, in a map of `words`
 * words; 64 * words: there is none. Whatever lies between, each word takes as many steps as `count` has
 * digits: a map and-ed with itself, shifted by n, tells where n more are set. */
static inline size_t bits_find_run(const uint64_t *map, size_t words, size_t from, size_t count) {
	uint64_t starts = ~UINT64_C(0) << (from % 64);
	for (size_t w = from / 64; w < words; w++, starts = ~UINT64_C(0)) {
		uint64_t low = map[w], high = w + 1 < words ? map[w + 1] : 0;
		for (size_t have = 1, more; have < count && low != 0; have += more) {
			more = min_size(have, count - have);
			low &= low >> more | high << (64 - more);
			high &= high >> more; /* what is behind it is missing, where no run from `low` gets to */
		}
		if ((low & starts) != 0) return w * 64 + (size_t)__builtin_ctzll(low & starts);
	}
	return words * 64;
}

#endif
