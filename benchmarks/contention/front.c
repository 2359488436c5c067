// The functions that programs call, in front of the library's, which have their prefixed names here: calls are counted.
#include "counter.h"

#include <malloc.h>
#include <stdlib.h>

#include "api/api.h"

EXPORT void *malloc(size_t size)
{
    count_call();
    return arenal_test_malloc(size);
}

EXPORT void free(void *block)
{
    count_call();
    arenal_test_free(block);
}

EXPORT void *calloc(size_t count, size_t size)
{
    count_call();
    return arenal_test_calloc(count, size);
}

EXPORT void *realloc(void *block, size_t size)
{
    count_call();
    return arenal_test_realloc(block, size);
}

EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
    count_call();
    return arenal_test_reallocarray(block, count, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    count_call();
    return arenal_test_aligned_alloc(align, size);
}

EXPORT int posix_memalign(void **block, size_t align, size_t size)
{
    count_call();
    return arenal_test_posix_memalign(block, align, size);
}

EXPORT void *memalign(size_t align, size_t size)
{
    count_call();
    return arenal_test_memalign(align, size);
}

EXPORT size_t malloc_usable_size(void *block)
{
    return arenal_test_malloc_usable_size(block);
}

EXPORT int malloc_trim(size_t keep)
{
    return arenal_test_malloc_trim(keep);
}
