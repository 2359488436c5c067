/* The page heap: hands out runs of slices from every region, and grows by the break or by mapping regions.
 *
 * One lock for all of it. Each arena has a kind of region that it prefers (the main arena the brk heap, the
 * others mapped regions), but free slices serve everybody before new memory is taken from the kernel. */
#ifndef ARENA_HEAP_H
#define ARENA_HEAP_H

#include <stdatomic.h>

#include "arena/region.h"

/* The longest run: above it, memory is mapped directly. A region, whose last slice stays unused, still packs
 * two of them. */
#define RUN_MAX ((REGION_SLICES - 1) / 2 * SLICE_SIZE)

struct heap_stats {
	size_t mapped, used, dirty; /* bytes */
	size_t spans, purging;      /* parts of `used`: in spans of small blocks; free, but being purged. The rest
	                               is in runs */
	size_t unsure;              /* free and not dirty, but the kernel may back it: it went lazily, or is part
	                               of a huge page */
	size_t brk_bytes, regions, metadata;
	uintptr_t brk_start, brk_end;
	uint64_t purged_total; /* bytes since the start */
};

/* Slices of a run that may hold what somebody left there. All others read as zero. */
struct stale {
	size_t slices;                    /* how many; when there are none, the map is not written */
	uint64_t map[REGION_SLICES / 64]; /* bit i: the i-th slice of the run */
};

/* A run of `slices`, its first slice's number a multiple of `align` slices (a power of two up to
 * REGION_SLICES). The record's start, slices and kind are set; *stale (NULL: nobody asks) tells what it may
 * hold. NULL when out of memory. */
struct span *heap_alloc(size_t slices, size_t align, enum region_kind preferred, enum span_kind kind,
                        struct stale *stale);

/* Takes the run back. Neighbouring free slices are one run again at once. Whoever calls it, or the next one
 * who frees, sees to heap_purge_due. */
void heap_free(struct span *run);

/* The same of one that was purged, as a whole. */
void heap_free_clean(struct span *run);

/* Are dirty slices to be purged by those who free? heap_purge_due does a piece of it (PURGE_PIECE). Without
 * any lock. */
extern _Atomic bool heap_purge_is_due;
void heap_purge_due(void);

/* All of it, piece by piece: for a call that frees as much at once, after which nobody may come by. */
void heap_purge_all_due(void);

/* A span of hardened blocks, as heap_alloc and heap_free: what lies before and behind it cannot be
 * accessed. */
struct span *heap_alloc_guarded(size_t slices, enum span_kind kind, struct stale *stale);
void heap_free_guarded(struct span *span);

/* The program changes how the kernel treats these addresses: the runs in there are altered. Returns whether
 * there are spans of small blocks, too. */
bool heap_alter(const void *address, size_t size);

/* Makes an altered run's memory like new, before it is freed. False when the kernel refuses: nobody can have
 * it. */
bool heap_renew(struct span *run);

/* Changes the length of a run in place. Growing fails (false, nothing changed) when the slices behind are in
 * use. */
bool heap_resize(struct span *run, size_t slices);

/* Gives dirty slices back to the kernel, and at once those that went lazily before. Returns the bytes given
 * back. */
size_t heap_purge(void);

/* Lowers the break as far as the top is free, but for `keep` bytes, and unmaps regions that are free, but for
 * one of each kind. What is free at the end of the others is charged to the process no more. Returns the
 * bytes given back. */
size_t heap_trim(size_t keep);

/* Trims without leaving anything: an allocation of `wanted` bytes is about to fail. The break is tried again
 * then, even if it was refused a moment ago. Where there is a cap, the reserved ends of regions stay as long
 * as so much can be mapped without them. */
void heap_release(size_t wanted);

/* Time goes by: when an interval is over, half of the dirty slices that nobody needed during all of it are
 * purged; and a region that was free and clean for some of them is unmapped, but for one of each kind.
 * `rests`: nobody is about to need any, so all of them are purged, whenever the interval ends. Returns the
 * dirty bytes that are left, or more than none when a region may be unmapped later. */
size_t heap_decay(bool rests);

/* Before slices that nobody else has, or pages in them, are purged: breaks up huge pages of which they are a
 * part. What else of these is free and clean is backed all the same, and counts as dirty from now on, so that
 * it goes back as well. Without the heap lock. */
void heap_break_huge(struct region *r, size_t first, size_t count);

void heap_count_purged(size_t bytes);
void heap_stats_get(struct heap_stats *out);

/* Bytes of slices that the kernel may back, holes included, and of records: what counts for the cap. */
size_t heap_backed_at_most(void);

/* The newest region; the others follow at ->next. */
struct region *heap_regions(void);

/* Around fork. */
void heap_lock(void);
void heap_unlock(void);

#endif
