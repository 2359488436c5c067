// Contents of a block that can be checked later: a tag at its begin, at its end and on each of its pages. An
// allocator that gives a byte away twice, or loses some while it moves a block, is found by the next look at either
// block.
#ifndef WORKLOAD_STAMP_H
#define WORKLOAD_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { STAMP_SIZE = 8, STAMP_STEP = 4096 }; // a stamped block has at least STAMP_SIZE bytes

static inline void stamp_write(void *block, size_t size, uint64_t tag)
{
    for (size_t at = 0; at + STAMP_SIZE <= size; at += STAMP_STEP)
        memcpy((char *)block + at, &tag, STAMP_SIZE);
    memcpy((char *)block + size - STAMP_SIZE, &tag, STAMP_SIZE);
}

static inline bool stamp_at(const char *place, uint64_t tag)
{
    return memcmp(place, &tag, STAMP_SIZE) == 0;
}

static inline bool stamp_matches(const void *block, size_t size, uint64_t tag)
{
    // The end was written last, so that it wins where it overlaps the tag before it.
    const char *bytes = block, *end = bytes + size - STAMP_SIZE;

    for (const char *at = bytes; at + STAMP_SIZE <= end; at += STAMP_STEP)
        if (!stamp_at(at, tag))
            return false;
    return stamp_at(end, tag);
}

#endif
