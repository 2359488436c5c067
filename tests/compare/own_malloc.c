// A program that no preloaded allocator can serve: it defines malloc itself.
#include <stddef.h>

void *__libc_malloc(size_t size);

void *malloc(size_t size) {
    return __libc_malloc(size);
}

int main(void) {
    return malloc(100) == NULL;
}
