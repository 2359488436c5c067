/* realloc and reallocarray. */
#include "api/malloc.h"
#include "api/sized.h"
#include "arena/huge.h"
#include "arena/large.h"
#include "arena/report.h"
#include "base/conf.h"
#include "cache/hooks.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "harden/misuse.h"

#include <string.h>

CLAIM(claim, "realloc", FAMILY_MALLOC);

/* Programs do not expect that a block cannot be made smaller: without memory for a copy it stays as long as
 * it is. */
static NOINLINE void *move(void *block, size_t size, size_t usable) {
	int saved = errno;
	void *moved = PUBLIC(malloc)(size);
	if (moved == NULL) {
		if (size > usable) return NULL;
		errno = saved;
		misuse_trust_sizes_less();
		return block;
	}
	memcpy(moved, block, min_size(size, usable));
	PUBLIC(free)(block);
	return moved;
}

static NOINLINE void *resize_large(void *block, size_t size, size_t usable) {
	struct span *s = span_of(block);
	const uint64_t begin = slow_call_begins();
	if (s != NULL && !large_resize_run(s, size)) return move(block, size, usable);
	/* For the heap profile, a large block of another length is another block. If there is no memory, it
	 * misses the old one. */
	sample_freed(block);
	if (s != NULL) {
		cache_hook_call(&cache_hooks.slow_moment); /* the heap may have grown for it */
		slow_call_ends(SLOW_REALLOC_LARGE, begin);
		return sample_allocated(block, size);
	}
	/* A mapping stays a mapping until it is small: the kernel moves its pages, nothing is copied. */
	if (size <= usable && size < (size_t)conf.mmap_threshold / 2) return move(block, size, usable);
	void *moved = huge_resize(block, size);
	/* A longer mapping needs less address space than another one. */
	if (unlikely(moved == NULL) && size > usable && harden_reclaim(size)) moved = huge_resize(block, size);
	cache_hook_call(&cache_hooks.slow_moment);
	if (moved != NULL) slow_call_ends(SLOW_REALLOC_LARGE, begin);
	/* The kernel may refuse to resize (vm.max_map_count) and still have memory. */
	return moved != NULL ? sample_allocated(moved, size) : move(block, size, usable);
}

/* It has a mark: free, or in use, with bytes that the program copied from a block that it had freed. */
static COLD void look_for_free(const struct span *s, const void *block) {
	const char *place = tcache_where_free(s, block);
	if (place != NULL) report_pointer(claim.function, block, place);
}

static NOINLINE void *resize_by_place(void *block, size_t size) {
	const size_t usable = usable_size_of_place(block, claim.function);
	const struct span *s = span_of(block);
	if (unlikely(s != NULL && s->kind == SPAN_SMALL && mark_is_there(block))) look_for_free(s, block);
	if (still_fits(size, usable)) return block;
	if (usable <= SMALL_MAX || size <= SMALL_MAX || guard_owns(block)) return move(block, size, usable);
	return resize_large(block, size, usable);
}

static COLD void *resize_marked(void *block, size_t size, size_t usable) {
	look_for_free(span_of(block), block);
	return still_fits(size, usable) ? block : move(block, size, usable);
}

/* Most blocks stay where they are. That takes no frame: whatever else there is to do, is done by a function
 * in its place. What is in the block is about to be read, here or by the caller: a look at its mark costs
 * nothing more. */
static inline __attribute__((always_inline)) void *resize_block(void *block, size_t size) {
	size_t usable;
	if (unlikely(!usable_size_of_tag(block, page_map_tag(block), &usable)))
		return resize_by_place(block, size);
	if (unlikely(mark_is_there(block))) return resize_marked(block, size, usable);
	return likely(still_fits(size, usable)) ? block : move(block, size, usable); /* it is small */
}

void *plain_resize(void *block, size_t size) { return resize_block(block, size); }

/* Size 0 is what it is for libc: glibc frees the block and returns NULL. musl returns a block, and its
 * programs take NULL for a failure that leaves them the old one, and free that: again, if we had. */
#ifdef __GLIBC__
enum { ZERO_FREES = true };
#else
enum { ZERO_FREES = false };
#endif

static NOINLINE void *resize_to_nothing(void *block) {
	release(block, &claim);
	return NULL;
}

EXPORT NOINLINE void *PUBLIC(realloc)(void *block, size_t size) {
	if (block == NULL) return PUBLIC(malloc)(size);
	if (size == 0 && ZERO_FREES) return resize_to_nothing(block);
	if (!ZERO_FREES) size = max_size(size, 1);
	const struct front *instead = front_instead();
	return unlikely(instead != NULL) ? instead->resize(block, size) : resize_block(block, size);
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
