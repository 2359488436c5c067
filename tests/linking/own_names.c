/* Functions and data of a program's own, by names that Arenal has inside, and by some of jemalloc's, which it has for others. Each must be
 * the program's, and nothing of Arenal may end up here. */
#include <stdlib.h>

void *allocate(size_t size);
void release(void *block);
void start(void);
extern int page_map, conf, started, tcache_current;
int page_map = 1, conf = 2, started = 3, tcache_current = 4;

void *allocate(size_t size) {
	(void)size;
	abort();
}

void release(void *block) {
	(void)block;
	abort();
}

void start(void) { abort(); }

void *mallocx(size_t size, int flags);
int mallctl(const char *name);
extern void (*malloc_message)(void *opaque, const char *text);
void (*malloc_message)(void *opaque, const char *text);

void *mallocx(size_t size, int flags) { return allocate(size + (size_t)flags); }

int mallctl(const char *name) { return *name == 'x' ? 1 : 0; }

__attribute__((destructor)) static void check(void) {
	if (mallctl("x") != 1 || mallctl("y") != 0) abort();
	if (page_map != 1 || conf != 2 || started != 3 || tcache_current != 4) abort();
}
