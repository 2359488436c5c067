/* What the files of this folder share: the functions that programs call, built from the layers below. */
#ifndef API_API_H
#define API_API_H

#include <errno.h>

#include "cache/tcache.h"

/* The name a function is known by outside. The sanitizers bring a malloc of their own, so under them our functions are
 * called arenal_test_malloc and so on, and tests call these. */
#ifdef ARENAL_PREFIX
#define PUBLIC(name) arenal_test_##name
#else
#define PUBLIC(name) name
#endif
#define EXPORT __attribute__((visibility("default")))

/* True once start() is through. */
extern _Atomic bool started;

/* Reads the environment and readies every layer, once. Any slow path may be the first to come here, also long before
 * constructors run. */
COLD void start(void);

static inline void ensure_started(void) {
	if (unlikely(!atomic_load_explicit(&started, memory_order_acquire))) start();
}

/* malloc, but for the fast path: any size, errno set on failure. */
NOINLINE void *allocate(size_t size);

/* Like allocate, reading as zero. */
void *allocate_zeroed(size_t size);

/* Any power of two as alignment. errno stays as it is on failure: posix_memalign must not touch it. */
void *allocate_aligned(size_t align, size_t size);

/* Bytes that the program may use in the block; 0 for NULL. */
size_t usable_size(const void *block);

/* The program ends here when it is not a block; NULL is fine. */
NOINLINE void release(void *block);

/* The same for any function that frees, in hardened mode. */
struct claim;
COLD void release_as(void *block, const struct claim *claim);

EXPORT void *PUBLIC(malloc)(size_t size);
EXPORT void PUBLIC(free)(void *block);
EXPORT void *PUBLIC(calloc)(size_t count, size_t size);
EXPORT void *PUBLIC(realloc)(void *block, size_t size);
EXPORT void *PUBLIC(reallocarray)(void *block, size_t count, size_t size);
EXPORT void *PUBLIC(aligned_alloc)(size_t align, size_t size);
EXPORT int PUBLIC(posix_memalign)(void **block, size_t align, size_t size);
EXPORT void *PUBLIC(memalign)(size_t align, size_t size);
EXPORT void *PUBLIC(valloc)(size_t size);
EXPORT void *PUBLIC(pvalloc)(size_t size);
EXPORT size_t PUBLIC(malloc_usable_size)(void *block);
EXPORT void PUBLIC(cfree)(void *block);
EXPORT void PUBLIC(free_sized)(void *block, size_t size);
EXPORT void PUBLIC(free_aligned_sized)(void *block, size_t align, size_t size);
EXPORT int PUBLIC(malloc_trim)(size_t keep);
EXPORT int PUBLIC(mallopt)(int option, int value);
EXPORT void PUBLIC(malloc_stats)(void);

#endif
