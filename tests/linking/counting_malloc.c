/* A program with a malloc of its own that counts and calls glibc's second name for it; free is the library's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t), *__libc_valloc(size_t), *__libc_pvalloc(size_t);
extern void __libc_free(void *);

static long count;

void *malloc(size_t size) {
	count++;
	return __libc_malloc(size);
}

int main(void) {
	for (size_t size = 1; size < 5000000; size = size * 3 / 2 + 1) {
		free(malloc(size));
		free(__libc_malloc(size));
		free(__libc_calloc(1, size));
		free(__libc_memalign(256, size));
		free(__libc_valloc(size));
		free(__libc_pvalloc(size));
		free(realloc(__libc_malloc(size), 2 * size));
		free(__libc_realloc(malloc(size), 2 * size));
		__libc_free(malloc(size));
		__libc_free(calloc(1, size));
		__libc_free(aligned_alloc(64, size));
		free(strdup("the libc's own calls are counted"));
	}
	return count > 0 ? 0 : 1;
}
