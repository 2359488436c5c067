/* Large blocks, above SMALL_MAX: runs of slices up to mmap_threshold, huge blocks beyond it. */
#ifndef ARENA_LARGE_H
#define ARENA_LARGE_H

#include "arena/region.h"

/* A block of at least `size` bytes (any size; > PTRDIFF_MAX fails), aligned to `align` (a power of two).
 * Reads as zero when `zero`; memory that the kernel has just zeroed is not cleared again. NULL when out of
 * memory. */
void *large_alloc(size_t size, size_t align, bool zero, enum region_kind preferred);

/* Makes a run fit `size` bytes (> SMALL_MAX) where it lies. False when that needs another place. */
bool large_resize_run(struct span *run, size_t size);

#endif
