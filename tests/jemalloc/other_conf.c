/* A program that knows nothing of jemalloc, and has something else by the name malloc_conf, which the loader finds. */
#include <stdlib.h>

extern long malloc_conf;
long malloc_conf = 123456789;

int main(void) {
	void *block = malloc(100);
	free(block);
	return block == NULL || malloc_conf != 123456789;
}
