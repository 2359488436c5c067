/* Before a process grows further, what lies idle goes back: kept mappings, and, where it has one thread, what
 * that left behind in its magazines. A free block there keeps its whole span from serving other sizes: of a
 * program that had many blocks of one size, and has gone on to another, a few kilobytes may hold megabytes.
 *
 * Where a purger runs, it sees to what nobody uses. A process with one thread, or a small one, has none.
 * There, what tells that memory is worth it is that more than ever is about to be taken; and how often one
 * looks is bounded by how large the process gets. */
#ifndef CACHE_GROWTH_H
#define CACHE_GROWTH_H

#include <stdatomic.h>

#include "base/cap.h"

/* Bytes that count for the cap: with more than so many, it is time to look. It only grows. */
extern _Atomic size_t growth_look_above;

/* Is the process larger than it was ever before, by so much that it is time? Also under locks. */
static inline bool growth_is_due(void) {
	return atomic_load_explicit(&cap_bytes, memory_order_relaxed) >
	       atomic_load_explicit(&growth_look_above, memory_order_relaxed);
}

/* Then what lies idle since the last look goes back. A slow path, without any lock. */
void growth_look(void);

#endif
