// An allocator that never returns from malloc of a large block.
#include <stddef.h>
#include <unistd.h>

void *__libc_malloc(size_t size);

void *malloc(size_t size) {
    while (size >= 100000)
        pause();
    return __libc_malloc(size);
}
