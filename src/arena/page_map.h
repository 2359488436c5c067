/* From an address to what is there, in two forms.
 *
 * Invariant of tags: while a block of a small span is handed out, its slices have the tag of its class, or 0;
 * slices of nothing else have one. A tag is set before the first block is handed out, and taken back before
 * the slices serve anything else. free relies on it: behind a tag it looks at no record, and puts the block
 * into the magazine that the tag names. stress.mixed fails without.
 *
 * Tags: a flat table with one 16-bit tag per slice, for the fast path of free: one load. It covers a part of
 * the address space that begins where the break is at start-up: first room for the brk heap, then for mapped
 * regions, which are put there (place.h). Addresses elsewhere have tag 0. The table reads as zero, and only
 * the pages that describe regions are ever written. It takes 2 MiB of address space for the first 64 GiB, and
 * grows in place, by doubling, when regions come to lie behind that. A process with an address-space limit
 * (RLIMIT_AS) gets a smaller one, in proportion: 16 KiB for 20 MiB. A tag is the byte offset of the slice's
 * magazine in a thread cache (TAG_OF_CLASS); 0, the tag of every address that holds no small blocks, leads to
 * a magazine that is always full, and so to the slow path, which asks the second form. So what lies outside,
 * or cannot have a table at all, is slower to free, and nothing else. Until start-up, nothing is covered.
 *
 * Regions: a radix tree of two levels over the 64 MiB windows, for the slow paths. Exact for every 64-bit
 * value.
 *
 * Regions are written under the heap lock, tags by who makes or frees a span; both are read without a lock:
 * what belongs to a block is in place before the block is handed out. */
#ifndef ARENA_PAGE_MAP_H
#define ARENA_PAGE_MAP_H

#include <stdatomic.h>

#include "arena/size_class.h"

struct region;

#define TAG_SHIFT 5
#define TAG_OF_CLASS(c) ((uint16_t)((c) << TAG_SHIFT))

/* A cache line of its own: every free reads it, and nothing near it may be written. Known to be hidden, its
 * members need no address in a register. Written at start-up; later, `length` grows, under the heap lock. */
struct page_map {
	uint16_t *tags;
	uintptr_t base; /* the first address that the table covers, a multiple of REGION_SIZE */
	size_t covered; /* slices, whole regions: the length; or 0, so that each free takes its slow path
	                   (page_map_lead). Compilers are not told that it changes: comparing with an atomic one
	                   takes them an instruction more */
	/* What C++'s operators look at instead (api/operators.h): the same, and a limit of sizes. Both are 0, so
	 * that they take their slow path, until they set them. Here, because they read this line anyway. */
	size_t derived_covered;
	size_t derived_limit;
	_Atomic uint64_t mark; /* of free blocks, see mark.h. Here for the same reason. Written at start-up, while
	                          other threads may be in their first malloc */
	size_t length;         /* slices that the table has. It only grows */
} __attribute__((aligned(CACHE_LINE)));
extern struct page_map page_map __attribute__((visibility("hidden")));

/* `covered`: of page_map, one of the three. */
static inline __attribute__((always_inline)) uint16_t page_map_tag_among(const void *p,
                                                                         const size_t *covered) {
	const size_t slice = ((uintptr_t)p - page_map.base) >> SLICE_SHIFT;
	if (unlikely(slice >= *covered)) return 0;
	return page_map.tags[slice];
}

static inline uint16_t page_map_tag(const void *p) { return page_map_tag_among(p, &page_map.covered); }

void page_map_init(void);

/* Covers the addresses below `end`, too. False when that is too far, or out of memory. Under the heap
 * lock. */
bool page_map_cover(uintptr_t end);

/* false: no address leads a free to a magazine any more; a free that has begun may be in the middle. true: as
 * before. Under the heap lock. */
void page_map_lead(bool lead);

/* Operators may use what is covered, for sizes below the limit. */
void page_map_let_derived(size_t limit);

/* Makes tags of the region at `base` writable. False when out of memory: nothing changed. */
bool page_map_commit(uintptr_t base);

void page_map_set_tags(uintptr_t address, size_t slices, uint16_t tag);

#define LEVEL_BITS 11
#define LEVEL_SIZE ((size_t)1 << LEVEL_BITS)
static_assert(REGION_SHIFT + 2 * LEVEL_BITS >= ADDRESS_BITS, "two levels reach every region");
typedef _Atomic(struct region *) page_map_leaf;
extern _Atomic(page_map_leaf *) page_map_root[LEVEL_SIZE] __attribute__((visibility("hidden")));

/* The region that describes the window around `address`, NULL when there is none. */
static inline struct region *page_map_region(uintptr_t address) {
	const uintptr_t number = address >> REGION_SHIFT, upper = address >> (REGION_SHIFT + LEVEL_BITS);
	if (unlikely(upper >= LEVEL_SIZE)) return NULL;
	page_map_leaf *leaf = atomic_load_explicit(&page_map_root[upper], memory_order_acquire);
	if (unlikely(leaf == NULL)) return NULL;
	return atomic_load_explicit(&leaf[number & (LEVEL_SIZE - 1)], memory_order_acquire);
}
bool page_map_set_region(uintptr_t base, struct region *region);

#endif
