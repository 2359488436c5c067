/* Freed large blocks of hardened mode: their addresses wait, closed, so that a second free finds them, and an
 * access ends the program. A few keep their memory, too, zeroed, for the next block of the same length.
 *
 * Each takes the place of a random one, and no address comes back before WAITING_TURNS other blocks have
 * been freed, as long as addresses are few enough: a program may limit its address space at any time, and
 * needs it for itself then. Long ones have places of their own, for one of them would drive all others
 * out; one that is too long for these waits alone, until the next free, or not at all. All functions are
 * called under the lock of hard_blocks.h; what they return has left, and is to be unmapped without it. */
#ifndef HARDEN_HARD_WAITING_H
#define HARDEN_HARD_WAITING_H

#include <stdatomic.h>

#include "arena/policy.h"
#include "base/os.h"

struct waiting {
	char *block;
	size_t kept;   /* bytes of memory: all pages, or 0. Tools read it and the address (arena/layout.h) */
	size_t pages;  /* bytes of the block, in whole pages */
	size_t guard;  /* bytes in front; one page behind, if there are any */
	uint64_t turn; /* the number of the free */
	bool altered;  /* the program changed attributes of its memory */
};

#define NOTHING_WAITS ((struct waiting){ .block = NULL })

static inline size_t waiting_extent(struct waiting w) {
	return w.guard + w.pages + (w.guard > 0 ? os_page_size : 0);
}

/* Of those that wait: bytes of memory; whether there are any. Also read without the lock. */
extern _Atomic size_t waiting_kept_bytes;
extern _Atomic uint32_t waiting_count;

/* To be looked at; block NULL: nothing is there. */
extern struct waiting waiting_places[WAITING_PLACES];

bool waiting_has(const void *block);

/* Returns whose place it takes, if anybody's; or itself, too long to wait. `share`: the most addresses of
 * each kind, as the process's limit of address space has it. */
struct waiting waiting_put(struct waiting w, size_t share);

/* One that has to go, since all of its kind together are too long. */
struct waiting waiting_take_excess(size_t share);

/* One that waits with so many bytes of memory between guards of a page, not the youngest ones. */
struct waiting waiting_take_kept(size_t pages);

/* What waits at the place; only_kept: if it has memory. */
struct waiting waiting_take_at(uint32_t place, bool only_kept);

#endif
