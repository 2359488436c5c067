/* realloc, reallocarray and malloc_usable_size. */
#include "api/api.h"
#include "arena/huge.h"
#include "arena/large.h"
#include "base/conf.h"
#include "cache/hooks.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "harden/misuse.h"
#include "observe/profile.h"
#include "observe/trace.h"

#include <string.h>

EXPORT size_t PUBLIC(malloc_usable_size)(void *block) {
	return block != NULL ? usable_size(block, "malloc_usable_size") : 0;
}

/* A shrinking block stays where it is while it fills more than half of its place. */
static bool still_fits(size_t size, size_t usable) { return size <= usable && size >= usable / 2; }

/* A block was left longer than half of its size would need: sizes tell less about blocks from then on. */
static _Atomic bool shrink_failed;

CLAIM(claim, "realloc", FAMILY_MALLOC);

/* Programs do not expect that a block cannot be made smaller: without memory for a copy it stays as long as it is. */
static void *move(void *block, size_t size, size_t usable) {
	int saved = errno;
	void *moved = PUBLIC(malloc)(size);
	if (moved == NULL) {
		if (size > usable) return NULL;
		errno = saved;
		atomic_store_explicit(&shrink_failed, true, memory_order_relaxed);
		return block;
	}
	memcpy(moved, block, min_size(size, usable));
	PUBLIC(free)(block);
	return moved;
}

static NOINLINE void *resize_large(void *block, size_t size, size_t usable) {
	struct span *s = span_of(block);
	if (s != NULL && !large_resize_run(s, size)) return move(block, size, usable);
	/* For the heap profile, a large block of another length is another block. If there is no memory, it misses the old one. */
	profile_freed(block);
	if (s != NULL) return profile_count(block, size);
	/* A mapping stays a mapping until it is small: the kernel moves its pages, nothing is copied. */
	if (size <= usable && size < (size_t)conf.mmap_threshold / 2) return move(block, size, usable);
	void *moved = huge_resize(block, size);
	/* A longer mapping needs less address space than another one. */
	if (unlikely(moved == NULL) && size > usable && harden_reclaim(size)) moved = huge_resize(block, size);
	cache_hook_call(&cache_hooks.slow_moment);
	/* The kernel may refuse to resize (vm.max_map_count) and still have memory. */
	return moved != NULL ? profile_count(moved, size) : move(block, size, usable);
}

static NOINLINE bool realloc_in_mode(void *block, size_t size, void **moved) {
	if (modes & MODE_HARDEN) {
		profile_freed(block);
		if (!harden_realloc(block, size, moved)) return false;
		profile_count(*moved, size);
		if (*moved == NULL) errno = ENOMEM;
		return true;
	}
	struct trace_call call;
	if (!trace_enter(&call)) return false;
	const uint64_t called = trace_now();
	*moved = PUBLIC(realloc)(block, size);
	trace_leave(&call);
	trace_moved(&call, called, block, *moved, size);
	return true;
}

EXPORT void *PUBLIC(realloc)(void *block, size_t size) {
	if (block == NULL) return PUBLIC(malloc)(size);
	if (size == 0) { /* as glibc does */
		give_back(block, &claim);
		return NULL;
	}
	if (unlikely(modes != 0)) {
		void *moved;
		if (realloc_in_mode(block, size, &moved)) return moved;
	}
	size_t usable = usable_size(block, claim.function);
	if (still_fits(size, usable)) return block;
	if (usable <= SMALL_MAX || size <= SMALL_MAX || guard_owns(block)) return move(block, size, usable);
	return resize_large(block, size, usable);
}
LIBC_NAME(__libc_realloc, realloc);

EXPORT void *PUBLIC(reallocarray)(void *block, size_t count, size_t size) {
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(count, size, &bytes))) {
		errno = ENOMEM;
		return NULL;
	}
	return PUBLIC(realloc)(block, bytes);
}
LIBC_NAME(__libc_reallocarray, reallocarray);

/* C23: free with the size that was asked for, of malloc or of realloc, which may leave a block longer than its size needs. */
EXPORT void PUBLIC(free_sized)(void *block, size_t size) {
	CLAIM(sized, "free_sized", FAMILY_MALLOC);
	if (block == NULL) return;
	bool exact = true;
	if (unlikely((modes & MODE_HARDEN) == 0 && misuse_of_size() != MISUSE_IGNORE)) {
		const size_t usable = usable_size(block, sized.function);
		exact = size > usable || !(still_fits(size, usable) || atomic_load_explicit(&shrink_failed, memory_order_relaxed));
	}
	if (exact)
		release_sized(block, MIN_ALIGN, size, &sized);
	else
		give_back(block, &sized);
}
