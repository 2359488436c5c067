#include "cache/heap_cache.h"

#include <string.h>

#include "arena/pressure.h"
#include "base/bitmap.h"
#include "base/meta.h"
#include "cache/caches.h"
#include "cache/magazine.h"
#include "cache/purger.h"

/* No handle is this. */
static struct heap_cache none = { .heap = UINTPTR_MAX };
__thread struct heap_cache *heap_cache_current __attribute__((tls_model("initial-exec"))) = &none;

/* ---- what nobody has ---- */

/* The blocks of a run have marks in their bin, as those that were freed: the span may not be bare there any
 * more. Under the threads lock, which a reset takes before it ends the epoch: so blocks of this one are
 * blocks. */
static void give_back_run(struct heap_blocks *b, unsigned class_) {
	void *batch[HEAP_RUN_BLOCKS];
	size_t count = 0;
	for (char *block = b->next; block != b->end && count < HEAP_RUN_BLOCKS; block += b->size) {
		mark_set(block);
		batch[count++] = block;
	}
	if (count > 0) arena_give(class_, batch, count);
}

/* Nothing is of this epoch then, so that its next thread begins anew. */
static void give_back(struct heap_cache *cache) {
	for (size_t c = 0; (c = bit_find(cache->begun, c, CLASS_COUNT, true)) < CLASS_COUNT; c++) {
		struct heap_blocks *b = &cache->classes[c];
		if (heap_blocks_are_of(b, cache)) {
			give_back_run(b, (unsigned)c);
			if (b->freed_count > 0) arena_give((unsigned)c, b->freed, b->freed_count);
		}
		b->epoch = 0;
	}
	memset(cache->begun, 0, sizeof cache->begun);
}

static bool is_empty(const struct heap_cache *cache) {
	return bit_find(cache->begun, 0, CLASS_COUNT, true) == CLASS_COUNT;
}

/* ---- whose it is; all under the threads lock ---- */

/* It is no thread's any more. What is in it waits with the heap, unless memory is short. */
static void leave(struct heap_cache *cache) {
	cache->owned = false;
	cache->looks = 0;
	if (heap_cache_is_of(cache, 0))
		meta_free(cache, sizeof *cache);
	else if (pressure_is_on())
		give_back(cache);
}

static struct heap_cache *find_left(const struct arena *arena) {
	struct heap_cache *cache = arena->heap_caches;
	while (cache != NULL && cache->owned) cache = cache->next;
	return cache;
}

static struct heap_cache *attach_one(uintptr_t heap, struct arena *arena) {
	struct heap_cache *cache = meta_alloc(sizeof *cache);
	if (cache == NULL) return NULL;
	cache->arena = arena;
	cache->epoch = &arena->epoch;
	atomic_store_explicit(&cache->heap, heap, memory_order_relaxed);
	cache->next = arena->heap_caches;
	arena->heap_caches = cache;
	return cache;
}

void heap_caches_detach(struct arena *arena) {
	for (struct heap_cache *cache = arena->heap_caches, *next; cache != NULL; cache = next) {
		next = cache->next;
		atomic_store_explicit(&cache->heap, 0, memory_order_relaxed);
		if (!cache->owned) leave(cache);
	}
	arena->heap_caches = NULL;
}

/* ---- of a thread ---- */

static struct heap_cache **place_of(struct tcache *tc, const struct arena *arena) {
	return &tc->heaps[arena->number % HEAPS_OF_THREAD];
}

struct heap_cache *heap_cache_of(uintptr_t heap, struct arena *arena) {
	if (heap_cache_is_of(heap_cache_current, heap)) return heap_cache_current;
	if (!tcache_exit_is_noticed()) return NULL;
	struct heap_cache **place = place_of(own_cache(), arena);
	if (*place == NULL || !heap_cache_is_of(*place, heap)) {
		const bool leaves = *place != NULL;
		lock_take(&caches.lock, RANK_THREADS);
		if (*place != NULL) leave(*place);
		*place = NULL;
		/* by now, somebody may have destroyed it: a mistake of the program's, that is found elsewhere */
		if (atomic_load_explicit(&arena->heap, memory_order_relaxed) == heap) {
			*place = find_left(arena);
			if (*place == NULL) *place = attach_one(heap, arena);
			if (*place != NULL) (*place)->owned = own_cache()->has_heaps = true;
		}
		lock_drop(&caches.lock, RANK_THREADS);
		heap_cache_current = *place != NULL ? *place : &none;
		if (leaves) purger_poke(); /* it empties what nobody comes back to */
	}
	heap_cache_current = *place != NULL ? *place : &none;
	return *place;
}

void heap_caches_leave(struct tcache *tc) {
	if (likely(!tc->has_heaps)) return;
	tc->has_heaps = false;
	heap_cache_current = &none;
	lock_take(&caches.lock, RANK_THREADS);
	for (size_t i = 0; i < HEAPS_OF_THREAD; i++)
		if (tc->heaps[i] != NULL) leave(tc->heaps[i]);
	memset(tc->heaps, 0, sizeof tc->heaps);
	lock_drop(&caches.lock, RANK_THREADS);
}

void tcache_leave_heaps(void) {
	struct tcache *tc = get_cache();
	if (tc != NULL) heap_caches_leave(tc);
}

bool heap_caches_drain(unsigned looks) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	bool more_later = false;
	for (uint32_t i = 0; i < count; i++) {
		if (atomic_load_explicit(&arena_list[i]->heap, memory_order_relaxed) == 0) continue;
		lock_take(&caches.lock, RANK_THREADS);
		for (struct heap_cache *cache = arena_list[i]->heap_caches; cache != NULL; cache = cache->next) {
			if (cache->owned || is_empty(cache)) continue;
			if (looks == 0 || ++cache->looks > looks)
				give_back(cache);
			else
				more_later = true;
		}
		lock_drop(&caches.lock, RANK_THREADS);
	}
	return more_later;
}

static bool has(const struct tcache *own, const struct heap_cache *cache) {
	for (size_t i = 0; own != NULL && i < HEAPS_OF_THREAD; i++)
		if (own->heaps[i] == cache) return true;
	return false;
}

/* Others may have been in the middle of anything: what they kept is lost to the child until a reset. */
void heap_caches_after_fork(const struct tcache *own) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	for (uint32_t i = 0; i < count; i++)
		for (struct heap_cache *cache = arena_list[i]->heap_caches; cache != NULL; cache = cache->next)
			if (cache->owned && !has(own, cache)) {
				cache->owned = false;
				memset(cache->begun, 0, sizeof cache->begun);
				for (unsigned c = 1; c < CLASS_COUNT; c++) cache->classes[c].epoch = 0;
			}
}

/* ---- blocks ---- */

static uint32_t how_many(uint32_t size, size_t most) {
	return (uint32_t)max_size(min_size(HEAP_KEPT_BYTES / size, most), 1);
}

static void begin(struct heap_blocks *b, unsigned class_, uint32_t epoch) {
	const uint32_t size = size_classes[class_].size;
	*b = (struct heap_blocks){ .size = size, .epoch = epoch, .freed_most = how_many(size, HEAP_FREED) };
}

static void *take_kept(struct heap_blocks *b) {
	if (b->freed_count > 0) return b->freed[--b->freed_count];
	void *block = heap_blocks_next(b);
	if (block != NULL) mark_set(block);
	return block;
}

/* The blocks below `end` have marks, and there are no more than that. */
static void keep_marked(struct heap_blocks *b, void **end, size_t count) {
	for (size_t i = count; i > 0; i--) b->freed[b->freed_count++] = end[-(ptrdiff_t)i];
}

void *heap_cache_refill(struct heap_cache *cache, unsigned class_) {
	struct heap_blocks *b = &cache->classes[class_];
	const uint32_t epoch = atomic_load_explicit(cache->epoch, memory_order_relaxed);
	if (b->epoch != epoch) begin(b, class_, epoch);
	bit_set(cache->begun, class_);
	for (;;) {
		void *places[HEAP_RUN_BLOCKS], *block = take_kept(b);
		struct bare_blocks bare;
		if (block != NULL) return block;
		const size_t count = arena_take_run(cache->arena, class_, places + HEAP_RUN_BLOCKS, b->freed_most,
		                                    how_many(b->size, HEAP_RUN_BLOCKS), &bare);
		if (count == 0) return NULL;
		guard_count(&own_cache()->guard, count);
		if (bare.count > 0) {
			b->next = bare.first;
			b->end = bare.first + bare.count * bare.size;
		} else {
			keep_marked(b, places + HEAP_RUN_BLOCKS, count);
		}
	}
}

static bool has_block(const struct heap_blocks *b, const void *block) {
	if (heap_blocks_run_has(b, block)) return true;
	for (uint32_t i = 0; i < b->freed_count; i++)
		if (b->freed[i] == block) return true;
	return false;
}

bool heap_cache_has(const void *block) {
	struct tcache *own = own_cache();
	if (likely(own == NULL || !own->has_heaps)) return false;
	const struct span *s = span_of(block);
	const struct bin *bin =
	    s != NULL && s->kind == SPAN_SMALL ? *(struct bin *const volatile *)&s->bin : NULL;
	const struct heap_cache *cache = bin != NULL && s->sampled ? *place_of(own, bin->arena) : NULL;
	if (cache == NULL || heap_cache_is_of(cache, 0) || heap_span_of(cache, block) == NULL) return false;
	const struct heap_blocks *b = &cache->classes[s->class_];
	return heap_blocks_are_of(b, cache) && has_block(b, block);
}

/* The oldest ones leave, and do so before they reach the arena: no block is in two places. Inside of the gate
 * no fork comes in between. */
bool heap_blocks_flush(struct heap_blocks *b, void *block) {
	void *batch[HEAP_FREED];
	const uint32_t count = (b->freed_count + 1) / 2, left = b->freed_count - count;
	memcpy(batch, b->freed, count * sizeof *batch);
	gate_enter();
	memmove(b->freed, b->freed + count, left * sizeof *batch);
	b->freed_count = left;
	arena_give(class_of_size(b->size), batch, count);
	gate_leave();
	mark_set(block);
	b->freed[left] = block;
	b->freed_count = left + 1;
	purger_poke();
	return true;
}

/* ---- for others ---- */

/* Without ThreadSanitizer: these read what the cache's thread changes meanwhile. What they say was true a
 * moment ago, and is only counted, or told in a message. */
#define READ_FROM_OUTSIDE __attribute__((no_sanitize("thread"))) static

READ_FROM_OUTSIDE bool are_current(const struct heap_blocks *b, const struct heap_cache *cache) {
	return *(const volatile uint32_t *)&b->epoch == atomic_load_explicit(cache->epoch, memory_order_relaxed);
}

READ_FROM_OUTSIDE bool holds(const struct heap_blocks *b, const void *block) {
	char *const next = *(char *const volatile *)&b->next, *const end = *(char *const volatile *)&b->end;
	if ((uintptr_t)block >= (uintptr_t)next && (uintptr_t)block < (uintptr_t)end) return true;
	for (uint32_t i = 0; i < min_size(b->freed_count, HEAP_FREED); i++)
		if (*(void *const volatile *)&b->freed[i] == block) return true;
	return false;
}

READ_FROM_OUTSIDE size_t blocks_in(const struct heap_blocks *b) {
	const ptrdiff_t left = *(char *const volatile *)&b->end - *(char *const volatile *)&b->next;
	const size_t run = left > 0 && b->size > 0 ? (size_t)left / b->size : 0;
	return min_size(run, HEAP_RUN_BLOCKS) + min_size(b->freed_count, HEAP_FREED);
}

bool heap_caches_hold(const struct span *s, const void *block) {
	const struct bin *bin = *(struct bin *const volatile *)&s->bin;
	bool found = false;
	if (likely(!s->sampled) || bin == NULL) return false;
	lock_take(&caches.lock, RANK_THREADS);
	for (const struct heap_cache *cache = bin->arena->heap_caches; cache != NULL && !found;
	     cache = cache->next) {
		const struct heap_blocks *b = &cache->classes[s->class_];
		found = are_current(b, cache) && holds(b, block);
	}
	lock_drop(&caches.lock, RANK_THREADS);
	return found;
}

READ_FROM_OUTSIDE void count_in(const struct heap_cache *cache, size_t blocks[CLASS_COUNT]) {
	uint64_t begun[sizeof cache->begun / sizeof *cache->begun];
	for (size_t i = 0; i < sizeof begun / sizeof *begun; i++)
		begun[i] = *(const volatile uint64_t *)&cache->begun[i];
	for (size_t c = 0; (c = bit_find(begun, c, CLASS_COUNT, true)) < CLASS_COUNT; c++)
		if (are_current(&cache->classes[c], cache)) blocks[c] += blocks_in(&cache->classes[c]);
}

void heap_caches_count(const struct arena *arena, size_t blocks[CLASS_COUNT]) {
	for (const struct heap_cache *cache = arena->heap_caches; cache != NULL; cache = cache->next)
		count_in(cache, blocks);
}

void heap_caches_count_all(size_t blocks[CLASS_COUNT]) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	for (uint32_t i = 0; i < count; i++) {
		if (atomic_load_explicit(&arena_list[i]->heap, memory_order_relaxed) == 0) continue;
		lock_take(&caches.lock, RANK_THREADS);
		heap_caches_count(arena_list[i], blocks);
		lock_drop(&caches.lock, RANK_THREADS);
	}
}
