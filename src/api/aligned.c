/* Blocks with an alignment: aligned_alloc and its older relatives. */
#include "api/malloc.h"
#include "arena/pressure.h"
#include "base/os.h"
#include "harden/harden.h"

/* The class of a small block; 0: it is no small one. Spans start at slice boundaries, so a block is aligned
 * to whatever divides its class's size; the powers of two are all classes. */
static inline unsigned class_of(size_t align, size_t size) {
	const size_t rounded = ALIGN_UP(max_size(size, 1), align);
	return likely(rounded <= SMALL_MAX) ? class_of_aligned(align, rounded) : 0;
}

static NOINLINE void *aligned_large(size_t align, size_t size) {
	const size_t bytes = max_size(size, SMALL_MAX + 1);
	void *block = tcache_alloc_large(bytes, align, false);
	if (unlikely(block == NULL) && harden_reclaim(bytes)) block = tcache_alloc_large(bytes, align, false);
	if (unlikely(block == NULL)) pressure_failed();
	return sample_allocated(block, size);
}

NOINLINE void *allocate_aligned(size_t align, size_t size, enum family family) {
	if (align <= MIN_ALIGN) {
		void *block = malloc_fast(size, TABLE_MAX + 1);
		return likely(block != NULL) ? block : malloc_medium(size, family);
	}
	if (unlikely(size > PTRDIFF_MAX || align > PTRDIFF_MAX)) return NULL;
	const unsigned class_ = class_of(align, size);
	if (likely(class_ != 0)) {
		/* While the heap profile is on, malloc_medium takes it from there. */
		struct tcache *tc = tcache_current;
		void *block = magazine_take(tc, TAG_OF_CLASS(class_ & tc->class_mask));
		if (likely(block != NULL)) return block;
	} else if (align <= SLICE_SIZE) {
		void *block = take_run(max_size(size, SMALL_MAX + 1));
		if (likely(block != NULL)) return block;
	}
	ensure_started();
	const struct front *instead = front_instead();
	if (unlikely(instead != NULL)) return instead->allocate_aligned(align, size, family);
	return class_ != 0 ? malloc_medium(size_classes[class_].size, family) : aligned_large(align, size);
}

void *plain_allocate_aligned(size_t align, size_t size, enum family family) {
	const unsigned class_ = class_of(align, size);
	return class_ != 0 ? plain_allocate(size_classes[class_].size, family) : aligned_large(align, size);
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
