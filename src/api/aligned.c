/* Blocks with an alignment: aligned_alloc and its older relatives. */
#include "api/api.h"
#include "arena/large.h"
#include "base/os.h"
#include "base/conf.h"
#include "cache/hooks.h"
#include "harden/harden.h"
#include "observe/profile.h"
#include "observe/trace.h"

static NOINLINE bool allocate_aligned_in_mode(size_t align, size_t size, enum family family, void **block) {
	struct trace_call call;
	if (modes & MODE_HARDEN) {
		*block = profile_count(harden_alloc(align, size, family), size);
	} else if (trace_enter(&call)) {
		*block = allocate_aligned(align, size, family);
		trace_leave(&call);
		trace_allocated(&call, TRACE_ALIGNED, *block, size, align, family);
	} else {
		return false;
	}
	return true;
}

static NOINLINE void *allocate_large(size_t align, size_t size) {
	const enum region_kind kind = (enum region_kind)tcache_arena()->kind;
	void *block = large_alloc(size, align, false, kind);
	if (unlikely(block == NULL) && harden_reclaim(size)) block = large_alloc(size, align, false, kind);
	cache_hook_call(&cache_hooks.slow_moment);
	return block;
}

void *allocate_aligned(size_t align, size_t size, enum family family) {
	if (align <= MIN_ALIGN) return take_or_allocate(size, family);
	if (unlikely(size > PTRDIFF_MAX || align > PTRDIFF_MAX)) return NULL;
	/* Spans start at slice boundaries, so a block is aligned to whatever divides its class's size; the powers of two
	 * are all classes. */
	size_t rounded = ALIGN_UP(max_size(size, 1), align);
	const bool small = rounded <= SMALL_MAX;
	if (likely(small)) {
		const unsigned class_ = class_of_aligned(align, rounded);
		/* While the heap profile is on, allocate takes it from there. */
		struct tcache *tc = tcache_current;
		void *block = take_from(&tc->magazines[class_ & tc->class_mask]);
		if (likely(block != NULL)) return block;
		rounded = size_classes[class_].size;
	}
	ensure_started();
	void *block;
	if (unlikely(modes != 0) && allocate_aligned_in_mode(align, size, family, &block)) return block;
	if (small) return allocate(rounded, family);
	return profile_count(allocate_large(align, max_size(size, SMALL_MAX + 1)), size);
}

static void *aligned_or_enomem(size_t align, size_t size) {
	void *block = allocate_aligned(align, size, FAMILY_MALLOC);
	if (block == NULL) errno = ENOMEM;
	return block;
}

/* C17: the size need not be a multiple of the alignment. */
EXPORT void *PUBLIC(aligned_alloc)(size_t align, size_t size) {
	if (!is_power_of_two(align)) {
		errno = EINVAL;
		return NULL;
	}
	return aligned_or_enomem(align, size);
}

EXPORT int PUBLIC(posix_memalign)(void **block, size_t align, size_t size) {
	if (!is_power_of_two(align) || align % sizeof(void *) != 0) return EINVAL;
	int saved = errno;
	void *p = allocate_aligned(align, size, FAMILY_MALLOC);
	errno = saved;
	if (p == NULL) return ENOMEM;
	*block = p;
	return 0;
}
LIBC_NAME(__posix_memalign, posix_memalign);

/* As glibc: an alignment that is no power of two is rounded up to one. */
EXPORT void *PUBLIC(memalign)(size_t align, size_t size) {
	if (align > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	size_t power = MIN_ALIGN;
	while (power < align) power *= 2;
	return aligned_or_enomem(power, size);
}
LIBC_NAME(__libc_memalign, memalign);

EXPORT void *PUBLIC(valloc)(size_t size) {
	ensure_started();
	return aligned_or_enomem(os_page_size, size);
}
LIBC_NAME(__libc_valloc, valloc);

EXPORT void *PUBLIC(pvalloc)(size_t size) {
	ensure_started();
	if (size > PTRDIFF_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	return aligned_or_enomem(os_page_size, ALIGN_UP(max_size(size, 1), os_page_size));
}
LIBC_NAME(__libc_pvalloc, pvalloc);
