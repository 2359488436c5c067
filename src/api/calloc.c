/* calloc: as malloc, and what is not known to read as zero is cleared. */
#include "api/malloc.h"
#include "arena/pressure.h"
#include "harden/harden.h"

#include <string.h>

EXPORT void *PUBLIC(calloc)(size_t count, size_t size) {
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(count, size, &bytes))) {
		errno = ENOMEM;
		return NULL;
	}
	void *block = malloc_fast(bytes, TABLE_MAX + 1);
	return likely(block != NULL) ? memset(block, 0, bytes) : calloc_slow(bytes);
}
LIBC_NAME(__libc_calloc, calloc);

static inline void *clear(void *block, size_t size) {
	if (likely(block != NULL)) memset(block, 0, size);
	return block;
}

static void *calloc_large(size_t size) {
	void *block = tcache_alloc_large(size, MIN_ALIGN, true);
	if (unlikely(block == NULL) && harden_reclaim(size)) block = tcache_alloc_large(size, MIN_ALIGN, true);
	if (unlikely(block == NULL)) {
		pressure_failed();
		errno = ENOMEM;
	}
	return sample_allocated(block, size);
}

NOINLINE void *calloc_slow(size_t size) {
	ensure_started();
	const struct front *instead = front_instead();
	if (unlikely(instead != NULL)) return instead->allocate_zeroed(size);
	return size <= SMALL_MAX ? clear(malloc_medium(size, FAMILY_MALLOC), size) : calloc_large(size);
}

void *plain_allocate_zeroed(size_t size) {
	return size <= SMALL_MAX ? clear(plain_allocate(size, FAMILY_MALLOC), size) : calloc_large(size);
}
