/* Sizes that come with a block (sized.c), and when realloc leaves a block where it is, which they depend
 * on. */
#ifndef API_SIZED_H
#define API_SIZED_H

#include "base/base.h"

struct claim;

/* A shrinking block stays where it is while it fills more than half of its place. */
static inline bool still_fits(size_t size, size_t usable) { return size <= usable && size >= usable / 2; }

/* release_sized, for blocks that realloc may have left longer than their size needs. */
void release_resized(void *block, size_t align, size_t size, const struct claim *claim);

#endif
