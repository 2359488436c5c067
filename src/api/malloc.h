/* malloc and free by stages, and what the other functions of this folder have of them. malloc.c has the
 * stages in order; the fast ones are here, for operator new and delete inline them, too. */
#ifndef API_MALLOC_H
#define API_MALLOC_H

#include "api/api.h"
#include "cache/front.h"
#include "cache/magazine.h"

struct span;

/* Functions that take a block say who they are: with what message the program ends when what they get is no
 * block, or a free one; and, in hardened mode, where the block must come from. */
#define CLAIM(name, function, family) static const struct claim name = { function, family, SIZE_UNKNOWN }

/* ---- malloc ---- */

/* Fast: from the magazine that the table names, for sizes below the limit, which is at most TABLE_MAX + 1.
 * NULL: that one cannot serve. While caches are hidden, none ever can. */
static inline __attribute__((always_inline)) void *malloc_fast(size_t size, size_t limit) {
	struct tcache *tc = tcache_current;
	if (unlikely(size >= limit)) return NULL;
	return magazine_take(tc, tc->tag_of_size[(size + MIN_ALIGN - 1) / MIN_ALIGN]);
}

/* Medium, for more than SMALL_MAX bytes, with any alignment up to a slice: a kept run. NULL: there is
 * none; or the slow path is to be taken all the same, as for all sizes, or since somebody waits for such a
 * moment, or since the block may have to be guarded, as none longer than a slice is. */
static inline __attribute__((always_inline)) void *take_run(size_t size) {
	struct tcache *tc = tcache_current;
	if (unlikely(size > RUN_CACHE_BYTES)) return NULL;
	if (unlikely(tc->class_mask == 0 || cache_hook_waits(&cache_hooks.slow_moment))) return NULL;
	if (unlikely(tc->guard.due) && size <= SLICE_SIZE) return NULL;
	const struct span *run = run_take(&tc->run_cache, size);
	if (unlikely(run == NULL)) return NULL;
	if (run->start == NULL) __builtin_unreachable();
	return run->start;
}

/* All that follows: any size, errno set on failure. */
NOINLINE void *malloc_medium(size_t size, enum family family);

/* What calloc does when the fast stage fails: any size, errno set on failure. */
NOINLINE void *calloc_slow(size_t size);

/* Any power of two as alignment, any size. errno is the caller's. */
NOINLINE void *allocate_aligned(size_t align, size_t size, enum family family);

/* ---- free ---- */

/* Fast: into the magazine of its tag, for what the map covers (`covered`: see page_map_tag_among). False: it
 * is for the next stage. */
static inline __attribute__((always_inline)) bool free_fast(void *block, const size_t *covered) {
	return magazine_give(magazine_at(tcache_current, page_map_tag_among(block, covered)), block);
}

/* All that follows. NULL is fine. */
NOINLINE void free_medium(void *block, const struct claim *claim);

/* All stages. */
static inline __attribute__((always_inline)) void release(void *block, const struct claim *claim) {
	if (!free_fast(block, &page_map.covered)) free_medium(block, claim);
}

/* All stages, with the size and the alignment that the program says it asked for (sized.c). NULL is fine. */
NOINLINE void release_sized(void *block, size_t align, size_t size, const struct claim *claim);

/* Ends the program unless this is the start of a small block of the span, and not the one that the thread
 * freed last. */
void check_small(const struct span *s, const void *block, const char *function);

/* ---- the size of a block ---- */

/* Fast: a small block, whose tag says it. Whether it is free is not asked. */
static inline __attribute__((always_inline)) bool usable_size_of_tag(void *block, uint16_t tag,
                                                                     size_t *size) {
	if (unlikely(!block_starts_at(block, &magazine_at(tcache_current, tag)->start_test))) return false;
	*size = size_classes[tag >> TAG_SHIFT].size;
	return true;
}

/* The same, and it is not the last one that was freed. The block is not looked at: many ask just before they
 * free it. */
static inline __attribute__((always_inline)) bool usable_size_fast(void *block, size_t *size) {
	const uint16_t tag = page_map_tag(block);
	return usable_size_of_tag(block, tag, size) &&
	       likely(!magazine_has_on_top(magazine_at(tcache_current, tag), block));
}

/* Slow: any block, by what lies there. Ends the program when there is none. */
NOINLINE size_t usable_size_of_place(void *block, const char *function);

/* Slow, for the program: asks the front that serves. */
NOINLINE size_t usable_size_slow(void *block, const char *function);

/* Bytes that the program may use in the block, which is not NULL. */
static inline size_t usable_size(void *block, const char *function) {
	size_t size;
	return likely(usable_size_fast(block, &size)) ? size : usable_size_slow(block, function);
}

/* ---- the front (cache/front.h) ---- */

/* Plain's operations, all stages each, but without a look for another front. The table of them is in
 * start.c. */
void *plain_allocate(size_t size, enum family family);
void *plain_allocate_zeroed(size_t size);
void *plain_allocate_aligned(size_t align, size_t size, enum family family);
void *plain_resize(void *block, size_t size);
void plain_release(void *block, const struct claim *claim);
static inline size_t plain_usable_size(void *block, const char *function) {
	size_t size;
	return likely(usable_size_fast(block, &size)) ? size : usable_size_of_place(block, function);
}

/* Plain as a table, for fronts that stand before it. */
extern const struct front plain_front __attribute__((visibility("hidden")));

/* Puts a front before the one that serves, which it writes to *behind before the first call comes. False: the
 * environment is not known yet, and with it which one serves. */
bool front_put_before(const struct front *other, const struct front **behind);

/* Around fork: whoever starts Arenal, or puts a front before another, is not in the middle of it. */
void start_lock(void);
void start_unlock(void);

/* The front that serves instead of plain; NULL: none does. Slow paths test this, when the process has
 * started. Written once: at start-up, as soon as libc knows the environment, or when a process is to be
 * recorded that runs. */
extern const struct front *_Atomic front __attribute__((visibility("hidden")));

/* Who sees the front also sees what it was given when it started. */
static inline const struct front *front_instead(void) {
	return atomic_load_explicit(&front, memory_order_acquire);
}

#endif
