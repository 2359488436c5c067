/* Stack traces: taken without allocating, printed so that addr2line can name the lines. */
#ifndef HARDEN_STACK_H
#define HARDEN_STACK_H

#include <ucontext.h>

#include "base/base.h"

#define STACK_FRAMES 24

/* Who did something, and from where. */
struct stack {
	int thread; /* the kernel's number of it; 0: nobody did */
	uint32_t count;
	uintptr_t frames[STACK_FRAMES]; /* addresses inside of the calls, innermost first */
};

/* The calling thread's stack, from the caller on; or, in a signal's handler, from the interrupted instruction
 * `from` on. The caller holds no lock of Arenal: before glibc 2.35, the loader is asked in a way that may
 * wait for somebody who allocates. */
NOINLINE void stack_take(struct stack *stack, uintptr_t from);

/* The stack that a signal interrupted, as its handler was told. */
NOINLINE void stack_take_interrupted(struct stack *stack, const ucontext_t *context);

/* Can stacks be taken in this program? Not where it is linked statically at a fixed place, unless its linker
 * was told to make the tables for it (--eh-frame-hdr). */
bool stack_is_possible(void);

/* The stack of the caller from the call into Arenal on: its own frames are left out, if it is a library of
 * its own. Returns how many frames there are, `max` at most. */
NOINLINE uint32_t stack_of_program(uintptr_t *frames, uint32_t max);

/* Is it one of Arenal's own? Only in the shared library (own_code.c). */
bool stack_own_code(uintptr_t address);

/* Where Arenal's own file is mapped. Only in the shared library, too. */
bool stack_own_file(uintptr_t *start, uintptr_t *end);

/* Writes a line for each frame: its address, its file, and the address that the file knows it by; with the
 * first of a file, its build ID, in the words of the sanitizers' reports, which some tools know. Reads
 * /proc/self/maps, if there is one; one thread at a time, and STACK_FRAMES frames at most. */
void stack_print_frames(const uintptr_t *frames, uint32_t count);

/* Writes a line with `title` and the thread, and its frames. */
void stack_print(const char *title, const struct stack *stack);

#endif
