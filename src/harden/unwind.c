#include "harden/unwind.h"

#include <string.h>

#include "base/os.h"
#include "harden/cfi.h"

/* No frame is larger: what seems to be is no stack. */
#define FRAME_MAX (16 * MIB)

/* Functions that call nobody may use so many bytes below their stack pointer. */
#define RED_ZONE 128

static bool is_readable(struct unwind *frame, uintptr_t address) {
	const uintptr_t page = ALIGN_DOWN(address, UNWIND_PAGE);
	if (page == frame->pages[0] || page == frame->pages[1]) return true;
	if (!os_is_readable((const void *)page)) return false;
	frame->pages[1] = frame->pages[0];
	frame->pages[0] = page;
	return true;
}

bool unwind_read(struct unwind *frame, uintptr_t address, uintptr_t *word) {
	const uintptr_t low = frame->registers[UNWIND_SP] - RED_ZONE;
	if (address - low >= FRAME_MAX || address % sizeof(uintptr_t) != 0 || !is_readable(frame, address))
		return false;
	*word = *(const uintptr_t *)address;
	return true;
}

/* ---- frames of signals ---- */

/* The instructions that a handler returns to, which the kernel's debuggers and unwinders go by; where the
 * interrupted thread's context is, from the stack pointer on, with how many bytes of registers; and which is
 * which. */
#if defined(__x86_64__)
/* mov $15, %rax; syscall */
static const uint8_t signal_return[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
#define CALL_LENGTH 2 /* of its last instruction */
#define CONTEXT_OFFSET 0
#define REGISTERS_SIZE sizeof(gregset_t)

static void copy_registers(struct unwind *frame, const mcontext_t *context) {
	static const uint8_t order[UNWIND_REGISTERS] = {
		REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
		REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP,
	};
	for (size_t i = 0; i < UNWIND_REGISTERS; i++) frame->registers[i] = (uintptr_t)context->gregs[order[i]];
	frame->pc = frame->registers[16];
}

static uintptr_t address_only(uintptr_t address) { return address; }
#elif defined(__aarch64__)
/* mov x8, #139; svc #0 */
static const uint8_t signal_return[] = { 0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4 };
#define CALL_LENGTH 4 /* of its last instruction */
#define CONTEXT_OFFSET sizeof(siginfo_t)
#define REGISTERS_SIZE offsetof(mcontext_t, pstate)

static void copy_registers(struct unwind *frame, const mcontext_t *context) {
	for (size_t i = 0; i < 31; i++) frame->registers[i] = context->regs[i];
	frame->registers[UNWIND_SP] = context->sp;
	frame->pc = context->pc;
}

/* Return addresses may be signed: in the bits that no address has. */
static uintptr_t address_only(uintptr_t address) {
	register uintptr_t x30 __asm__("x30") = address;
	__asm__("hint #7" : "+r"(x30)); /* xpaclri, which older processors take for a nop */
	return x30;
}
#endif
static_assert(REGISTERS_SIZE < UNWIND_PAGE, "they lie in two pages at most");

void unwind_interrupted(struct unwind *frame, const ucontext_t *context) {
	*frame =
	    (struct unwind){ .exact = true, .steps = UNWIND_STEPS, .pages = { UNWIND_NO_PAGE, UNWIND_NO_PAGE } };
	copy_registers(frame, &context->uc_mcontext);
}

bool unwind_call_fails(const struct unwind *frame, int error) {
	const uint8_t *call = signal_return + sizeof signal_return - CALL_LENGTH;
	const uintptr_t from = frame->pc - CALL_LENGTH;
	return frame->registers[0] == (uintptr_t)-error &&
	       os_is_readable((const void *)ALIGN_DOWN(from, UNWIND_PAGE)) &&
	       memcmp((const void *)from, call, CALL_LENGTH) == 0;
}

/* Has the frame's function been entered by the kernel? Then the next one is what was interrupted. */
static bool step_over_signal(struct unwind *frame) {
	const uintptr_t pc = frame->pc + 1, last = pc + sizeof signal_return - 1;
	if (frame->exact || !is_readable(frame, pc) || !is_readable(frame, last)) return false;
	if (memcmp((const void *)pc, signal_return, sizeof signal_return) != 0) return false;
	const uintptr_t context = frame->registers[UNWIND_SP] + CONTEXT_OFFSET;
	const uintptr_t registers = context + offsetof(ucontext_t, uc_mcontext);
	uintptr_t unused;
	if (!unwind_read(frame, registers, &unused) ||
	    !unwind_read(frame, registers + REGISTERS_SIZE - 8, &unused))
		return false;
	copy_registers(frame, (const mcontext_t *)registers);
	frame->exact = true;
	return frame->pc != 0;
}

/* ---- frames of calls ---- */

static bool find_cfa(struct unwind *frame, const struct cfi *cfi, uintptr_t *cfa) {
	const struct row *row = &cfi->row;
	if (row->cfa_expression != 0)
		return unwind_compute(frame, cfi_expression(cfi, row->cfa_expression), NULL, cfa);
	*cfa = frame->registers[row->cfa_register] + (uintptr_t)(intptr_t)row->cfa_offset;
	return true;
}

/* The stack grows down, so that callers are further up; but a function that was interrupted may not have used
 * any of it. A signal may have come to a stack of its own. */
static bool is_further_up(const struct unwind *frame, const struct cfi *cfi, uintptr_t cfa) {
	const uintptr_t distance = cfa - frame->registers[UNWIND_SP];
	return cfi->is_signal || (distance <= FRAME_MAX && (distance > 0 || frame->exact));
}

static bool find_register(struct unwind *frame, const struct cfi *cfi, uintptr_t cfa, unsigned number,
                          uintptr_t *value) {
	const struct rule rule = cfi->row.registers[number];
	uintptr_t address = cfa + (uintptr_t)(intptr_t)rule.value;
	switch ((enum rule_kind)rule.kind) {
	case RULE_SAME: *value = frame->registers[number]; return true;
	case RULE_UNDEFINED: *value = 0; return true;
	case RULE_AT_OFFSET: return unwind_read(frame, address, value);
	case RULE_OFFSET: *value = address; return true;
	case RULE_REGISTER: *value = frame->registers[rule.value]; return true;
	case RULE_EXPRESSION: return unwind_compute(frame, cfi_expression(cfi, rule.value), &cfa, value);
	case RULE_AT_EXPRESSION:
		return unwind_compute(frame, cfi_expression(cfi, rule.value), &cfa, &address) &&
		       unwind_read(frame, address, value);
	}
	return false;
}

static NOINLINE bool step_over_call(struct unwind *frame, const struct cfi *cfi) {
	const uint32_t set = cfi->row.set;
	uintptr_t cfa, registers[UNWIND_REGISTERS];
	if (!find_cfa(frame, cfi, &cfa) || !is_further_up(frame, cfi, cfa)) return false;
	/* All of them are found before any is changed. */
	for (uint32_t left = set; left != 0; left &= left - 1) {
		const unsigned i = (unsigned)__builtin_ctz(left);
		if (!find_register(frame, cfi, cfa, i, &registers[i])) return false;
	}
	frame->registers[UNWIND_SP] = cfa;
	for (uint32_t left = set; left != 0; left &= left - 1) {
		const unsigned i = (unsigned)__builtin_ctz(left);
		frame->registers[i] = registers[i];
	}
	/* A return address that is undefined is 0 now. */
	const uintptr_t back = address_only(frame->registers[cfi->return_register]);
	frame->exact = cfi->is_signal;
	frame->pc = frame->exact ? back : back - 1;
	return back != 0;
}

bool unwind_step(struct unwind *frame) {
	struct cfi cfi;
	if (frame->steps == 0) return false;
	frame->steps--;
	const bool found = cfi_find(frame->pc, &cfi);
	if ((!found || cfi.is_signal) && step_over_signal(frame)) return true;
	return found && step_over_call(frame, &cfi);
}

bool unwind_is_possible(void) {
	struct fde fde;
	return fde_find((uintptr_t)unwind_is_possible, &fde);
}
