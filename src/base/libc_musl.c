/* musl's functions, as libc_found.c finds glibc's. One file has all of it, and no function has a second name:
 * what lies behind us is musl's, unless a library that is preloaded behind us has it. Part of the shared
 * library only. */
#include <dlfcn.h>

#include "base/libc.h"

struct libc libc;

void *libc_in(void *handle, const char *name) {
	void *function = dlsym(handle, name);
	if (function == NULL) dlerror(); /* nobody is to hear of that */
	return function;
}

void *libc_next(const char *name) { return libc_in(RTLD_NEXT, name); }

#define FIND(name) *(void **)&libc.name = libc_next(#name)

/* Before all constructors that lean on it. */
__attribute__((constructor(101))) void libc_find(void) {
	if (libc.pthread_create != NULL) return;
	FIND(pthread_attr_init);
	FIND(pthread_attr_destroy);
	FIND(pthread_setcancelstate);
	FIND(pthread_attr_setstacksize);
	FIND(pthread_join);
	FIND(pthread_detach);
	FIND(pthread_key_create);
	FIND(pthread_setspecific);
	FIND(sigaction);
	FIND(pthread_create);
}

bool libc_has_threads(void) {
	libc_find();
	return libc.pthread_create != NULL;
}
