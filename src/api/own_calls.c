/* libc's own functions for threads, whoever else has some of these names: for threads of ours (cache/own_thread.h). Part of the shared library
 * only: a static program has one of each. */
#include <dlfcn.h>

#include "cache/own_thread.h"

/* The one that has them: since glibc 2.34, libc itself. Of libraries that are loaded anyhow; none, where libc has another name. */
static void *libc(void) {
	static const char *const names[] = { "libpthread.so.0", "libc.so.6" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		void *found = dlopen(names[i], RTLD_NOLOAD | RTLD_LAZY);
		if (found != NULL && dlsym(found, "pthread_create") != NULL) return found;
	}
	return NULL;
}

static void find(void *from, const char *name, void *function) {
	void *found = dlsym(from, name);
	if (found != NULL) *(void **)function = found;
}

/* Before the constructor that may start one (api/start.c), which has no priority. */
__attribute__((constructor(101))) static void find_all(void) {
	struct own_thread_calls *calls = &own_thread_calls;
	void *from = libc();
	if (from != NULL) {
		find(from, "pthread_attr_init", &calls->attr_init);
		find(from, "pthread_attr_setstacksize", &calls->attr_setstacksize);
		find(from, "pthread_attr_destroy", &calls->attr_destroy);
		find(from, "pthread_create", &calls->create);
		find(from, "pthread_join", &calls->join);
		find(from, "pthread_detach", &calls->detach);
		find(from, "pthread_setcancelstate", &calls->setcancelstate);
	}
	dlerror(); /* nobody is to hear of that */
}
