/* What the files of the page heap share, and nobody else includes: heap.c (which slices a run gets),
 * heap_grow.c (where new ones come from), heap_decay.c (dirty ones go back by time and by limits),
 * heap_trim.c (the break goes down, regions are unmapped), heap_guarded.c (spans between guards),
 * heap_stats.c. */
#ifndef ARENA_HEAP_INNER_H
#define ARENA_HEAP_INNER_H

#include <stdatomic.h>

#include "arena/heap.h"
#include "arena/holes.h"
#include "arena/page_map.h"
#include "arena/policy.h"
#include "arena/thp.h"
#include "arena/wave.h"
#include "base/bitmap.h"
#include "base/cap.h"
#include "base/conf.h"
#include "base/lock.h"
#include "base/node.h"

/* Owner: the lock, but where it says otherwise. It comes first: the lock and what each call touches share a
 * cache line. */
struct page_heap {
	struct lock lock;
	struct region *with_free[3];      /* by kind: regions with free slices */
	struct region *spare;             /* records of regions that were unmapped */
	_Atomic(struct region *) regions; /* all */
	struct heap_stats stats;
	struct wave wave;
	size_t spared;      /* dirty bytes that the last look over all of them left: scraps of huge pages, and
	                       what the kernel refused to take, as it does for locked memory */
	size_t guarded;     /* guarded spans in use */
	uint32_t near;      /* of the running call: 1 + the node whose slices are taken; 0: of any */
	size_t backed;      /* bytes of what heap_take took last that the kernel may have backed already: the cap
	                       counts them since then */
	bool refused;       /* in the running interval, by the kernel: whoever frees need not try it each time */
	bool any_lazy;      /* slices were purged lazily, ever */
	bool any_idle;      /* regions are free that will be unmapped if that lasts */
	bool scarce;        /* no region could be mapped when that was tried last */
	bool try_due;       /* it is time to try */
	size_t least_dirty; /* least dirty bytes in the running interval: nobody needed these */
	/* What those who free are to do, piece by piece (heap_purge_due): */
	bool trim_due;     /* lower the break */
	bool idle_due;     /* unmap a region that was free for long */
	size_t due;        /* bytes to purge */
	size_t settled;    /* of the dirty bytes, those that the last pieces were long enough for */
	size_t top_purged; /* bytes that went from the top, before the break goes down over them */
	/* Of with_free: where the last search stopped that took too long. And the region that grew last. */
	struct region *resume[3], *grown;
	struct region *extended; /* opened further last, or where the last search for such a one stopped */
	struct region *purged;   /* where the last piece of a purge ended */
};
extern struct page_heap heap __attribute__((visibility("hidden")));

/* All functions here are called under the lock. Those that drop it meanwhile say so. */

/* Bytes in use, without the holes in them. */
static inline size_t heap_backed(void) {
	return heap.stats.used -
	       min_size(atomic_load_explicit(&holes_bytes, memory_order_relaxed), heap.stats.used);
}

/* May slices of the region be taken in this call? */
static inline bool region_is_near(const struct region *r) {
	return likely(heap.near == 0) || r->node + 1 == heap.near;
}

/* The list of regions of a kind that have free slices. */
void region_link(struct region *r);
void region_unlink(struct region *r);

/* The free slices at the end of window r, up to slice `end`: the first of them. */
size_t region_free_tail(const struct region *r, size_t end);

/* ---- heap.c ---- */

/* Hands out these slices, which are free, and tells in *stale (NULL: nobody asks) what they may hold. */
struct span *heap_take(struct region *r, size_t first, size_t slices, struct stale *stale);

/* Takes slices back. */
void heap_put(struct region *r, size_t first, size_t count, bool dirty);

/* A run in a region of the kind, of dirty slices or of any that are free. NULL: there is none, or not among
 * the regions that one call looks at. heap_take_any looks at all: for who fails otherwise. */
struct span *heap_take_any(enum region_kind kind, size_t slices, size_t align, bool dirty,
                           struct stale *stale);
struct span *heap_take_free(enum region_kind kind, size_t slices, size_t align, bool dirty,
                            struct stale *stale);

/* ---- heap_grow.c ---- */

/* New slices of the kind, at least so many in a row. False: the kernel gives none. */
bool heap_grow(enum region_kind kind, size_t slices);

/* Slices from `at` on, behind all that is in use in the region: the break goes up, or the region is opened
 * further, until so many are free there. False: something else lies there, or the kernel gives none. */
bool heap_grow_behind(struct region *r, size_t at, size_t slices);

/* Asks the kernel: can so many bytes (whole pages) be mapped, and a page of them be opened? */
bool heap_can_map(size_t size);

/* Asks the kernel whether a region could be mapped, and notes the answer in heap.scarce. */
void heap_try_to_map(void);

/* Forgets slices that are free and about to go back to the kernel. */
void heap_remove_slices(struct region *r, size_t first, size_t count);

/* Nothing is mapped there any more, or is about to be. */
void heap_forget_region(struct region *r);

/* Of a region that is not guarded, no more is accessible than is used, and charged to the process where the
 * kernel does not promise more than it has (vm.overcommit_memory): it grows like the break does, by what
 * there is already, from COMMIT_LEAST to COMMIT_MOST. So its mapping is two to the kernel, as with a
 * guard. */
/* the last slice stays inaccessible: what overflows there ends, not in the next region */
#define REGION_OPEN (REGION_SLICES - 1)

/* ---- heap_trim.c ---- */

/* Lowers the break over the free top when that is longer than `threshold`, but for `keep` bytes of it. After
 * work for `most` bytes, the rest stays due. Returns the bytes that went back to the kernel. Dirty pages go
 * first, for the lock is dropped over these. */
size_t heap_lower_break(size_t threshold, size_t keep, size_t most);

/* Free bytes below the break that may stay. */
size_t heap_trim_threshold(void);

/* Is there more to trim than the threshold, now that the slices from `first` on are free? Asks the kernel
 * nothing. */
bool heap_trim_is_due(const struct region *r, size_t first);

/* Unmaps a region that has been free and clean for long, unless it is the only such one of its kind: a
 * program may need one again and again. The lock is dropped meanwhile. */
void heap_unmap_idle(void);

/* ---- heap_decay.c ---- */

/* For who has freed something: notes what time and the limit say. */
void heap_note_due(uint64_t now);

/* The free top is longer than may stay. */
void heap_note_trim(void);

/* Purges the dirty slices [first, end), until some of them are not dirty any more, and adds the bytes to
 * *total. False: a fork is under way. The lock is dropped meanwhile. */
bool heap_purge_slices(struct region *r, size_t first, size_t end, bool lazily, size_t *total);

/* For walks over all regions, with each: drops the lock and takes it again, now and then. */
#define HEAP_LOOK 16 /* regions that are looked at in one hold: a microsecond or two */
void heap_pause(size_t *looked);

#endif
