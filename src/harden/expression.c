/* Expressions of the unwind tables: code for a machine with a stack of numbers. PLTs have some, functions
 * that align their stack, and assembler. What only debuggers need is not here. */
#include "harden/dwarf.h"
#include "harden/unwind.h"

/* Compilers need four at most. */
#define NUMBERS 12

/* An expression may jump: this many operations are enough, or it never ends. */
#define OPERATIONS 100

struct numbers {
	uintptr_t at[NUMBERS];
	uint32_t count;
	bool bad; /* there were too few, or too many */
};

static void push(struct numbers *n, uintptr_t number) {
	if (n->count < NUMBERS)
		n->at[n->count++] = number;
	else
		n->bad = true;
}

static uintptr_t pop(struct numbers *n) {
	if (n->count > 0) return n->at[--n->count];
	n->bad = true;
	return 0;
}

/* The one so far below the top. */
static uintptr_t peek(struct numbers *n, uint32_t depth) {
	if (depth < n->count) return n->at[n->count - 1 - depth];
	n->bad = true;
	return 0;
}

static uintptr_t register_of(const struct unwind *frame, struct numbers *n, uint64_t number) {
	if (number < UNWIND_REGISTERS) return frame->registers[number];
	n->bad = true;
	return 0;
}

static void dereference(struct unwind *frame, struct numbers *n) {
	uintptr_t word = 0;
	if (!unwind_read(frame, pop(n), &word)) n->bad = true;
	push(n, word);
}

static void jump(struct reader *r, const uint8_t *start, int16_t distance) {
	if (distance < start - r->at || distance > r->end - r->at)
		r->bad = true;
	else
		r->at += distance;
}

/* Operations on the two upper numbers. */
static void combine(struct numbers *n, uint8_t code) {
	const uintptr_t b = pop(n), a = pop(n);
	switch (code) {
	case 0x1a: push(n, a & b); break;
	case 0x1c: push(n, a - b); break;
	case 0x1e: push(n, a * b); break;
	case 0x21: push(n, a | b); break;
	case 0x22: push(n, a + b); break;
	case 0x24: push(n, b < 64 ? a << b : 0); break;
	case 0x25: push(n, b < 64 ? a >> b : 0); break;
	case 0x26: push(n, (uintptr_t)((intptr_t)a >> (b < 64 ? b : 63))); break;
	case 0x27: push(n, a ^ b); break;
	case 0x29: push(n, a == b); break;
	case 0x2a: push(n, (intptr_t)a >= (intptr_t)b); break;
	case 0x2b: push(n, (intptr_t)a > (intptr_t)b); break;
	case 0x2c: push(n, (intptr_t)a <= (intptr_t)b); break;
	case 0x2d: push(n, (intptr_t)a < (intptr_t)b); break;
	case 0x2e: push(n, a != b); break;
	default: n->bad = true;
	}
}

static void operate(struct unwind *frame, struct numbers *n, struct reader *r, const uint8_t *start) {
	const uint8_t code = read_u8(r);
	if (code >= 0x30 && code <= 0x4f) { /* lit0 to lit31 */
		push(n, code - 0x30u);
		return;
	}
	if (code >= 0x70 && code <= 0x8f) { /* breg0 to breg31 */
		push(n, register_of(frame, n, code - 0x70u) + (uintptr_t)read_sleb(r));
		return;
	}
	switch (code) {
	case 0x03: push(n, read_u64(r)); break; /* addr */
	case 0x06: dereference(frame, n); break;
	case 0x08: push(n, read_u8(r)); break; /* const1u */
	case 0x09: push(n, (uintptr_t)(int8_t)read_u8(r)); break;
	case 0x0a: push(n, read_u16(r)); break;
	case 0x0b: push(n, (uintptr_t)(int16_t)read_u16(r)); break;
	case 0x0c: push(n, read_u32(r)); break;
	case 0x0d: push(n, (uintptr_t)(int32_t)read_u32(r)); break;
	case 0x0e:
	case 0x0f: push(n, read_u64(r)); break;
	case 0x10: push(n, read_uleb(r)); break; /* constu */
	case 0x11: push(n, (uintptr_t)read_sleb(r)); break;
	case 0x12: push(n, peek(n, 0)); break; /* dup */
	case 0x13: pop(n); break;
	case 0x14: push(n, peek(n, 1)); break;          /* over */
	case 0x15: push(n, peek(n, read_u8(r))); break; /* pick */
	case 0x16: {                                    /* swap */
		const uintptr_t upper = pop(n), lower = pop(n);
		push(n, upper);
		push(n, lower);
		break;
	}
	case 0x1f: push(n, -pop(n)); break;
	case 0x20: push(n, ~pop(n)); break;
	case 0x23: push(n, pop(n) + read_uleb(r)); break; /* plus_uconst */
	case 0x28: {                                      /* bra: if the upper one is not 0 */
		const int16_t distance = (int16_t)read_u16(r);
		if (pop(n) != 0) jump(r, start, distance);
		break;
	}
	case 0x2f: jump(r, start, (int16_t)read_u16(r)); break; /* skip */
	case 0x92: {                                            /* bregx */
		const uint64_t number = read_uleb(r);
		push(n, register_of(frame, n, number) + (uintptr_t)read_sleb(r));
		break;
	}
	case 0x96: break; /* nop */
	default: combine(n, code);
	}
}

NOINLINE bool unwind_compute(struct unwind *frame, struct reader expression, const uintptr_t *cfa,
                             uintptr_t *result) {
	struct numbers numbers = { .count = 0 };
	struct reader r = expression;
	if (cfa != NULL) push(&numbers, *cfa);
	for (uint32_t i = 0; r.at < r.end; i++) {
		if (i == OPERATIONS) return false;
		operate(frame, &numbers, &r, expression.at);
		if (numbers.bad || r.bad) return false;
	}
	*result = pop(&numbers);
	return !numbers.bad;
}
