/* Mappings that could not be unmapped. Mappings side by side are one to the kernel, and to unmap a part of
 * it in the middle makes it two: one too many where a process has all that it may have (vm.max_map_count).
 * Their memory has gone back; their addresses wait here for the next block, or until they can be unmapped.
 * All functions: owner huge lock. */
#ifndef ARENA_HUGE_STUCK_H
#define ARENA_HUGE_STUCK_H

#include "arena/huge_cache.h"

/* Adds one that is whole pages; `clean`: it reads as zero. What there is no memory for is lost. */
void huge_stuck_add(struct mapping m, bool clean);

/* The start of `size` bytes with this alignment, from the mapping that they fit in best; NULL: there is
 * none. */
char *huge_stuck_take(size_t size, size_t align, bool *clean);

/* Takes the last one out, if there are more than `left`: size 0 when not. */
struct mapping huge_stuck_take_last(size_t left, bool *clean);

size_t huge_stuck_count(void);

#endif
