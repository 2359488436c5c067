/* A program that says what it wants of jemalloc itself. */
#include <jemalloc/jemalloc.h>
#include <stdio.h>

const char *malloc_conf = "narenas:3,dirty_decay_ms:2500";

int main(void) {
	ssize_t decay = 0;
	unsigned arenas = 0;
	size_t decay_length = sizeof decay, arenas_length = sizeof arenas;
	mallctl("opt.dirty_decay_ms", &decay, &decay_length, NULL, 0);
	mallctl("opt.narenas", &arenas, &arenas_length, NULL, 0);
	return printf("%u %zd\n", arenas, decay) < 0;
}
