/* The flags of mallocx and its relatives: one int, which programs put together by jemalloc's macros. */
#ifndef JEMALLOC_FLAGS_H
#define JEMALLOC_FLAGS_H

#include "base/base.h"

#define FLAGS_LG_ALIGN 0x3f /* the alignment's logarithm; 0: any */
#define FLAGS_ZERO 0x40
#define FLAGS_CACHE_SHIFT 8 /* 0: the thread's own; 1: none; from 2 on: a cache by its number */
#define FLAGS_CACHE_MASK 0xfff
#define FLAGS_ARENA_SHIFT 20 /* 0: the thread's; else the arena's number, plus 1 */

#define ARENA_OF_THREAD UINT32_MAX

static inline size_t flags_align(int flags) {
	const size_t align = (size_t)1 << (flags & FLAGS_LG_ALIGN);
	return align < MIN_ALIGN ? MIN_ALIGN : align;
}

static inline bool flags_zero(int flags) { return (flags & FLAGS_ZERO) != 0; }

/* The arena's number, or ARENA_OF_THREAD. */
static inline uint32_t flags_arena(int flags) { return ((uint32_t)flags >> FLAGS_ARENA_SHIFT) - 1; }

#endif
