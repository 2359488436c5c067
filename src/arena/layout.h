/* What tools/arenal reads through /proc/PID/mem to tell our memory from others': where our records are.
 * Nothing here is touched by a fast path. The layout is a contract: whoever changes it, or the records behind
 * it, raises the version. */
#ifndef ARENA_LAYOUT_H
#define ARENA_LAYOUT_H

#include "arena/huge.h"
#include "arena/huge_cache.h"
#include "arena/region.h"
#include "base/address_table.h"

struct arenal_layout {
	char magic[8]; /* "ARENAL", zeros */
	uint32_t version;
	uint32_t slice_shift, region_shift;
	uint32_t huge_capacity;        /* entries of the huge table. Owner: huge lock */
	uint64_t heap_start, heap_end; /* from our first to our newest byte below the break. Owner: heap lock */
	uint64_t regions;              /* address of the newest struct region. Owner: heap lock */
	uint64_t huge_table;           /* address of struct address_entry [huge_capacity]. Owner: huge lock */
	uint64_t kept_table;           /* address of struct mapping [kept_capacity]: freed mappings that wait for
	                                  the next */
	uint64_t kept_capacity;        /* huge block; size 0: a free entry. Owner: huge lock */
	uint64_t hard_table;           /* the same two of large blocks of hardened mode, whose entries start as
	                                  those do, and are */
	uint64_t hard_kept_table;
	uint32_t hard_capacity, hard_kept_capacity;
	uint32_t hard_stride, hard_kept_stride; /* so many bytes long */
};
extern struct arenal_layout arenal_layout __attribute__((visibility("default")));

static_assert(offsetof(struct region, next) == 0 && offsetof(struct region, base) == 8 &&
                  offsetof(struct region, kind) == 16 && offsetof(struct region, slices_total) == 20 &&
                  offsetof(struct region, slices_used) == 24 && offsetof(struct region, slices_dirty) == 28 &&
                  sizeof(struct address_entry) == 16 && sizeof(struct mapping) == 16,
              "the records of layout version 3");

#endif
