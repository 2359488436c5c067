/* calloc's memory, where it has had an owner before. */
#ifndef ARENA_CLEAR_H
#define ARENA_CLEAR_H

#include "base/base.h"

/* Does memory that somebody had look as if all of it was written to? Looks at a few pages. */
bool looks_written(const char *start, size_t size);

/* Makes memory read as zero that may hold anything: writes to it, or, when much of it does not look as if it was ever written to,
 * gives it back to the kernel. It starts at a page, and no block lies on its last one. `may_purge` false: only writes. */
void clear_stale(char *start, size_t size, bool may_purge);

#endif
