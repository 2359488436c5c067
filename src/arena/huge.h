/* Huge blocks: each a mapping of its own, looked up by address in one table. */
#ifndef ARENA_HUGE_H
#define ARENA_HUGE_H

#include "base/base.h"

/* Entries of the table, read by tools/arenal from outside: part of struct arenal_layout's version. */
struct huge_entry {
	uintptr_t address; /* 0: free, 1: deleted */
	size_t size;       /* bytes mapped */
};

/* A mapping of at least `size` bytes that reads as zero, aligned to `align` (a power of two). NULL: out of memory. */
void *huge_alloc(size_t size, size_t align);

/* Unmaps the block. False when there is no huge block at this address. */
bool huge_free(void *block);

/* The block's usable bytes; 0 when there is no huge block at this address. */
size_t huge_size(const void *block);

/* Makes the block `size` bytes long, moving it (without copying) if need be. NULL when out of memory: the block stays. */
void *huge_resize(void *block, size_t size);

void huge_stats_get(size_t *bytes, size_t *blocks);

/* Bytes of all huge blocks that are backed by memory now. */
size_t huge_resident(void);

/* Around fork. */
void huge_lock(void);
void huge_unlock(void);

#endif
