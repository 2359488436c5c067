/* Reads the numbers of DWARF's tables. All of them are in the byte order of the machine, and may lie
 * anywhere. */
#ifndef HARDEN_DWARF_H
#define HARDEN_DWARF_H

#include <string.h>

#include "base/base.h"

/* What is left to read. What lies behind the end reads as zero, and sets `bad`. */
struct reader {
	const uint8_t *at, *end;
	bool bad;
};

static inline uint64_t read_fixed(struct reader *r, size_t size) {
	uint64_t n = 0;
	if ((size_t)(r->end - r->at) < size) {
		r->bad = true;
		r->at = r->end;
		return 0;
	}
	memcpy(&n, r->at, size);
	r->at += size;
	return n;
}

static inline uint8_t read_u8(struct reader *r) { return (uint8_t)read_fixed(r, 1); }
static inline uint16_t read_u16(struct reader *r) { return (uint16_t)read_fixed(r, 2); }
static inline uint32_t read_u32(struct reader *r) { return (uint32_t)read_fixed(r, 4); }
static inline uint64_t read_u64(struct reader *r) { return read_fixed(r, 8); }

/* Seven bits a byte, the lowest first; the highest bit says that more follow. `bits`: how many there were. */
static NOINLINE uint64_t read_groups(struct reader *r, unsigned *bits) {
	uint64_t n = 0;
	uint8_t byte;
	*bits = 0;
	do {
		byte = read_u8(r);
		if (*bits < 64) n |= (uint64_t)(byte & 0x7f) << *bits;
		*bits += 7;
	} while ((byte & 0x80) != 0);
	return n;
}

/* Most take one byte. */
static inline uint64_t read_uleb(struct reader *r) {
	unsigned bits;
	return r->at < r->end && *r->at < 0x80 ? *r->at++ : read_groups(r, &bits);
}

static inline int64_t read_sleb(struct reader *r) {
	unsigned bits;
	const uint64_t n = read_groups(r, &bits);
	const bool negative = bits < 64 && (n >> (bits - 1) & 1) != 0;
	return (int64_t)(negative ? n | ~UINT64_C(0) << bits : n);
}

/* A block of so many bytes, which are skipped. */
static inline struct reader read_block(struct reader *r, uint64_t size) {
	struct reader block = { r->at, r->at, false };
	if (size > (uint64_t)(r->end - r->at)) {
		r->bad = true;
		r->at = r->end;
	} else {
		r->at += size;
		block.end = r->at;
	}
	return block;
}

#endif
