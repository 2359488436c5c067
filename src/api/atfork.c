/* Part of the shared library only: what pthread_atfork, which is a piece of each library that calls it, calls in turn. So we are there
 * before the first handler of others. A static libc defines this function itself. */
#include <dlfcn.h>
#include <errno.h>

#include "api/api.h"
#include "api/fork.h"

EXPORT fork_register_function __register_atfork;

fork_register_function *fork_next_register(void) {
	return (fork_register_function *)dlsym(RTLD_NEXT, "__register_atfork");
}

EXPORT int __register_atfork(void (*before)(void), void (*after)(void), void (*after_in_child)(void), void *library) {
	fork_register_function *next = fork_next_register();
	fork_expect_first();
	return next != NULL ? next(before, after, after_in_child, library) : ENOMEM;
}
