/* For programs that call glibc's extras: the header of musl's malloc has none. */
#include <dlfcn.h>
#include <stddef.h>

static inline int malloc_trim(size_t keep) {
	int (*function)(size_t) = (int (*)(size_t))dlsym(RTLD_DEFAULT, "malloc_trim");
	return function != NULL && function(keep);
}

static inline void *pvalloc(size_t size) {
	void *(*function)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "pvalloc");
	return function != NULL ? function(size) : NULL;
}
