/* Freed mappings that wait for the next huge block, so that a program which allocates and frees large buffers
 * does not pay for the same page faults again and again. All functions: owner huge lock.
 *
 * Any mapping serves any size: a longer one is cut, a shorter one is grown by mremap, which moves page
 * tables and copies nothing. So what is kept is not lost to fragmentation, and little of it goes a long
 * way. */
#ifndef ARENA_HUGE_CACHE_H
#define ARENA_HUGE_CACHE_H

#include "arena/policy.h"
#include "base/base.h"

struct mapping {
	char *address;
	size_t size; /* bytes, whole pages */
};

/* A mapping, and which mapping of the kernel's it is, or a part of: what has the same origin and lies side
 * by side is one to the kernel, and can be resized as one. What mremap has moved has an origin of its own:
 * beside others, it stays another mapping. */
struct piece {
	char *address;
	size_t size;
	uint32_t origin;
};

/* The kept mappings, oldest first, then entries of size 0. For struct arenal_layout. */
extern struct mapping huge_cache_entries[HUGE_CACHE_ENTRIES];

/* The first place in a mapping from which on `size` bytes with this alignment (a power of two, a page at
 * least) fit. NULL: there is none. */
static inline char *mapping_place(const char *address, size_t length, size_t size, size_t align) {
	const size_t before = -(uintptr_t)address & (align - 1);
	return before <= length && length - before >= size ? (char *)address + before : NULL;
}

/* Takes a mapping for `size` bytes out of the cache: one a little longer, or cut from a longer one, or a
 * shorter one that the caller grows. Address NULL when nothing is worth taking. */
struct piece huge_cache_take(size_t size);

/* The same for a mapping with an alignment of more than a page. It is never a shorter one: what mremap moves
 * lies anywhere. */
struct piece huge_cache_take_aligned(size_t size, size_t align);

/* Takes at least `min` and at most `max` bytes that lie right behind the block and have its origin, so
 * that it grows where it is. Returns how many; 0 when they are not in the cache. */
size_t huge_cache_take_behind(struct piece block, size_t min, size_t max);

/* Keeps the piece (size 0: none), and drops the oldest until all together are at most `limit` bytes. What
 * is dropped, the new one perhaps, is written to victims[HUGE_CACHE_ENTRIES + 1], for the caller to unmap
 * without the lock. Returns how many. */
size_t huge_cache_put(struct piece piece, size_t limit, struct mapping *victims);

/* Bytes in the cache. */
size_t huge_cache_bytes(void);

/* The least that was in it since the last call: what nobody needed. */
size_t huge_cache_least(void);

#endif
