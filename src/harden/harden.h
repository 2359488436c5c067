/* Hardened mode: what malloc and its relatives do instead when the tunable `harden` is set.
 *
 * Threads hide their caches (cache/tcache.h), so every call takes its slow path, and that leads here. A block is one of:
 * - small (block.c): in a span of hardened blocks between guards, with a canary behind it, and that of its neighbour before it;
 * - large (hard_large.c): a mapping of its own between guards, with a canary up to the end of its last page;
 * - of no size (arena/zero.c): an address that cannot be accessed.
 * Freed blocks are zeroed, wait in a quarantine, and must still be zero when they are handed out again. What is found to be
 * wrong ends the program (arena/report.c). */
#ifndef HARDEN_HARDEN_H
#define HARDEN_HARDEN_H

#include "base/base.h"

/* Which functions a block came from, and which ones it must therefore go to. */
enum family {
	FAMILY_MALLOC,
	FAMILY_NEW,
	FAMILY_NEW_ARRAY,
	FAMILY_NEW_ALIGNED,
	FAMILY_NEW_ARRAY_ALIGNED,
	FAMILY_COUNT,
};

/* A call that frees a block, or moves it: what the program says about it. */
struct claim {
	const char *function; /* its name, for messages */
	enum family family;
	size_t size;          /* bytes that the program says the block has; SIZE_UNKNOWN */
};
#define SIZE_UNKNOWN SIZE_MAX

/* Switches it on: sets MODE_HARDEN. Blocks that were handed out before stay as they are. */
void harden_start(void);

/* A block that reads as zero; any size, any power of two as alignment. NULL when out of memory; errno stays as it is. */
void *harden_alloc(size_t align, size_t size, enum family family);

/* Frees the block, after all checks. False when it is not a hardened one. */
bool harden_free(void *block, const struct claim *claim);

/* Resizes it, size > 0: *moved is where it is now; NULL when out of memory, the block stays then. False when it is not a
 * hardened one. */
bool harden_realloc(void *block, size_t size, void **moved);

/* The bytes that were asked for, for `function`. False when it is not a hardened block. */
bool harden_size(const void *block, const char *function, size_t *size);

/* The block, of `size` bytes and from `family`, may not be what the claim says: then what harden/misuse.h says follows. */
void harden_doubt_claim(const void *block, size_t size, enum family family, const struct claim *claim);
static inline void harden_check_claim(const void *block, size_t size, enum family family, const struct claim *claim) {
	if (unlikely(family != claim->family || (claim->size != SIZE_UNKNOWN && claim->size != size)))
		harden_doubt_claim(block, size, family, claim);
}

/* No memory was to be had for `size` bytes: everything goes that is free, wherever it is kept, so that the caller may try once more. False:
 * no process can have so much. Without any lock. */
COLD bool harden_reclaim(size_t size);

/* arena_purge_all, and what freed hardened blocks keep. */
size_t harden_purge_all(size_t keep_top);

/* Of large blocks, for statistics; kept_bytes: of those that wait with their memory. */
void harden_large_stats(size_t *bytes, size_t *blocks, size_t *kept_bytes);

/* Writes down all large blocks, and those that wait with their memory, each with its guards, so that neighbours touch; up to `room` of them, in no
 * order. Returns how many there are. The lock is dropped in between: what comes, goes or moves meanwhile may be missed, or be there twice. */
struct mapping;
size_t harden_large_mappings(struct mapping *out, size_t room);

/* Around fork. */
void harden_lock(void);
void harden_unlock(void);

#endif
