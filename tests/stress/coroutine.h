/* Begins a function on a stack of its own, as libraries for coroutines do: it has no caller. */
#ifndef COROUTINE_H
#define COROUTINE_H

#include <stdint.h>

/* Never returns, nor may `body`. The stack is what lies below `end`, a multiple of 16. In place of a return address there is
 * `filler`; and the frame pointer is what it is told. */
static inline _Noreturn void coroutine_begin(char *end, uintptr_t filler, uintptr_t frame_pointer, void (*body)(void)) {
#if defined(__x86_64__)
	uintptr_t *stack = (uintptr_t *)end - 1;
	*stack = filler;
	__asm__ volatile("movq %0, %%rsp\n\tmovq %1, %%rbp\n\tjmpq *%2"
	                 : : "a"(stack), "d"(frame_pointer), "c"(body) : "memory");
#elif defined(__aarch64__)
	register uintptr_t x1 __asm__("x1") = frame_pointer, x2 __asm__("x2") = filler;
	register void (*x3)(void) __asm__("x3") = body;
	__asm__ volatile("mov sp, %0\n\tmov x29, %1\n\tmov x30, %2\n\tbr %3"
	                 : : "r"(end), "r"(x1), "r"(x2), "r"(x3) : "memory");
#endif
	__builtin_unreachable();
}

#endif
