/* What the files of this folder share: the functions that programs call, built from the layers below. */
#ifndef API_API_H
#define API_API_H

#include <errno.h>

#include "cache/magazine.h"
#include "harden/harden.h"

/* The name a function is known by outside. The sanitizers bring a malloc of their own, so under them our functions are
 * called arenal_test_malloc and so on, and tests call these. */
#ifdef ARENAL_PREFIX
#define PUBLIC(name) arenal_test_##name
#else
#define PUBLIC(name) name
#endif
#define EXPORT __attribute__((visibility("default")))

/* The second name that glibc has for one of its functions: programs that count or wrap malloc call it. All names must lead
 * to one allocator, for what comes from one goes to another. */
#ifdef ARENAL_PREFIX
#define LIBC_NAME(libc_name, function) static_assert(true, "a sanitizer's runtime has these, too")
#else
#define LIBC_NAME(libc_name, function) EXPORT __attribute__((alias(#function), nothrow, leaf)) __typeof__(function) libc_name
#endif

/* True once start() is through. */
extern _Atomic bool started;

/* Reads the environment and readies every layer, once. Any slow path may be the first to come here, also long before
 * constructors run. */
COLD void start(void);

static inline void ensure_started(void) {
	if (unlikely(!atomic_load_explicit(&started, memory_order_acquire))) start();
}

/* For sizes below the limit, which is at most TABLE_MAX + 1. */
static inline __attribute__((always_inline)) void *take_cached_below(size_t limit, size_t size) {
	struct tcache *tc = tcache_current;
	return likely(size < limit) ? magazine_take(magazine_at(tc, tc->tag_of_size[(size + MIN_ALIGN - 1) / MIN_ALIGN])) : NULL;
}

static inline __attribute__((always_inline)) void *take_cached(size_t size) { return take_cached_below(TABLE_MAX + 1, size); }

/* malloc, but for the fast path: any size, errno set on failure. In hardened mode, blocks remember what they came from. */
NOINLINE void *allocate(size_t size, enum family family);

/* Both. */
static inline __attribute__((always_inline)) void *take_or_allocate(size_t size, enum family family) {
	void *block = take_cached(size);
	return likely(block != NULL) ? block : allocate(size, family);
}

/* allocate, reading as zero. */
NOINLINE void *allocate_zeroed(size_t size);

/* Any power of two as alignment. */
void *allocate_aligned(size_t align, size_t size, enum family family);

/* Functions that take a block say who they are: with what message the program ends when what they get is no block, or a free
 * one; and, in hardened mode, where the block must come from. NULL is fine. */
#define CLAIM(name, function, family) static const struct claim name = { function, family, SIZE_UNKNOWN }

/* Bytes that the program may use in the block, which is not NULL. */
NOINLINE size_t usable_size_slowly(void *block, const char *function);
static inline size_t usable_size(void *block, const char *function) {
	const uint16_t tag = page_map_tag(block);
	struct magazine *m = magazine_at(tcache_current, tag);
	uint64_t mark;
	if (likely(block_starts_at(block, &m->start_test, &mark) && !mark_is(block, mark))) return size_classes[tag >> TAG_SHIFT].size;
	return usable_size_slowly(block, function);
}

/* What give_back leaves over. */
NOINLINE void release(void *block, const struct claim *claim);

/* The same. When new, or aligned_alloc with this alignment, does not return such blocks for this size, what harden/misuse.h says
 * follows. */
NOINLINE void release_sized(void *block, size_t align, size_t size, const struct claim *claim);

/* free, the fast path, for what the map covers (`covered`: see page_map_tag_among). */
static inline __attribute__((always_inline)) bool put_back(void *block, const size_t *covered) {
	prefetch_to_write(mark_place(block));
	return magazine_give(magazine_at(tcache_current, page_map_tag_among(block, covered)), block);
}

static inline __attribute__((always_inline)) void give_back(void *block, const struct claim *claim) {
	if (!put_back(block, &page_map.covered)) release(block, claim);
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
