// An allocator that is libc's, but for one malloc in some thousands that takes 30 ms of processor time, and for blocks that are
// a half larger than asked for.
#define _GNU_SOURCE
#include <stddef.h>
#include <time.h>

extern void *__libc_malloc(size_t size);

static long long processor_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void *malloc(size_t size)
{
    static unsigned calls;

    if (++calls % 5000 == 0)
        for (long long end = processor_time() + 30000000; processor_time() < end;)
            ;
    return __libc_malloc(size + size / 2);
}
