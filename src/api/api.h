/* What the files of this folder share: the functions that programs call, by the names that they call, and the
 * start. */
#ifndef API_API_H
#define API_API_H

#include <errno.h>
#include <features.h>
#include <stdatomic.h>

#include "base/base.h"

/* The name a function is known by outside. The sanitizers bring a malloc of their own, so under them our
 * functions are called arenal_test_malloc and so on, and tests call these. */
#ifdef ARENAL_PREFIX
#define PUBLIC(name) arenal_test_##name
#else
#define PUBLIC(name) name
#endif
#define EXPORT __attribute__((visibility("default")))

/* The second name that glibc has for one of its functions: programs that count or wrap malloc call it. All
 * names must lead to one allocator, for what comes from one goes to another. */
#if defined(ARENAL_PREFIX) || !defined(__GLIBC__)
#define LIBC_NAME(libc_name, function) static_assert(true, "a sanitizer has these, too; musl none")
#else
#define LIBC_NAME(libc_name, function) \
	EXPORT __attribute__((alias(#function), nothrow, leaf)) __typeof__(function) libc_name
#endif

/* True once start() is through. */
extern _Atomic bool started;

/* Reads the environment and readies every layer, once. Any slow path may be the first to come here, also long
 * before constructors run. */
COLD void start(void);

static inline void ensure_started(void) {
	if (unlikely(!atomic_load_explicit(&started, memory_order_acquire))) start();
}

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
