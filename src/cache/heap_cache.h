/* What threads keep of a program's heaps (arenas apart with a handle): blocks to hand out next, so that most
 * calls of arenal_heap_alloc need no lock.
 *
 * A thread has a heap_cache for each of the few heaps that it used last. In it are, by size class, a run of
 * blocks side by side that nobody had since the heap was reset, and some that were freed. They count as out
 * in their bin. A reset frees them as all others, without a look at what threads keep: it raises the arena's
 * epoch, and what was taken in an earlier one is forgotten by who comes by.
 *
 * Invariant: a block that is kept is in no other place, and those in `freed` have their mark (mark.h). Nobody
 * allocates from a heap, or frees to it, while it is reset or destroyed; the program sees to that.
 *
 * What a thread leaves, since it ends or uses other heaps, waits with the heap for the next one, blocks and
 * all, until the purger finds that nobody comes, or memory is wanted back (heap_caches_drain). Then they go
 * back to their bins; the record stays with the heap. */
#ifndef CACHE_HEAP_CACHE_H
#define CACHE_HEAP_CACHE_H

#include "arena/region.h"
#include "cache/magazine.h"
#include "cache/sample.h"

#define HEAP_FREED \
	12 /* freed blocks of a class that are kept: so many fit into two cache lines with the rest */
#define HEAP_RUN_BLOCKS 64
#define HEAP_KEPT_BYTES ((size_t)16384) /* in a run, and in freed blocks, no more, unless it is one block */

/* Of a size class. Owner: its thread; others read it for statistics. */
struct heap_blocks {
	char *next, *end; /* the run: [next, end) */
	uint32_t size;    /* bytes of a block */
	uint32_t epoch;   /* the arena's, when these were taken; another one: there are none any more */
	uint32_t freed_count;
	uint32_t freed_most; /* no more than these */
	void *freed[HEAP_FREED];
} __attribute__((aligned(CACHE_LINE)));
#define HEAP_BLOCKS_OF_TAG 4
static_assert(TAG_OF_CLASS(1) * HEAP_BLOCKS_OF_TAG == sizeof(struct heap_blocks), "a tag leads here, too");

struct heap_cache {
	_Atomic uintptr_t heap; /* the heap's handle; 0: of none. Owner: the threads lock; its thread reads it */
	const _Atomic uint32_t *epoch;
	struct arena *arena;     /* this and `epoch`: owner as of `heap` */
	struct heap_cache *next; /* of the arena's, or of those without one. This and `owned`: the threads lock */
	bool owned;              /* a thread has it */
	uint8_t looks;           /* of heap_caches_drain, since a thread had it. Owner: the threads lock */
	/* bit c: there may be blocks of class c. Owner: its thread; without one, the threads lock */
	uint64_t begun[(CLASS_COUNT + 63) / 64];
	struct heap_blocks classes[CLASS_COUNT];
};

/* The one that the calling thread used last; of no heap at first. */
extern __thread struct heap_cache *heap_cache_current
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The thread's for this heap, made or found if need be. NULL: it can have none. */
struct heap_cache *heap_cache_of(uintptr_t heap, struct arena *arena);

/* A block of the class, from below if none is kept. It has its mark, unless it was misused (mark_take). NULL
 * when out of memory. Without a lock. */
void *heap_cache_refill(struct heap_cache *cache, unsigned class_);

/* The arena is no heap any more: those who have a cache of it find that out. Under the threads lock. */
void heap_caches_detach(struct arena *arena);

/* The thread of this cache ends, or does without from now on. */
void heap_caches_leave(struct tcache *tc);

/* Gives back what no thread has, and none had for so many calls. True when there is more, for later. Without
 * any lock. */
bool heap_caches_drain(unsigned looks);

/* In the child of a fork, whose only thread has the cache, or none. Under the threads lock. */
void heap_caches_after_fork(const struct tcache *own);

/* Does a thread keep the block of this span, which is free, for its heap? It may be missed. */
bool heap_caches_hold(const struct span *s, const void *block);

/* Adds the blocks that are kept of an arena, or of all, by class. The first under the threads lock, the
 * second takes it, for one heap at a time. */
void heap_caches_count(const struct arena *arena, size_t blocks[CLASS_COUNT]);
void heap_caches_count_all(size_t blocks[CLASS_COUNT]);

static inline bool heap_blocks_are_of(const struct heap_blocks *b, const struct heap_cache *cache) {
	return b->epoch == atomic_load_explicit(cache->epoch, memory_order_relaxed);
}

static inline bool heap_cache_is_of(const struct heap_cache *cache, uintptr_t heap) {
	return atomic_load_explicit(&cache->heap, memory_order_relaxed) == heap;
}

/* The next of the run, whatever is in it but for a mark, which nobody is to know; NULL: there is none. */
static inline void *heap_blocks_next(struct heap_blocks *b) {
	char *block = b->next;
	if (unlikely(block == b->end)) return NULL;
	b->next = block + b->size;
	mark_clear(block);
	return block;
}

/* Fast: up to TABLE_MAX, from what is kept. NULL: that cannot serve. */
static inline __attribute__((always_inline)) void *heap_cache_take(uintptr_t heap, size_t size) {
	struct heap_cache *cache = heap_cache_current;
	if (unlikely(size > TABLE_MAX || !heap_cache_is_of(cache, heap) || sample_is_on())) return NULL;
	const size_t tag = tcache_tags[(size + MIN_ALIGN - 1) / MIN_ALIGN];
	struct heap_blocks *b = (struct heap_blocks *)((char *)cache->classes + tag * HEAP_BLOCKS_OF_TAG);
	if (unlikely(!heap_blocks_are_of(b, cache))) return NULL;
	if (b->freed_count == 0) return heap_blocks_next(b);
	void *block = b->freed[b->freed_count - 1];
	if (unlikely(!mark_take(block))) return NULL; /* for the slow path */
	b->freed_count--;
	return block;
}

/* The span of a small block of the cache's heap; NULL: it is none. */
static inline const struct span *heap_span_of(const struct heap_cache *cache, const void *block) {
	const struct span *s = span_of(block);
	if (unlikely(s == NULL || s->kind != SPAN_SMALL || s->bin == NULL || s->bin->arena != cache->arena))
		return NULL;
	return likely(span_has_block_at(s, block)) ? s : NULL;
}

/* Is it in the run? Nobody had it since the last reset. */
static inline bool heap_blocks_run_has(const struct heap_blocks *b, const void *block) {
	return (uintptr_t)block - (uintptr_t)b->next < (uintptr_t)b->end - (uintptr_t)b->next;
}

/* Is the block free in its bin? Without the bin's lock, and so without ThreadSanitizer: of a block that is
 * out nobody changes the bit. The start of a block of this span of small ones. */
__attribute__((no_sanitize("thread"))) static inline bool heap_block_is_back(const struct span *s,
                                                                             const void *block) {
	const size_t number = block_number(&size_classes[s->class_], (size_t)((const char *)block - s->start));
	return *(const volatile uint64_t *)&s->free_blocks[number / 64] >> number % 64 & 1;
}

/* Half of the freed ones go back, and this one is kept. Returns true. */
NOINLINE bool heap_blocks_flush(struct heap_blocks *b, void *block);

/* Keeps a block that is free from now on. False: it is none of this heap's small ones, or may be a sample; or
 * it is free, in its bin, in the run or as the one that was kept last: who frees it ends the program. */
static inline bool heap_cache_give(uintptr_t heap, void *block) {
	struct heap_cache *cache = heap_cache_current;
	if (unlikely(!heap_cache_is_of(cache, heap))) return false;
	if (unlikely(atomic_load_explicit(&sample_hooks.freed, memory_order_relaxed) != NULL)) return false;
	const struct span *s = heap_span_of(cache, block);
	if (unlikely(s == NULL)) return false;
	struct heap_blocks *b = &cache->classes[s->class_];
	if (unlikely(!heap_blocks_are_of(b, cache))) return false;
	const uint32_t count = b->freed_count;
	if (likely(count > 0) && unlikely(b->freed[count - 1] == block)) return false;
	if (unlikely(heap_blocks_run_has(b, block) || heap_block_is_back(s, block))) return false;
	if (unlikely(count >= b->freed_most)) return heap_blocks_flush(b, block);
	mark_set(block);
	b->freed[count] = block;
	b->freed_count = count + 1;
	return true;
}

/* Does the calling thread keep this block, for whichever heap? Then it is free. The address may be any. */
bool heap_cache_has(const void *block);

/* heap_cache_give for a block of whichever heap, or of none. */
static inline bool heap_cache_give_any(void *block) {
	const struct heap_cache *cache = heap_cache_current;
	if (likely(cache->arena == NULL) || heap_cache_is_of(cache, 0)) return false;
	return heap_cache_give(atomic_load_explicit(&cache->heap, memory_order_relaxed), block);
}

#endif
