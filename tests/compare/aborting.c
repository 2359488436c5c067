// An allocator that does not survive the first large block, of which it also tells.
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t size);

void *malloc(size_t size) {
    if (size >= 100000) {
        static const char reason[] = "aborting.so: too large\n";
        if (write(2, reason, sizeof reason - 1) < 0)
            _exit(1);
        abort();
    }
    return __libc_malloc(size);
}
