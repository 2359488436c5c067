/* Call frame information: a function's entry is a program that makes a table, which has a row for each
 * instruction. It is run up to the row in question. */
#include "harden/cfi.h"

/* How many rows a program may set aside at a time. Compilers do that around returns in the middle of a
 * function, once. */
#define REMEMBERED 2

struct machine {
	const struct fde *fde;
	uintptr_t address; /* in question */
	uintptr_t code;    /* where the current row begins */
	struct row *row;
	uint32_t depth;
	struct row initial; /* what restores lead back to */
	struct row remembered[REMEMBERED];
};

static bool fits(int64_t value) { return value >= -RULE_VALUE_MAX && value <= RULE_VALUE_MAX; }

/* Registers that no frame depends on are left out: those for floating-point numbers. */
static bool set_rule(struct machine *m, uint64_t number, enum rule_kind kind, int64_t value) {
	if (number >= UNWIND_REGISTERS) return true;
	if (!fits(value)) return false;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion" /* it fits */
	m->row->registers[number] = (struct rule){ kind, (int32_t)value };
#pragma GCC diagnostic pop
	m->row->set |= 1u << number;
	return true;
}

/* An offset in units of the entry's. */
static bool set_offset(struct machine *m, uint64_t number, enum rule_kind kind, int64_t units) {
	int64_t offset;
	return !__builtin_mul_overflow(units, m->fde->data_align, &offset) && set_rule(m, number, kind, offset);
}

static bool set_expression(struct machine *m, struct reader *r, uint64_t number, enum rule_kind kind) {
	const int64_t place = r->at - m->fde->section;
	read_block(r, read_uleb(r));
	return set_rule(m, number, kind, place);
}

static bool set_cfa(struct machine *m, uint64_t number, int64_t offset) {
	if (number >= UNWIND_REGISTERS || !fits(offset)) return false;
	m->row->cfa_register = (uint32_t)number;
	m->row->cfa_offset = (int32_t)offset;
	m->row->cfa_expression = 0;
	return true;
}

static bool set_cfa_in_units(struct machine *m, uint64_t number, int64_t units) {
	int64_t offset;
	return !__builtin_mul_overflow(units, m->fde->data_align, &offset) && set_cfa(m, number, offset);
}

static bool set_cfa_expression(struct machine *m, struct reader *r) {
	const int64_t place = r->at - m->fde->section;
	read_block(r, read_uleb(r));
	if (place <= 0 || !fits(place)) return false;
	m->row->cfa_expression = (int32_t)place;
	return true;
}

static bool restore(struct machine *m, uint64_t number) {
	if (number >= UNWIND_REGISTERS) return true;
	m->row->registers[number] = m->initial.registers[number];
	m->row->set = (m->row->set & ~(1u << number)) | (m->initial.set & 1u << number);
	return true;
}

static bool remember(struct machine *m) {
	if (m->depth == REMEMBERED) return false;
	m->remembered[m->depth++] = *m->row;
	return true;
}

static bool recall(struct machine *m) {
	if (m->depth == 0) return false;
	*m->row = m->remembered[--m->depth];
	return true;
}

static bool advance(struct machine *m, uint64_t units) {
	m->code += units * m->fde->code_align;
	return true;
}

/* An instruction whose operands are not in its own byte. The sides of an && are read from left to right, so
 * that operands are in variables where a call has two. */
static bool execute_extended(struct machine *m, struct reader *r, uint8_t code) {
	uint64_t number = 0;
	switch (code) {
	case 0x00: return true;                                                  /* nop */
	case 0x01: m->code = fde_read_address(r, m->fde->encoding); return true; /* set_loc */
	case 0x02: return advance(m, read_u8(r));
	case 0x03: return advance(m, read_u16(r));
	case 0x04: return advance(m, read_u32(r));
	case 0x0a: return remember(m);
	case 0x0b: return recall(m);
	case 0x0e: return set_cfa(m, m->row->cfa_register, (int64_t)read_uleb(r)); /* def_cfa_offset */
	case 0x0f: return set_cfa_expression(m, r);
	case 0x13:
		return set_cfa_in_units(m, m->row->cfa_register, read_sleb(r)); /* def_cfa_offset_sf */
	/* AArch64: the return address is signed from here on, or no more. It is stripped anyway */
	case 0x2d: return true;
	/* the same, with the place of the instruction */
	case 0x2c: return true;
	/* GNU_args_size: for landing pads */
	case 0x2e: read_uleb(r); return true;
	}
	number = read_uleb(r);
	switch (code) {
	case 0x05: return set_offset(m, number, RULE_AT_OFFSET, (int64_t)read_uleb(r)); /* offset_extended */
	case 0x06: return restore(m, number);
	case 0x07: return set_rule(m, number, RULE_UNDEFINED, 0);
	case 0x08: return set_rule(m, number, RULE_SAME, 0);
	case 0x09: {
		const uint64_t other = read_uleb(r);
		return other < UNWIND_REGISTERS && set_rule(m, number, RULE_REGISTER, (int64_t)other);
	}
	case 0x0c: return set_cfa(m, number, (int64_t)read_uleb(r)); /* def_cfa */
	case 0x0d: return set_cfa(m, number, m->row->cfa_offset);    /* def_cfa_register */
	case 0x10: return set_expression(m, r, number, RULE_AT_EXPRESSION);
	case 0x11: return set_offset(m, number, RULE_AT_OFFSET, read_sleb(r)); /* offset_extended_sf */
	case 0x12: return set_cfa_in_units(m, number, read_sleb(r));           /* def_cfa_sf */
	case 0x14: return set_offset(m, number, RULE_OFFSET, (int64_t)read_uleb(r));
	case 0x15: return set_offset(m, number, RULE_OFFSET, read_sleb(r));
	case 0x16: return set_expression(m, r, number, RULE_EXPRESSION);
	/* negative_offset_extended */
	case 0x2f: return set_offset(m, number, RULE_AT_OFFSET, -(int64_t)(read_uleb(r) & INT64_MAX));
	}
	return false;
}

static bool execute(struct machine *m, struct reader r) {
	while (r.at < r.end && m->code <= m->address) {
		const uint8_t code = read_u8(&r), operand = code & 0x3f;
		bool good = false;
		switch (code >> 6) {
		case 0: good = execute_extended(m, &r, code); break;
		case 1: good = advance(m, operand); break;
		case 2: good = set_offset(m, operand, RULE_AT_OFFSET, (int64_t)read_uleb(&r)); break;
		case 3: good = restore(m, operand); break;
		}
		if (!good || r.bad) return false;
	}
	return true;
}

bool cfi_execute(const struct fde *fde, uintptr_t address, struct cfi *out) {
	if (fde->return_register >= UNWIND_REGISTERS) return false;
	out->section = fde->section;
	out->return_register = fde->return_register;
	out->is_signal = fde->is_signal;
	out->row.set = 0;
	out->row.cfa_register = UNWIND_REGISTERS; /* none yet */
	out->row.cfa_offset = out->row.cfa_expression = 0;
	struct machine m;
	m.fde = fde;
	m.address = address;
	m.code = fde->code;
	m.row = &out->row;
	m.depth = 0;
	if (!execute(&m, fde->initial)) return false;
	m.initial = out->row;
	return execute(&m, fde->program) &&
	       (out->row.cfa_register < UNWIND_REGISTERS || out->row.cfa_expression != 0);
}

bool cfi_find(uintptr_t address, struct cfi *out) {
	struct fde fde;
	return fde_find(address, &fde) && cfi_execute(&fde, address, out);
}

struct reader cfi_expression(const struct cfi *cfi, int32_t value) {
	/* its length was looked at already */
	struct reader r = { cfi->section + value, cfi->section + value + 10, false };
	const uint64_t size = read_uleb(&r);
	return (struct reader){ r.at, r.at + size, false };
}
