/* malloc_usable_size, and how long any block is. */
#include "api/malloc.h"
#include "arena/huge.h"
#include "arena/report.h"
#include "arena/zero.h"
#include "harden/guard.h"

EXPORT size_t PUBLIC(malloc_usable_size)(void *block) {
	return block != NULL ? usable_size(block, "malloc_usable_size") : 0;
}

NOINLINE size_t usable_size_of_place(void *block, const char *function) {
	const struct span *s = span_of(block);
	if (s == NULL && zero_owns(block)) {
		zero_family(block, function);
		return 0;
	}
	if (s == NULL) {
		size_t size = huge_size(block);
		if (size == 0) size = guard_size(block);
		if (unlikely(size == GUARD_NONE)) report_pointer(function, block, NULL);
		return size;
	}
	if (s->kind == SPAN_SMALL) {
		check_small(s, block, function);
		return size_classes[s->class_].size;
	}
	if (unlikely(s->start != block || s->kind != SPAN_RUN)) report_pointer(function, block, NULL);
	return s->slices * SLICE_SIZE;
}

NOINLINE size_t usable_size_slow(void *block, const char *function) {
	const struct front *instead = front_instead();
	if (unlikely(instead != NULL)) return instead->usable_size(block, function);
	return usable_size_of_place(block, function);
}
