/* Walks up the calling thread's own stack, from frame to frame, by the tables that compilers write for
 * exceptions. Needs no frame pointers, allocates nothing, takes no lock (fde.h), and needs about a KiB of
 * stack.
 *
 * Nothing that it finds on the stack is believed: coroutines begin with return addresses that somebody made
 * up, and a stack may be overwritten. What is not where it should be ends the walk. */
#ifndef HARDEN_UNWIND_H
#define HARDEN_UNWIND_H

#include <ucontext.h>

#include "base/base.h"

/* Those registers that a frame may depend on, by their numbers in the tables. */
#if defined(__x86_64__)
#define UNWIND_REGISTERS 17 /* rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, and the return address */
#define UNWIND_SP 7
#elif defined(__aarch64__)
#define UNWIND_REGISTERS 32 /* x0 to x30, and sp */
#define UNWIND_SP 31
#endif

/* A frame. */
struct unwind {
	uintptr_t pc;       /* an address inside of the call; or, if `exact`, the instruction that comes next */
	bool exact;         /* of the first frame, and those that a signal interrupted */
	uint8_t steps;      /* so many more may follow */
	uintptr_t pages[2]; /* that were found readable last */
	uintptr_t registers[UNWIND_REGISTERS];
};

/* More than anybody asks for. */
#define UNWIND_STEPS 255

/* The lowest bits of a page's address are zero: it is none. */
#define UNWIND_NO_PAGE 1

/* What all pages are multiples of. */
#define UNWIND_PAGE 4096

/* The frame that this is written in. It must not return before the walk is over. */
static inline __attribute__((always_inline)) void unwind_here(struct unwind *frame) {
	*frame = (struct unwind){ .exact = true, .steps = UNWIND_STEPS };
#if defined(__x86_64__)
	__asm__ volatile("movq %%rbx, 3*8(%1)\n\t"
	                 "movq %%rbp, 6*8(%1)\n\t"
	                 "movq %%rsp, 7*8(%1)\n\t"
	                 "movq %%r12, 12*8(%1)\n\t"
	                 "movq %%r13, 13*8(%1)\n\t"
	                 "movq %%r14, 14*8(%1)\n\t"
	                 "movq %%r15, 15*8(%1)\n\t"
	                 "leaq 0(%%rip), %0"
	                 : "=r"(frame->pc)
	                 : "r"(frame->registers)
	                 : "memory");
#elif defined(__aarch64__)
	uintptr_t sp;
	__asm__ volatile("stp x19, x20, [%2, 19*8]\n\t"
	                 "stp x21, x22, [%2, 21*8]\n\t"
	                 "stp x23, x24, [%2, 23*8]\n\t"
	                 "stp x25, x26, [%2, 25*8]\n\t"
	                 "stp x27, x28, [%2, 27*8]\n\t"
	                 "stp x29, x30, [%2, 29*8]\n\t"
	                 "mov %1, sp\n\t"
	                 "adr %0, ."
	                 : "=&r"(frame->pc), "=&r"(sp)
	                 : "r"(frame->registers)
	                 : "memory");
	frame->registers[UNWIND_SP] = sp;
#endif
	frame->pages[0] = ALIGN_DOWN(frame->registers[UNWIND_SP], UNWIND_PAGE);
	frame->pages[1] = UNWIND_NO_PAGE;
}

/* The frame that a signal interrupted, as its handler was told. */
void unwind_interrupted(struct unwind *frame, const ucontext_t *context);

/* Is it that of a thread whose system call has just failed with this error? */
bool unwind_call_fails(const struct unwind *frame, int error);

/* Goes on to the caller. False: there is none, or none that can be found. */
bool unwind_step(struct unwind *frame);

/* Are there tables in this program? Not if it was linked statically without them. */
bool unwind_is_possible(void);

/* ---- between unwind.c and expression.c ---- */

struct reader;

/* Reads a word of the stack. False when it does not lie between the frame's end and what may be the next one,
 * or cannot be read. */
bool unwind_read(struct unwind *frame, uintptr_t address, uintptr_t *word);

/* Computes an expression, which begins with `cfa` on its stack, unless it is NULL. */
bool unwind_compute(struct unwind *frame, struct reader expression, const uintptr_t *cfa, uintptr_t *result);

#endif
