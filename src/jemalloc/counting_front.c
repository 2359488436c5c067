/* The counting front: what serves otherwise, plain, traced or hardened, serves each call, and what the thread
 * got or gave is counted, if the thread asked for that; and blocks of arenas that the program made are told
 * from others (made_arenas.h). It is there from the first moment that anybody needs it, for good. */
#include <errno.h>
#include <string.h>

#include "api/malloc.h"
#include "api/sized.h"
#include "arena/report.h"
#include "cache/heap_cache.h"
#include "harden/guard.h"
#include "harden/misuse.h"
#include "jemalloc/made_arenas.h"
#include "jemalloc/thread.h"

__thread struct thread_counts thread_counts __attribute__((tls_model("initial-exec")));

static const struct front *behind; /* written once, before this one is the front */

/* ---- a call of a thread that counts ---- */

struct call {
	bool comes, counts;    /* it is one of the program's, of a thread that wants it here; and counts */
	uint32_t arena;        /* made, for its block; 0: none */
	struct tcache *hidden; /* what hides the thread's cache otherwise; NULL: it is not */
};

static inline struct call enter(void) {
	struct call call = { false, false, 0, NULL };
	const struct thread_counts *t = &thread_counts;
	if (likely(!t->counts && t->arena == 0) || t->inside) return call;
	call.comes = true;
	call.counts = t->counts;
	if (t->arena != 0) call.arena = made_of_thread();
	thread_counts.inside = true;
	/* Plain serves from the thread's cache. The others see to that themselves. */
	if (behind == &plain_front) call.hidden = tcache_reveal();
	return call;
}

static inline void leave(struct call call) {
	if (!call.comes) return;
	if (call.hidden != NULL) tcache_conceal(call.hidden);
	thread_counts.inside = false;
}

void thread_count(size_t allocated, size_t freed) {
	struct thread_counts *t = &thread_counts;
	t->allocated += allocated;
	t->deallocated += freed;
	const int64_t beyond = (int64_t)(t->allocated - t->deallocated - t->base);
	if (beyond > (int64_t)t->peak) t->peak = (uint64_t)beyond;
}

static size_t size_of(const void *block) {
	return block != NULL ? behind->usable_size((void *)block, "malloc") : 0;
}

/* Sets errno, as malloc does. */
static void *made_malloc(uint32_t arena, size_t size, bool zero, enum family family) {
	void *block = made_allocate(arena, size, MIN_ALIGN, zero, family);
	if (unlikely(block == NULL)) errno = ENOMEM;
	return block;
}

/* ---- the operations ---- */

static void *counting_allocate(size_t size, enum family family) {
	const struct call call = enter();
	void *block =
	    call.arena != 0 ? made_malloc(call.arena, size, false, family) : behind->allocate(size, family);
	if (call.counts) thread_count(size_of(block), 0);
	leave(call);
	return block;
}

static void *counting_allocate_zeroed(size_t size) {
	const struct call call = enter();
	void *block =
	    call.arena != 0 ? made_malloc(call.arena, size, true, FAMILY_MALLOC) : behind->allocate_zeroed(size);
	if (call.counts) thread_count(size_of(block), 0);
	leave(call);
	return block;
}

static void *counting_allocate_aligned(size_t align, size_t size, enum family family) {
	const struct call call = enter();
	void *block = call.arena != 0 ? made_allocate(call.arena, size, align, false, family)
	                              : behind->allocate_aligned(align, size, family);
	if (call.counts) thread_count(size_of(block), 0);
	leave(call);
	return block;
}

/* Plain would have another block for it, one that is small before or after. */
static bool leaves_place(void *block, size_t size, size_t usable) {
	return behind == &plain_front && !still_fits(size, usable) &&
	       (usable <= SMALL_MAX || size <= SMALL_MAX || guard_owns(block));
}

/* To the arena. A block that cannot be made smaller stays, as everywhere. */
static void *move_to(uint32_t arena, void *block, size_t size, size_t usable) {
	CLAIM(claim, "realloc", FAMILY_MALLOC);
	const int saved = errno;
	void *moved = made_malloc(arena, size, false, FAMILY_MALLOC);
	if (moved != NULL) {
		memcpy(moved, block, min_size(size, usable));
		made_take_out(block);
		behind->release(block, &claim);
	} else if (size <= usable) {
		errno = saved;
		misuse_trust_sizes_less();
		moved = block;
	}
	return moved;
}

/* Where it stays in its place, it stays its arena's; where it moves, it is of its heap, if it was of one; of
 * the arena that the thread chose, or like any other. */
static void *resize(uint32_t arena, void *block, size_t size) {
	const struct arena *heap = made_heap_of_block(block);
	if (heap != NULL) arena = heap->number;
	if (arena != 0) {
		const size_t usable = size_of(block);
		if (leaves_place(block, size, usable)) return move_to(arena, block, size, usable);
	}
	const uint32_t number = made_take_out(block);
	void *moved = behind->resize(block, size);
	if (moved != block && moved != NULL) {
		if (arena != 0) made_put_back(arena, moved, size_of(moved));
	} else if (number != 0) {
		made_put_back(number, block, size_of(block));
	}
	return moved;
}

static void *counting_resize(void *block, size_t size) {
	const struct call call = enter();
	const size_t old = call.counts ? size_of(block) : 0;
	void *moved = resize(call.arena, block, size);
	if (call.counts && moved != NULL) thread_count(size_of(moved), old);
	leave(call);
	return moved;
}

/* False: it is no block of the heap that the thread used last. */
static bool keep_for_heap(void *block, const struct claim *claim) {
	if (behind != &plain_front) return false;
	if (heap_cache_give_any(block)) return true;
	if (unlikely(heap_cache_has(block))) report_pointer(claim->function, block, ", and waits for its heap");
	return false;
}

static void counting_release(void *block, const struct claim *claim) {
	if (keep_for_heap(block, claim)) return;
	const struct call call = enter();
	if (call.counts) thread_count(0, behind->usable_size(block, claim->function));
	made_take_out(block);
	behind->release(block, claim);
	leave(call);
}

static size_t counting_usable_size(void *block, const char *function) {
	const struct call call = enter();
	const size_t size = behind->usable_size(block, function);
	leave(call);
	return size;
}

static const struct front counting = {
	counting_allocate, counting_allocate_zeroed, counting_allocate_aligned,
	counting_resize,   counting_release,         counting_usable_size,
};

const struct front *front_behind_counting(void) {
	const struct front *serves = front_instead();
	if (serves == &counting) serves = behind;
	return serves == &plain_front ? NULL : serves;
}

bool counting_front_begin(void) { return front_put_before(&counting, &behind); }

/* Where another front serves, caches are hidden already. */
bool thread_calls_come(void) {
	if (!counting_front_begin()) return false;
	tcache_leave_heaps();
	if (behind == &plain_front) tcache_hide_own();
	return true;
}

void thread_calls_come_no_more(void) {
	if (!thread_counts.counts && behind == &plain_front) tcache_reveal();
}

bool thread_counts_begin(void) {
	if (!thread_counts.counts) thread_counts.counts = thread_calls_come();
	return thread_counts.counts;
}
