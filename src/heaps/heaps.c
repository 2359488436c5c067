/* Heaps of a program's own (include/arenal/arenal.h). A heap is an arena that the program made
 * (jemalloc/made_arenas.h), and what threads keep of its small blocks (cache/heap_cache.h). All that is not
 * served from there goes the way of such arenas: large blocks, guarded ones, samples, other fronts. */
#include <errno.h>
#include <string.h>

#include "api/malloc.h"
#include "arena/pressure.h"
#include "arena/report.h"
#include "arenal/arenal.h"
#include "base/conf.h"
#include "cache/heap_cache.h"
#include "harden/misuse.h"
#include "jemalloc/figures.h"
#include "jemalloc/made_arenas.h"
#include "jemalloc/thread.h"

/* ---- handles ---- */

static uintptr_t handle_of(const arenal_heap *heap) { return (uintptr_t)heap; }

/* The heap's arena. One that is none any more ends the program. */
static struct arena *arena_of(const arenal_heap *heap, const char *function) {
	struct arena *arena = made_arena_of_heap(handle_of(heap));
	if (likely(arena != NULL)) return arena;
	report_end(function, heap, "this is no heap: it was destroyed already, or never made");
}

arenal_heap *arenal_heap_create(const char *name) {
	ensure_started();
	const uintptr_t heap = made_create_heap(name);
	if (heap == 0) errno = ENOMEM;
	return (arenal_heap *)heap;
}

void arenal_heap_reset(arenal_heap *heap) {
	if (heap != NULL) made_reset(arena_of(heap, "arenal_heap_reset")->number);
}

void arenal_heap_destroy(arenal_heap *heap) {
	if (heap != NULL) made_destroy(arena_of(heap, "arenal_heap_destroy")->number);
}

arenal_heap *arenal_heap_of(const void *block) {
	const struct arena *arena = made_heap_of_block(block);
	return arena != NULL ? (arenal_heap *)atomic_load_explicit(&arena->heap, memory_order_relaxed) : NULL;
}

/* ---- a block ---- */

/* From what the thread keeps. One without its mark was misused, and is left alone, as in malloc. NULL: out of
 * memory, or threads keep nothing. */
static void *take_kept(struct arena *arena, uintptr_t heap, unsigned class_, const char *function) {
	struct heap_cache *cache = conf.tcache_max > 0 ? heap_cache_of(heap, arena) : NULL;
	for (void *block; cache != NULL && (block = heap_cache_refill(cache, class_)) != NULL;) {
		if (likely(mark_take(block)) || mark_was_wiped(block)) return block;
		misuse_lost_mark(function, block);
	}
	return NULL;
}

/* The guarded block that is due; it reads as zero. It is written down as large ones are. */
static void *take_guarded(const struct arena *arena, size_t size, size_t align) {
	const size_t asked = align > MIN_ALIGN ? ALIGN_UP(size, align) : size;
	CLAIM(claim, "arenal_heap_alloc", FAMILY_MALLOC);
	if (align > os_page_size || size == 0) return NULL;
	void *block = tcache_guard_turn(asked, size > SMALL_MAX);
	if (likely(block == NULL)) return NULL;
	if ((uintptr_t)block % align == 0 && made_put(arena->number, block, asked, FAMILY_MALLOC)) return block;
	release(block, &claim);
	return NULL;
}

/* Threads whose bytes are counted, and samples, go the other way. */
static void *take(struct arena *arena, uintptr_t heap, size_t size, size_t align, bool zero,
                  const char *function) {
	if (size > PTRDIFF_MAX || align > PTRDIFF_MAX / 2) return NULL;
	if (front_behind_counting() == NULL && !sample_is_on() && !thread_counts.counts) {
		void *block = take_guarded(arena, size, align);
		if (block != NULL) return block;
		const size_t rounded = ALIGN_UP(max_size(size, 1), align);
		if (rounded <= SMALL_MAX) block = take_kept(arena, heap, class_of_aligned(align, rounded), function);
		cache_hook_call(&cache_hooks.slow_moment);
		if (block != NULL) return zero ? memset(block, 0, size) : block;
	}
	return made_allocate(arena->number, size, align, zero, FAMILY_MALLOC);
}

static NOINLINE void *allocate(arenal_heap *heap, size_t size, size_t align, bool zero,
                               const char *function) {
	if (unlikely(heap == NULL)) {
		errno = EINVAL;
		return NULL;
	}
	void *block = take(arena_of(heap, function), handle_of(heap), size, align, zero, function);
	if (unlikely(block == NULL)) {
		pressure_failed();
		errno = ENOMEM;
	} else if (unlikely(thread_counts.counts)) {
		thread_count(usable_size(block, function), 0);
	}
	return block;
}

void *arenal_heap_alloc(arenal_heap *heap, size_t size) {
	void *block = heap_cache_take(handle_of(heap), size);
	return likely(block != NULL) ? block : allocate(heap, size, MIN_ALIGN, false, "arenal_heap_alloc");
}

void *arenal_heap_calloc(arenal_heap *heap, size_t count, size_t size) {
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(count, size, &bytes))) bytes = SIZE_MAX;
	void *block = heap_cache_take(handle_of(heap), bytes);
	return likely(block != NULL) ? memset(block, 0, bytes)
	                             : allocate(heap, bytes, MIN_ALIGN, true, "arenal_heap_calloc");
}

void *arenal_heap_aligned_alloc(arenal_heap *heap, size_t align, size_t size) {
	if (align == 0 || (align & (align - 1)) != 0) {
		errno = EINVAL;
		return NULL;
	}
	return allocate(heap, size, max_size(align, MIN_ALIGN), false, "arenal_heap_aligned_alloc");
}

/* ---- and back ---- */

static void check_owner(arenal_heap *heap, const void *block, const char *function) {
	if (likely(made_heap_of_block(block) == arena_of(heap, function))) return;
	report_end(function, block, "the block is none of heap %p: it is another one's, or was freed already",
	           (void *)heap);
}

static NOINLINE void release_slowly(arenal_heap *heap, void *block) {
	CLAIM(claim, "arenal_heap_free", FAMILY_MALLOC);
	check_owner(heap, block, claim.function);
	if (heap_cache_has(block)) report_pointer(claim.function, block, ", and waits for its heap");
	release(block, &claim);
}

void arenal_heap_free(arenal_heap *heap, void *block) {
	if (block != NULL && !heap_cache_give(handle_of(heap), block)) release_slowly(heap, block);
}

void *arenal_heap_realloc(arenal_heap *heap, void *block, size_t size) {
	if (block == NULL) return arenal_heap_alloc(heap, size);
	check_owner(heap, block, "arenal_heap_realloc");
	return PUBLIC(realloc)(block, size);
}

/* ---- statistics ---- */

int arenal_heap_stats_get(arenal_heap *heap, struct arenal_heap_stats *out, size_t size) {
	if (heap == NULL || out == NULL || size == 0) return EINVAL;
	struct arena *arena = arena_of(heap, "arenal_heap_stats_get");
	const struct made_figures large = made_figures(arena->number);
	struct arenal_heap_stats s = { .allocated = large.bytes, .blocks = large.blocks, .memory = large.bytes };
	size_t kept[CLASS_COUNT] = { 0 };
	tcache_lock();
	heap_caches_count(arena, kept);
	tcache_unlock();
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct bin_figures bin;
		bin_figures_get(arena->number, c, &bin);
		const size_t blocks = bin.blocks - min_size(kept[c], bin.blocks);
		s.blocks += blocks;
		s.allocated += blocks * size_classes[c].size;
		s.memory += bin.spans * size_classes[c].slices * SLICE_SIZE;
	}
	if (size > sizeof s) memset((char *)out + sizeof s, 0, size - sizeof s);
	memcpy(out, &s, min_size(size, sizeof s));
	return 0;
}
