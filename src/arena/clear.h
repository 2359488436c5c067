/* calloc's memory, where it has had an owner before. */
#ifndef ARENA_CLEAR_H
#define ARENA_CLEAR_H

#include "base/base.h"

/* Does memory that somebody had look as if he used it? Looks at a few pages. At least two, from `start` on, a
 * page's start. */
bool looks_written(const char *start, size_t size);

/* Makes memory read as zero that may hold anything: writes to it, or, when it does not look as if its last
 * owner used it, gives it back to the kernel. It starts at a page, and nothing else lies on its last one.
 * `may_purge` false: only writes. */
void clear_stale(char *start, size_t size, bool may_purge);

#endif
