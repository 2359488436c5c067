/* The slow ways of malloc and free: of the calling thread's cache, or without one where there can be none. */
#include "cache/tcache.h"

#include "arena/clear.h"
#include "arena/large.h"
#include "arena/shelf.h"
#include "cache/caches.h"
#include "cache/magazine.h"

__thread struct tcache *tcache_current __attribute__((tls_model("initial-exec"))) = &no_cache_yet;
__thread struct tcache *tcache_hidden __attribute__((tls_model("initial-exec")));
struct tcache tcache_hiding;

uint16_t tcache_tags[TABLE_MAX / MIN_ALIGN + 1];

/* NULL: it is not the thread's turn, and mostly is not. */
static inline void *alloc_guarded(struct tcache *tc, size_t size) {
	/* Hardened blocks have guards of their own. */
	return unlikely(tc->guard.due) && !caches.hardened ? guard_turn_take(&tc->guard, size) : NULL;
}

void *tcache_guard_turn(size_t size, size_t count) {
	struct tcache *tc = get_cache();
	if (tc == NULL) return NULL;
	void *block = alloc_guarded(tc, size);
	if (block == NULL) guard_count(&tc->guard, count);
	return block;
}

void *tcache_alloc(unsigned class_, size_t size) {
	struct tcache *tc = get_cache();
	if (unlikely(tc == NULL)) return arena_take_one(arena_list[0], class_);
	const uint64_t begin = slow_call_of(tc);
	void *block = alloc_guarded(tc, size);
	if (likely(block == NULL)) block = magazine_refill(tc, class_);
	slow_call_ends(SLOW_MALLOC_SMALL, begin);
	return block;
}

void *tcache_alloc_sampled(unsigned class_, size_t size) {
	struct tcache *tc = get_cache();
	const uint64_t begin = slow_call_of(tc);
	void *block = tc != NULL ? alloc_guarded(tc, size) : NULL;
	if (block == NULL) block = arena_take_one(arena_of_samples, class_);
	slow_call_ends(SLOW_MALLOC_SMALL, begin);
	return block;
}

void tcache_free(unsigned class_, void *block) {
	struct tcache *tc = get_cache();
	if (unlikely(tc == NULL)) {
		arena_give_alone(class_, block);
		return;
	}
	const uint64_t begin = slow_call_of(tc);
	magazine_flush(tc, class_, block);
	slow_call_ends(SLOW_FREE_SMALL, begin);
}

/* While shelves are open: from the arena's one; or it will come there, if it is a run. */
static NOINLINE void *alloc_with_shelf(struct tcache *tc, size_t size, size_t align, bool zero) {
	const uint64_t begin = slow_call_of(tc);
	struct arena *arena = tc->arena;
	struct span *run = align <= SLICE_SIZE ? shelf_take(arena, size) : NULL;
	void *block;
	if (run != NULL) {
		block = run->start;
		if (zero) clear_stale(block, size, true);
	} else {
		block = large_alloc(size, align, zero, (enum region_kind)arena->kind);
		if (block != NULL) run = slice_record(block);
		if (run != NULL && run->kind == SPAN_RUN) shelf_own(arena, run);
	}
	cache_hook_call(&cache_hooks.slow_moment);
	slow_call_ends(SLOW_MALLOC_LARGE, begin);
	return block;
}

void *tcache_alloc_large(size_t size, size_t align, bool zero) {
	struct tcache *tc = get_cache();
	if (tc != NULL && align <= MIN_ALIGN) {
		void *guarded = alloc_guarded(tc, size);
		if (guarded != NULL) return guarded; /* it reads as zero */
		guard_count(&tc->guard, 1);
	}
	struct span *run = NULL;
	if (tc != NULL)
		run = likely(align <= SLICE_SIZE) ? run_take(&tc->run_cache, size)
		                                  : run_take_aligned(&tc->run_cache, size, align);
	if (run != NULL) {
		cache_hook_call(&cache_hooks.slow_moment);
		if (zero) clear_stale(run->start, size, true);
		return run->start;
	}
	if (unlikely(shelves_are_open()) && tc != NULL) return alloc_with_shelf(tc, size, align, zero);
	const uint64_t begin = slow_call_of(tc);
	const struct arena *arena = tc != NULL ? tc->arena : arena_list[0];
	void *block = large_alloc(size, align, zero, (enum region_kind)arena->kind);
	cache_hook_call(&cache_hooks.slow_moment);
	slow_call_ends(SLOW_MALLOC_LARGE, begin);
	return block;
}

void tcache_free_run(struct span *run) {
	struct tcache *tc = get_cache();
	if (tc != NULL && likely(!run->altered)) {
		if (likely(run->home == 0) || !run_goes_home(tc, run)) run_cache_put(tc, run);
		return;
	}
	const uint64_t begin = slow_call_of(tc);
	if (!run->altered || heap_renew(run)) heap_free(run);
	slow_call_ends(SLOW_FREE_LARGE, begin);
}

struct arena *tcache_arena(void) {
	struct tcache *tc = get_cache();
	return tc != NULL ? tc->arena : arena_list[0];
}
