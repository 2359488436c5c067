/* Functions and data of a program's own, by names that Arenal has inside. Each must be the program's, and nothing of Arenal may end up
 * here. */
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

__attribute__((destructor)) static void check(void) {
	if (page_map != 1 || conf != 2 || started != 3 || tcache_current != 4) abort();
}
