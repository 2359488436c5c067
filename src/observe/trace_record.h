/* How a record is written (trace_format.h says what one is), to the chunk of the thread that made the call,
 * without a lock. */
#ifndef OBSERVE_TRACE_RECORD_H
#define OBSERVE_TRACE_RECORD_H

#include <stdatomic.h>
#include <string.h>

#include "base/base.h"
#include "cache/front.h"
#include "observe/trace_format.h"

/* Where a thread's records go. Zero in the child of a fork, where it thus takes a chunk of its own first. */
struct trace_writer {
	char *at, *limit;          /* a record that begins at `limit` or before it has room */
	uint64_t stamp;            /* of the last record */
	uint64_t place;            /* its address, a sixteenth */
	uint32_t thread;           /* whose records follow; 0: a TRACE_THREAD has to come first */
	_Atomic bool busy;         /* its thread is writing, or looks whether it may */
	struct trace_writer *next; /* of those that nobody uses. Owner: the lock of trace.c */
} __attribute__((aligned(CACHE_LINE)));

static inline unsigned length_of(uint64_t n) { return (unsigned)__builtin_clzll(n | 1) / 8 ^ 7; }

/* What a record's fields are is declared in trace_format.h. The bytes behind it stay zero. */
static inline char *put_field(char *at, uint64_t value, unsigned length) {
	memcpy(at, &value, sizeof value);
	return at + length + 1;
}

static inline void put_head(char *at, unsigned head) {
	__asm__ volatile("" : : : "memory");
	*(volatile uint16_t *)at = (uint16_t)head;
}

static inline void put(struct trace_writer *w, unsigned op, enum family family, uint64_t stamp,
                       const void *block, bool has_size, size_t size) {
	/* The counter of another CPU, where the thread was before, may be behind by a few. */
	const uint64_t passed = likely(stamp > w->stamp) ? stamp - w->stamp : 0;
	const uint64_t place = (uintptr_t)block / MIN_ALIGN;
	const int64_t step = (int64_t)(place - w->place);
	const uint64_t zigzag = (uint64_t)step << 1 ^ (uint64_t)(step >> 63);
	const unsigned time_length = length_of(passed), address_length = length_of(zigzag);
	const unsigned size_length = has_size ? length_of(size) : 0;
	char *at = put_field(w->at + 2, passed, time_length);
	at = put_field(at, zigzag, address_length);
	if (has_size) at = put_field(at, size, size_length);
	put_head(w->at, op | time_length << TRACE_TIME_SHIFT | address_length << TRACE_ADDRESS_SHIFT |
	                    size_length << TRACE_SIZE_SHIFT | (unsigned)family << TRACE_FAMILY_SHIFT);
	w->at = at;
	w->stamp += passed;
	w->place = place;
}

#endif
