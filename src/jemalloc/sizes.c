#include "jemalloc/sizes.h"

#include "api/malloc.h"
#include "arena/huge.h"
#include "arena/large.h"
#include "base/conf.h"
#include "cache/sample.h"
#include "cache/slow_calls.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "jemalloc/made_arenas.h"
#include "jemalloc/thread.h"

size_t good_size(size_t size, size_t align) {
	size = max_size(size, 1);
	if (size > PTRDIFF_MAX - SLICE_SIZE || align > PTRDIFF_MAX / 2) return 0;
	if (unlikely(harden_is_on)) return size;
	const size_t rounded = ALIGN_UP(size, align);
	if (rounded <= SMALL_MAX) return size_classes[class_of_aligned(align, rounded)].size;
	size = max_size(size, SMALL_MAX + 1);
	const bool is_run = size <= RUN_MAX && align <= RUN_MAX && size <= (size_t)conf.mmap_threshold;
	return ALIGN_UP(size, is_run ? SLICE_SIZE : os_page_size);
}

/* Blocks above the threshold are mappings; the others are runs. */
static bool resize_there(void *block, size_t size) {
	struct span *s = span_of(block);
	if (s == NULL) return !guard_owns(block) && huge_resize_there(block, size);
	return size <= (size_t)conf.mmap_threshold && large_resize_run(s, size);
}

bool resize_in_place(void *block, size_t usable, size_t size, const char *function) {
	if (usable <= SMALL_MAX || size <= SMALL_MAX || front_behind_counting() != NULL) return false;
	const uint32_t number = made_take_out(block);
	sample_freed(block);
	const uint64_t begin = slow_call_begins();
	const bool done = resize_there(block, size);
	if (done) slow_call_ends(SLOW_REALLOC_LARGE, begin);
	const size_t now = usable_size(block, function);
	sample_allocated(block, done ? size : usable);
	if (number != 0) made_put_back(number, block, now);
	if (unlikely(thread_counts.counts) && now != usable) thread_count(now, usable);
	return done;
}
