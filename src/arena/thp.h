/* Transparent huge pages. A large heap that is read at random spends much of its time on the way from an
 * address to its memory, and a heap that grows spends it on page faults: with pages of 2 MiB there is one of
 * them where there were 512.
 *
 * A huge page is resident as a whole, so only dense memory is worth one: stretches of clean slices are asked
 * for when the heap is large and begins to use them, which the page heap does from their low end. A huge page
 * is broken up only when a share of it goes back at once. The kernel would make it whole again soon, with
 * memory that nobody needs: its region gets small pages from then on, until a stretch of it is clean
 * again. */
#ifndef ARENA_THP_H
#define ARENA_THP_H

#include <stdatomic.h>

#include "arena/policy.h"
#include "arena/region.h"
#include "base/conf.h"

#define HUGE_PAGE (2 * MIB)
#define HUGE_PAGE_SLICES (HUGE_PAGE / SLICE_SIZE)
static_assert(REGION_SIZE / HUGE_PAGE <= 32, "region.huge_pages has a bit for each");
static_assert(THP_STRETCH % HUGE_PAGE == 0, "a stretch is whole huge pages");
static_assert(HUGE_PAGE_SLICES / THP_SHARE > 0, "a share of a huge page is some slices");

static inline bool thp_wanted(size_t used) {
	const int64_t thp = conf.thp;
	return thp > 0 || (thp < 0 && used >= THP_MIN);
}

/* At start-up, before the heap has memory: opens a file. */
void thp_start(void);

/* Memory that is new. Where the system gives huge pages unasked, they are declined for now: what is purged
 * would come back soon. */
void thp_decline(uintptr_t start, size_t size);

/* Declines huge pages for what the break has gained. Not before there is room for a huge page, for most heaps
 * are smaller; from then on each step before it is touched, or it would stay a mapping of its own to the
 * kernel. Under the heap lock. */
void thp_decline_brk(uintptr_t start, uintptr_t end);

/* A block with a mapping of its own, whose owner gets what the system gives, unless the tunable says that
 * there are none. */
static inline void thp_decline_block(const void *block, size_t size) {
	if (unlikely(conf.thp == 0) && size >= HUGE_PAGE) thp_decline((uintptr_t)block, size);
}

/* Under the heap lock: asks for huge pages if `first` lies in a clean stretch that is worth them. */
void thp_ask(struct region *r, size_t first);

/* Under the heap lock: shortens a dirty run that is to be purged by those parts of huge pages at its ends
 * that are too little to break these up. Returns the slices that are left. */
size_t thp_spare(const struct region *r, size_t *first, size_t count);

/* Before the slices, or pages in them, are purged: what is part of a huge page, and not all of it, breaks
 * that up. Returns a bit for each one that was broken. */
uint32_t thp_break(struct region *r, size_t first, size_t count);

/* The slices are not ours any more. */
void thp_forget(struct region *r, size_t first, size_t count);

/* Is the slice part of a huge page? */
static inline bool thp_covers(const struct region *r, size_t slice) {
	return atomic_load_explicit(&r->huge_pages, memory_order_relaxed) >> (slice / HUGE_PAGE_SLICES) & 1;
}

#endif
