/* Part of the shared library only: what pthread_atfork, which is a piece of each library that calls it, calls
 * in turn; musl's is a function like any other. So we are there before the first handler of others. A static
 * libc defines this function itself. */
#include <errno.h>

#include "api/api.h"
#include "api/fork.h"
#include "base/libc.h"

#ifdef __GLIBC__
#define NAME "__register_atfork"
#else
#define NAME "pthread_atfork"
#endif

static _Atomic(void *) next_register;

/* Looked up at the start: dlsym forgets what dlerror was to tell the program, and any malloc may be the one
 * that asks for this. */
__attribute__((constructor(101))) static void find_next_register(void) { next_register = libc_next(NAME); }

#ifdef __GLIBC__
fork_register_function *fork_next_register(void) {
	if (next_register == NULL) find_next_register();
	return (fork_register_function *)next_register;
}

EXPORT fork_register_function __register_atfork;
EXPORT int __register_atfork(void (*before)(void), void (*after)(void), void (*after_in_child)(void),
                             void *library) {
	fork_register_function *next = fork_next_register();
	fork_expect_first();
	return next != NULL ? next(before, after, after_in_child, library) : ENOMEM;
}
#else
static int register_next(void (*before)(void), void (*after)(void), void (*after_in_child)(void),
                         void *library) {
	(void)library;
	int (*next)(void (*)(void), void (*)(void), void (*)(void)) = next_register;
	return next != NULL ? next(before, after, after_in_child) : ENOMEM;
}

fork_register_function *fork_next_register(void) {
	if (next_register == NULL) find_next_register();
	return register_next;
}

EXPORT int pthread_atfork(void (*before)(void), void (*after)(void), void (*after_in_child)(void)) {
	fork_register_function *next = fork_next_register();
	fork_expect_first();
	return next(before, after, after_in_child, NULL);
}
#endif
