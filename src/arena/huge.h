/* Huge blocks: each a mapping of its own, looked up by address in one table (huge_blocks.h). */
#ifndef ARENA_HUGE_H
#define ARENA_HUGE_H

#include "arena/huge_cache.h"

/* A mapping of at least `size` bytes, aligned to `align` (a power of two). Its first *stale bytes may hold
 * anything, the others read as zero. NULL: out of memory. */
void *huge_alloc(size_t size, size_t align, size_t *stale);

/* Takes the block back: keeps the mapping for the next one (huge_cache.h) or unmaps it, as always after
 * huge_alter. False when there is no huge block at this address. */
bool huge_free(void *block);

/* The block's usable bytes; 0 when there is no huge block at this address. */
size_t huge_size(const void *block);

/* Makes the block `size` bytes long, moving it (without copying) if need be. NULL when out of memory: the
 * block stays. When it is no block any more, since another thread freed it, the program ends with a
 * message about realloc. */
void *huge_resize(void *block, size_t size);

/* The same, where it lies. False: it is as it was. */
bool huge_resize_there(void *block, size_t size);

/* The program changes what the kernel does with the memory in this range (locks it, keeps it from
 * children, ...): the blocks of `least` bytes or more in it are not kept for others when they are freed.
 * Cheap where no huge block is near, and never waits: handlers of signals may call it. */
void huge_alter(const void *address, size_t size, size_t least);

/* Unmaps what is kept for the next block. Returns the bytes given back. */
size_t huge_purge(void);

/* Time goes by: half of what was kept for all of the last interval is unmapped. Returns the bytes that are
 * left. */
size_t huge_decay(void);

/* Unmaps what was kept for all of the time since the last call of this or of huge_decay; not where a tunable
 * says that it stays. Without a lock. */
void huge_give_idle(void);

struct huge_stats {
	size_t bytes, blocks; /* in use */
	size_t cached;        /* bytes kept for the next block */
};
void huge_stats_get(struct huge_stats *out);

/* For lists of mappings: counts one, unless its size is 0, and writes it down as long as there is room.
 * Returns how many there are then. */
static inline size_t mapping_note(struct mapping m, struct mapping *out, size_t room, size_t count) {
	if (m.size == 0) return count;
	if (count < room) out[count] = m;
	return count + 1;
}

/* Writes down all huge blocks and the mappings that are kept, up to `room` of them, in no order. Returns
 * how many there are. The lock is dropped in between: what comes, goes or moves meanwhile may be missed,
 * or be there twice. */
size_t huge_mappings(struct mapping *out, size_t room);

/* The huge block, or the mapping kept for the next one, that the address lies in; start NULL: none. Slow. */
struct huge_place {
	char *start;
	size_t size;
	bool kept;
};
struct huge_place huge_find(const char *address);

/* Around fork. */
void huge_lock(void);
void huge_unlock(void);

#endif
