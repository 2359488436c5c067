/* mallocx and its relatives: malloc's functions with flags (flags.h). */
#include "api/malloc.h"
#include "api/sized.h"
#include "arena/clear.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "harden/misuse.h"
#include "jemalloc/flags.h"
#include "jemalloc/jemalloc.h"
#include "jemalloc/made_arenas.h"
#include "jemalloc/sizes.h"
#include "jemalloc/thread.h"

#include <string.h>

/* ---- sizes ---- */

EXPORT size_t PUBLIC(nallocx)(size_t size, int flags) {
	ensure_started();
	/* Who uses this for blocks of malloc uses more of them than he asked for. */
	guard_round_sizes();
	return good_size(size, flags_align(flags));
}

EXPORT size_t PUBLIC(sallocx)(const void *block, int flags) {
	(void)flags;
	return usable_size((void *)block, "sallocx");
}

/* ---- a block ---- */

/* Any alignment; reads as zero. Large blocks start at a page, and calloc knows which of them are clean. */
static void *allocate_zeroed(size_t size, size_t align) {
	if (align <= MIN_ALIGN || (size > SMALL_MAX && align <= os_page_size)) {
		void *block = calloc_slow(size);
		if (block == NULL || (uintptr_t)block % align == 0) return block;
		CLAIM(claim, "mallocx", FAMILY_MALLOC);
		release(block, &claim);
	}
	void *block = allocate_aligned(align, size, FAMILY_MALLOC);
	return block != NULL ? memset(block, 0, size) : NULL;
}

/* All that is usable of it reads as zero, for rallocx to go on with: a kept mapping may be longer. */
static void *clear_rest(void *block, size_t size) {
	const size_t usable = block != NULL ? usable_size(block, "mallocx") : size;
	if (unlikely(usable > size)) memset((char *)block + size, 0, usable - size);
	return block;
}

static void *allocate_from(uint32_t number, size_t size, size_t align, bool zero) {
	void *block = made_allocate(number, size, align, zero, FAMILY_MALLOC);
	if (block != NULL && unlikely(thread_counts.counts)) thread_count(usable_size(block, "mallocx"), 0);
	return block;
}

static NOINLINE void *allocate_by(size_t size, int flags) {
	ensure_started();
	const size_t align = flags_align(flags), good = good_size(size, align);
	const uint32_t number = flags_arena(flags);
	void *block;
	if (good == 0) return NULL;
	if (unlikely(number != ARENA_OF_THREAD && arena_by_number(number) != NULL))
		block = allocate_from(number, good, align, flags_zero(flags));
	else if (flags_zero(flags))
		block = allocate_zeroed(good, align);
	else
		return allocate_aligned(align, good, FAMILY_MALLOC);
	return flags_zero(flags) ? clear_rest(block, good) : block;
}

EXPORT void *PUBLIC(mallocx)(size_t size, int flags) {
	/* The class's size is what it has, but for guarded blocks, which come from the slow path. */
	void *block = likely((flags & ~(FLAGS_CACHE_MASK << FLAGS_CACHE_SHIFT)) == 0)
	                  ? malloc_fast(size, TABLE_MAX + 1)
	                  : NULL;
	return likely(block != NULL) ? block : allocate_by(size, flags);
}

/* ---- and back ---- */

EXPORT void PUBLIC(dallocx)(void *block, int flags) {
	CLAIM(claim, "dallocx", FAMILY_MALLOC);
	(void)flags;
	release(block, &claim);
}

/* The size is what was asked for, or anything up to what that gave. */
EXPORT void PUBLIC(sdallocx)(void *block, size_t size, int flags) {
	CLAIM(claim, "sdallocx", FAMILY_MALLOC);
	if (likely(!harden_is_on && misuse_of_size() == MISUSE_IGNORE))
		release(block, &claim);
	else
		release_resized(block, flags_align(flags), size, &claim);
}

/* ---- another size ---- */

/* Elsewhere. The old block stays when there is no memory. */
static void *move(void *block, size_t usable, size_t size, int flags) {
	CLAIM(claim, "rallocx", FAMILY_MALLOC);
	void *moved = allocate_by(size, flags);
	if (moved == NULL) return NULL;
	memcpy(moved, block, min_size(size, usable));
	release(block, &claim);
	return moved;
}

/* With zero, the program had the block's usable bytes zeroed before, and writes to what it asked for. */
static void *clear_new(void *block, size_t old) {
	const size_t usable = usable_size(block, "rallocx");
	if (usable <= old) return block;
	char *from = (char *)block + old;
	const size_t page = ALIGN_UP((uintptr_t)from, os_page_size) - (uintptr_t)from;
	memset(from, 0, min_size(page, usable - old));
	if (usable - old > page) {
		const bool large = usable - old - page >= CLEAR_LOOK_FROM && !harden_is_on;
		if (large)
			clear_stale(from + page, usable - old - page, true);
		else
			memset(from + page, 0, usable - old - page);
	}
	return block;
}

EXPORT void *PUBLIC(rallocx)(void *block, size_t size, int flags) {
	ensure_started();
	const size_t align = flags_align(flags), good = good_size(size, align);
	const uint32_t number = flags_arena(flags);
	if (good == 0) return NULL;
	const size_t usable = usable_size(block, "rallocx");
	const bool fits = (uintptr_t)block % align == 0 && still_fits(good, usable);
	if (fits && !harden_is_on) return block;
	if (align > MIN_ALIGN || number != ARENA_OF_THREAD) {
		void *moved = move(block, usable, size, flags);
		return moved == NULL && good <= usable && (uintptr_t)block % align == 0 ? block : moved;
	}
	void *moved = PUBLIC(realloc)(block, good);
	return moved != NULL && flags_zero(flags) ? clear_new(moved, usable) : moved;
}

EXPORT size_t PUBLIC(xallocx)(void *block, size_t size, size_t extra, int flags) {
	ensure_started();
	const size_t align = flags_align(flags), usable = usable_size(block, "xallocx");
	const size_t most = good_size(extra <= PTRDIFF_MAX - size ? size + extra : size, align);
	const size_t least = good_size(size, align);
	if ((uintptr_t)block % align != 0 || least == 0 || most == 0) return usable;
	if (usable >= least && usable <= most) return usable;
	if (!resize_in_place(block, usable, most, "xallocx") && usable < least)
		resize_in_place(block, usable, least, "xallocx");
	const size_t now = usable_size(block, "xallocx");
	if (flags_zero(flags) && now > usable) clear_new(block, usable);
	return now;
}
