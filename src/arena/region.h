/* Regions and spans: the records of a 64 MiB window of the address space, kept outside the window itself. */
#ifndef ARENA_REGION_H
#define ARENA_REGION_H

#include <stdatomic.h>

#include "arena/page_map.h"

struct bin;

enum span_kind {
	SPAN_NONE,      /* free slices, the inside of a run, or memory that is not ours */
	SPAN_SMALL,     /* first slice of a span of small blocks */
	SPAN_CONTINUED, /* later slice of a span of small blocks */
	SPAN_RUN,       /* first slice of a run that is one large block */
	SPAN_KEPT,      /* the same, freed: it waits in a thread's cache, or on a shelf */
};

/* One slice or several that are used together: blocks of one size class, or one large block. */
struct span {
	struct span *next, *prev; /* small: in the list of the bin's partly used spans. Owner: bin->lock */
	struct bin *bin; /* small: whom the blocks go back to; NULL: about to be freed, or none. See span_bin */
	char *start;
	uint64_t *free_blocks; /* small: bit i is set when block i is free. Owner: bin->lock */
	uint16_t free_count;   /* small: bits set there */
	uint16_t slices;
	union {
		uint16_t head;       /* continued: how many slices before this one the span starts */
		uint16_t home;       /* run: 1 + the number of the arena that it was taken for; 0: of none. See
		                        shelf.h. Owner: the thread that has the block */
		uint16_t marked_end; /* small: see bare.h. Owner: bin->lock */
	};
	uint16_t bare;   /* small, and each of its slices has its own: bit i is set when the free blocks on page i
	                    of the slice have no mark, see bare.h. Owner: bin->lock */
	uint8_t scan;    /* small: no bit of free_blocks is set in words before this one */
	uint8_t kind;    /* enum span_kind */
	uint8_t class_;  /* small: size class */
	uint8_t touched; /* small: tick of the last block that came back; 0: no page to purge since the last
	                    look. Changed by span_touch and span_leave_alone. Owner: bin->lock */
	union {
		struct {             /* small. Owner: bin->lock */
			bool listed : 1; /* in the bin's list */
			bool away : 1;   /* being purged, out of the list until that is done */
			bool lazy : 1;   /* some of the purged pages went lazily: they may still be in memory */
			bool backed : 1; /* all of its pages were in memory when it was made, or will be with the first */
			bool clean : 1;  /* all of it read as zero then, and what is bare does still, or was purged */
			bool begun_reads_zero : 1; /* see bare.h */
			bool awaited : 1;          /* a walk over the bin's list may go on with it (bin_go_on) */
		};
		bool altered; /* run: the program changed how the kernel treats it, so that the next owner cannot have
		                 it like that. Owner: the thread that has the block */
	};
	bool hard;       /* small: hardened, see hard_span.h */
	bool sampled;    /* small: of an arena apart, so without a tag; most such blocks are samples */
	uint64_t purged; /* small: bit i is set when page i (of PURGE_PAGE bytes) went back to the kernel and no
	                    block on it was handed out since. Owner: bin->lock */
};
#define SPAN_SHIFT 6
static_assert(sizeof(struct span) == 1 << SPAN_SHIFT && sizeof(struct span) <= CACHE_LINE,
              "a span's record is one cache line");

/* The grain of span.purged and span.bare. On kernels with larger pages, those of a page are purged
 * together. */
#define PURGE_PAGE ((size_t)4096)
#define SLICE_PAGES (SLICE_SIZE / PURGE_PAGE)
static_assert(SLICE_PAGES == 16, "span.bare has a bit for each page of a slice");
static_assert(SPAN_BLOCKS_MAX / 64 <= UINT8_MAX, "span.scan counts the words of a bitmap");

enum region_kind {
	REGION_MAPPED,  /* from mmap */
	REGION_BRK,     /* a window that the brk heap reaches into */
	REGION_GUARDED, /* from mmap, in hardened mode: free slices are inaccessible, and so is one before and
	                   after each span */
};

/* The first fields are read by tools/arenal from outside: their order is part of struct arenal_layout's
 * version. Records are never unmapped: who looks an address up without a lock may have one in hand whose
 * region is gone. It serves the next region then. */
struct region {
	struct region *next;                  /* of all regions; written once */
	uintptr_t base;                       /* without a slice of ours, the last one */
	uint32_t kind;                        /* enum region_kind */
	uint32_t slices_total;                /* slices that are ours. This and what follows: owner heap lock */
	uint32_t slices_used;                 /* in spans and runs */
	uint32_t slices_dirty;                /* free, but the kernel still backs them */
	uint32_t run_bound;                   /* no free run is longer than this */
	_Atomic uint32_t huge_pages;          /* bit i: the i-th 2 MiB were asked to be a huge page, and not
	                                         broken up since */
	_Atomic bool huge_asked;              /* the kernel makes huge pages of them; both: see thp.h. Changed
	                                         without a lock, too */
	struct region *next_free, *prev_free; /* in the list of regions with free slices, or of records that wait
	                                         for the next region */
	uint32_t node;                        /* whose threads it was opened for (base/node.h) */
	bool whole;                           /* all of the window is one mapping of ours, and the page behind
	                                         it */
	uint16_t committed;                   /* of such a one, not guarded: slices from its start on that are
	                                         accessible; the others are reserved */
	uint16_t idle;                        /* intervals for which all of it was free and clean */
	uint64_t ours[REGION_SLICES / 64];    /* slices that are ours at all: in a brk window, not all are */
	uint64_t free[REGION_SLICES / 64];
	uint64_t dirty[REGION_SLICES / 64];  /* free slices that the kernel backs */
	uint64_t lazy[REGION_SLICES / 64];   /* free slices that were purged lazily; all other clean ones read as
	                                        zero */
	uint64_t starts[REGION_SLICES / 64]; /* first slices of mappings shorter than a region, */
	uint64_t ends[REGION_SLICES / 64];   /* and their last ones: a page of ours that nobody may touch lies
	                                        behind */
	/* Bit i is set while a span begins at slice i whose `touched` is not 0: so a look finds these without all
	 * others. Each under its bin's lock; words have those of several bins. */
	_Atomic uint64_t touched[REGION_SLICES / 64];
	struct span spans[REGION_SLICES] __attribute__((aligned(CACHE_LINE)));
	/* Bitmaps of spans, by their first slice: see region_bitmap. */
	uint64_t few_blocks[REGION_SLICES][CACHE_LINE / sizeof(uint64_t)];
	uint64_t many_blocks[REGION_SLICES][SPAN_BLOCKS_MAX / 64];
};

/* Where the bitmap of a span lies that begins at this slice. Most spans have few blocks, and bitmaps of a
 * cache line, 64 on a page: if each had room for the most blocks, a page would be in memory for eight. */
static inline uint64_t *region_bitmap(struct region *r, size_t slice, size_t blocks) {
	return blocks <= 8 * sizeof r->few_blocks[slice] ? r->few_blocks[slice] : r->many_blocks[slice];
}

/* By the address alone, so that it is a slice whatever the record describes by now. */
static inline size_t slice_number(uintptr_t address) { return address >> SLICE_SHIFT & (REGION_SLICES - 1); }

/* The span's bin, or NULL. Without any lock, also where it may be no span any more, or another one: who takes
 * the bin's lock then, and finds the same, has a span of that bin. Written under that lock, by span_set_bin.
 */
static inline struct bin *span_bin(const struct span *s) {
	return __atomic_load_n(&s->bin, __ATOMIC_ACQUIRE);
}
static inline void span_set_bin(struct span *s, struct bin *bin) {
	__atomic_store_n(&s->bin, bin, __ATOMIC_RELEASE);
}

/* A block came back to the span in this tick, or it is new. Under its bin's lock, as the next one. */
static inline void span_touch(struct region *r, struct span *s, uint8_t tick) {
	const size_t slice = (size_t)(s - r->spans);
	if (s->touched == 0)
		atomic_fetch_or_explicit(&r->touched[slice / 64], UINT64_C(1) << slice % 64, memory_order_relaxed);
	s->touched = tick;
}

/* No look need come to it. */
static inline void span_leave_alone(struct span *s) {
	if (s->touched == 0) return;
	struct region *r = page_map_region((uintptr_t)s->start);
	const size_t slice = (size_t)(s - r->spans);
	atomic_fetch_and_explicit(&r->touched[slice / 64], ~(UINT64_C(1) << slice % 64), memory_order_relaxed);
	s->touched = 0;
}

/* Does a block start at this address in the span of small blocks? */
static inline bool span_has_block_at(const struct span *s, const void *address) {
	const struct size_class *c = &size_classes[s->class_];
	const size_t offset = (size_t)((const char *)address - s->start), number = block_number(c, offset);
	return number * c->size == offset && number < c->blocks;
}

/* The record of the slice that `address` lies in, of any kind; NULL: the address is in no region. */
static inline __attribute__((always_inline)) struct span *slice_record(const void *address) {
	struct region *r = page_map_region((uintptr_t)address);
	if (unlikely(r == NULL)) return NULL;
	/* &r->spans[slice_number(address)], by two instructions less than compilers take. */
	size_t offset = (uintptr_t)address >> (SLICE_SHIFT - SPAN_SHIFT) & (REGION_SLICES - 1) << SPAN_SHIFT;
	KEEP_IN_REGISTER(offset);
	return (struct span *)((char *)r->spans + offset);
}

/* The span or run that a slice is part of, of a run its first one; NULL: it is none of ours. */
static inline struct span *span_of_slice(struct span *record) {
	if (unlikely(record->kind == SPAN_CONTINUED)) record -= record->head;
	return record->kind == SPAN_NONE ? NULL : record;
}

/* The span or run that `address` lies in (for a run: whose first slice it lies in), NULL when it is none of
 * ours. */
static inline struct span *span_of(const void *address) {
	struct span *record = slice_record(address);
	return record != NULL ? span_of_slice(record) : NULL;
}

#endif
