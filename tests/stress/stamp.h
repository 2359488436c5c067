/* Fills blocks with a pattern that depends on where they are, how large they are, and a seed. A block that another one
 * overlaps, that was moved without its contents, or that was handed out twice does not hold its pattern any more. */
#ifndef STAMP_H
#define STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Unaligned words, which may alias whatever the program keeps in the block. */
typedef uint64_t stamp_word __attribute__((may_alias, aligned(1)));

static inline uint64_t stamp_key(const void *block, size_t size, uint64_t seed) {
	uint64_t key = (uint64_t)(uintptr_t)block * 0x9E3779B97F4A7C15u;

	key ^= (uint64_t)size * 0xC2B2AE3D27D4EB4Fu;
	key ^= seed * 0x165667B19E3779F9u;
	return key ^ key >> 29;
}

/* The word that belongs at byte offset 8 * index. */
static inline uint64_t stamp_at(uint64_t key, size_t index) {
	return key + (uint64_t)index * 0xD6E8FEB86659FD93u;
}

static inline void stamp_write(void *block, size_t length, uint64_t key) {
	stamp_word *words = block;
	unsigned char *bytes = block;
	size_t whole = length / 8;

	for (size_t i = 0; i < whole; i++)
		words[i] = stamp_at(key, i);
	for (size_t i = whole * 8; i < length; i++)
		bytes[i] = (unsigned char)(stamp_at(key, whole) >> 8 * (i % 8));
}

/* Does the block hold, in its first `length` bytes, what stamp_write() wrote with this key? */
static inline bool stamp_holds(const void *block, size_t length, uint64_t key) {
	const stamp_word *words = block;
	const unsigned char *bytes = block;
	size_t whole = length / 8;
	uint64_t difference = 0;

	for (size_t i = 0; i < whole; i++)
		difference |= words[i] ^ stamp_at(key, i);
	for (size_t i = whole * 8; i < length; i++)
		difference |= bytes[i] ^ (unsigned char)(stamp_at(key, whole) >> 8 * (i % 8));
	return difference == 0;
}

static inline bool holds_only(const void *block, size_t length, unsigned char value) {
	const stamp_word *words = block;
	const unsigned char *bytes = block;
	size_t whole = length / 8;
	uint64_t difference = 0;

	for (size_t i = 0; i < whole; i++)
		difference |= words[i] ^ value * 0x0101010101010101u;
	for (size_t i = whole * 8; i < length; i++)
		difference |= bytes[i] ^ value;
	return difference == 0;
}

/* The usual case: the whole block, with a key of its own address and size. */
static inline void stamp_block(void *block, size_t size, uint64_t seed) {
	stamp_write(block, size, stamp_key(block, size, seed));
}

static inline bool stamp_intact(const void *block, size_t size, uint64_t seed) {
	return stamp_holds(block, size, stamp_key(block, size, seed));
}

#endif
