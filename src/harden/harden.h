/* Hardened mode: what malloc and its relatives do instead when the tunable `harden` is set.
 *
 * Threads hide their caches (cache/tcache.h), so every call takes its slow path, and that leads here. A block
 * is one of:
 * - small (block.c): in a span of hardened blocks between guards, with a canary behind it, and that of its
 *   neighbour before it;
 * - large (hard_large.c): a mapping of its own between guards, with a canary up to the end of its last page;
 * - of no size (arena/zero.c): an address that cannot be accessed.
 * Freed blocks are zeroed, wait in a quarantine, and must still be zero when they are handed out again. What
 * is found to be wrong ends the program (arena/report.c). */
#ifndef HARDEN_HARDEN_H
#define HARDEN_HARDEN_H

#include "cache/front.h"

/* Switches it on, and returns its front, with plain behind it: blocks that were handed out before stay as
 * they are. */
const struct front *harden_start(const struct front *plain);

/* Written once, by harden_start. */
extern bool harden_is_on;

/* The block, of `size` bytes and from `family`, may not be what the claim says: then what harden/misuse.h
 * says follows. */
void harden_doubt_claim(const void *block, size_t size, enum family family, const struct claim *claim);
static inline void harden_check_claim(const void *block, size_t size, enum family family,
                                      const struct claim *claim) {
	if (unlikely(family != claim->family || (claim->size != SIZE_UNKNOWN && claim->size != size)))
		harden_doubt_claim(block, size, family, claim);
}

/* No memory was to be had for `size` bytes: everything goes that is free, wherever it is kept, so that the
 * caller may try once more. False: no process can have so much. Without any lock. */
COLD bool harden_reclaim(size_t size);

/* arena_purge_all, and what freed hardened blocks keep. */
size_t harden_purge_all(size_t keep_top);

/* Of large blocks, for statistics; kept_bytes: of those that wait with their memory. */
void harden_large_stats(size_t *bytes, size_t *blocks, size_t *kept_bytes);

/* Writes down all large blocks, and those that wait with their memory, each with its guards, so that
 * neighbours touch; up to `room` of them, in no order. Returns how many there are. The lock is dropped in
 * between: what comes, goes or moves meanwhile may be missed, or be there twice. */
struct mapping;
size_t harden_large_mappings(struct mapping *out, size_t room);

/* The lock of large blocks, those that wait among them; also taken around fork. */
void harden_lock(void);
void harden_unlock(void);

#endif
