/* Memory for the allocator's own records: never inside user memory, never given back to the kernel, reused by
 * size. */
#ifndef BASE_META_H
#define BASE_META_H

#include "base/base.h"

/* Returns `size` bytes of zeroed memory aligned to a cache line, NULL when the kernel has none, or, for a
 * table that is long (above META_CHUNK / 2), when it would be beyond the cap (base/cap.h). Thread-safe. */
void *meta_alloc(size_t size);

/* Takes back what meta_alloc(size) returned. */
void meta_free(void *block, size_t size);

/* Bytes mapped for metadata so far. */
size_t meta_mapped(void);

/* Where records lie: a list, written once, so that it may be read without the lock. */
struct meta_place {
	struct meta_place *next;
	uintptr_t start, end;
};
const struct meta_place *meta_places(void);

/* Around fork. */
void meta_lock(void);
void meta_unlock(void);

#endif
