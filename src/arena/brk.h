/* The brk heap: the part of the main arena's memory that sbrk gave us. Its functions are called under the
 * heap lock. */
#ifndef ARENA_BRK_H
#define ARENA_BRK_H

#include "base/base.h"

struct brk_range {
	uintptr_t start, end; /* multiples of the slice size; start == end: nothing */
};

/* Raises the break by at least `bytes` and, if it can, `pad` more (multiples of the slice size). Returns the
 * whole slices that are new; nothing when brk is limited, blocked, or used up. */
struct brk_range brk_grow(size_t bytes, size_t pad);

/* After a refusal, brk_grow refuses the next requests by itself; from now on it tries again. */
void brk_forget_refusals(void);

/* Lowers the break to `end`, if nobody else moved it since we raised it. */
bool brk_shrink(uintptr_t end);

/* The end of our newest memory, when the break is still there; 0 otherwise. */
uintptr_t brk_top(void);

/* From our first to our newest byte (somebody else's memory may lie between); {0, 0} before the first. */
struct brk_range brk_extent(void);

#endif
