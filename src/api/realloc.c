/* realloc, reallocarray and malloc_usable_size. */
#include "api/api.h"
#include "arena/huge.h"
#include "arena/large.h"
#include "arena/report.h"
#include "base/conf.h"
#include "harden/guard.h"

#include <string.h>

size_t usable_size(const void *block) {
	if (block == NULL) return 0;
	uint16_t tag = page_map_tag(block);
	if (likely(tag != 0)) return size_classes[tag >> TAG_SHIFT].size;
	const struct span *s = span_of(block);
	if (s == NULL) {
		size_t size = huge_size(block);
		if (size == 0) size = guard_size(block);
		if (unlikely(size == GUARD_NONE)) report_bad_free(block, "is not a block");
		return size;
	}
	if (s->kind == SPAN_SMALL) return size_classes[s->class_].size;
	if (unlikely(s->start != block || s->kind != SPAN_RUN))
		report_bad_free(block, s->start != block ? "is not the start of a block" : "was freed already");
	return s->slices * SLICE_SIZE;
}

EXPORT size_t PUBLIC(malloc_usable_size)(void *block) { return usable_size(block); }

/* A shrinking block stays where it is while it fills more than half of its place. */
static bool still_fits(size_t size, size_t usable) { return size <= usable && size >= usable / 2; }

/* Programs do not expect that a block cannot be made smaller: without memory for a copy it stays as long as it is. */
static void *move(void *block, size_t size, size_t usable) {
	int saved = errno;
	void *moved = PUBLIC(malloc)(size);
	if (moved == NULL) {
		if (size > usable) return NULL;
		errno = saved;
		return block;
	}
	memcpy(moved, block, min_size(size, usable));
	PUBLIC(free)(block);
	return moved;
}

EXPORT void *PUBLIC(realloc)(void *block, size_t size) {
	if (block == NULL) return PUBLIC(malloc)(size);
	if (size == 0) { /* as glibc does */
		PUBLIC(free)(block);
		return NULL;
	}
	size_t usable = usable_size(block);
	if (still_fits(size, usable)) return block;
	if (usable <= SMALL_MAX || size <= SMALL_MAX || guard_owns(block)) return move(block, size, usable);
	struct span *s = span_of(block);
	if (s != NULL) return large_resize_run(s, size) ? block : move(block, size, usable);
	/* A mapping stays a mapping until it is small: the kernel moves its pages, nothing is copied. */
	if (size <= usable && size < (size_t)conf.mmap_threshold / 2) return move(block, size, usable);
	void *moved = huge_resize(block, size);
	/* The kernel may refuse to resize (vm.max_map_count) and still have memory. */
	return moved != NULL ? moved : move(block, size, usable);
}

EXPORT void *PUBLIC(reallocarray)(void *block, size_t count, size_t size) {
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(count, size, &bytes))) {
		errno = ENOMEM;
		return NULL;
	}
	return PUBLIC(realloc)(block, bytes);
}
