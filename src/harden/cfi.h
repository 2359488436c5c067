/* Where the caller's registers are, for one instruction of a function. */
#ifndef HARDEN_CFI_H
#define HARDEN_CFI_H

#include "harden/fde.h"
#include "harden/unwind.h"

enum rule_kind {
	RULE_SAME,          /* it is as it was in the caller */
	RULE_UNDEFINED,     /* it is lost; of the return address: there is no caller */
	RULE_AT_OFFSET,     /* in memory, so many bytes from the CFA */
	RULE_OFFSET,        /* it is the CFA and so many bytes */
	RULE_REGISTER,      /* in another register */
	RULE_AT_EXPRESSION, /* in memory, where an expression says */
	RULE_EXPRESSION,    /* an expression says it */
};

/* `value`: bytes, the register, or where the expression lies in .eh_frame. Small, since the stack may be. */
struct rule {
	uint32_t kind : 3;
	int32_t value : 29;
};
static_assert(sizeof(struct rule) == 4, "a rule is one word");
#define RULE_VALUE_MAX ((1 << 28) - 1)

static_assert(UNWIND_REGISTERS <= 32, "there are bits for all registers");

/* The CFA ("canonical frame address") is the caller's stack pointer. */
struct row {
	uint32_t set; /* a bit for each register that has a rule: all others are RULE_SAME */
	struct rule registers[UNWIND_REGISTERS];
	uint32_t cfa_register;
	int32_t cfa_offset;
	int32_t cfa_expression; /* where it lies in .eh_frame; 0: the CFA is the register and the offset */
};

struct cfi {
	struct row row;
	const uint8_t *section; /* .eh_frame */
	uint8_t return_register;
	bool is_signal;
};

/* False when nothing is known of the address. */
bool cfi_find(uintptr_t address, struct cfi *out);

/* What an entry that was found says for an address in it. */
bool cfi_execute(const struct fde *fde, uintptr_t address, struct cfi *out);

/* The expression that `value` stands for. */
struct reader cfi_expression(const struct cfi *cfi, int32_t value);

#endif
