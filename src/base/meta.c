#include "base/meta.h"

#include <string.h>

#include "base/lock.h"

/* Sizes are rounded up to a power of two from 64 bytes; each has a list of returned blocks. Larger requests
 * than a chunk are mapped alone. A chunk is address space: only the pages that were handed out become
 * resident. Inaccessible pages lie around each mapping: what overflows in the program does not get here. */
#define META_MIN_SHIFT 6
#define META_CHUNK (256 * KIB)
#define META_SHIFTS 48

static struct {
	struct lock lock;
	char *next, *end; /* the rest of the current chunk */
	void *free[META_SHIFTS];
	size_t mapped;
} meta __attribute__((aligned(CACHE_LINE)));

static unsigned shift_of(size_t size) {
	if (size <= (size_t)1 << META_MIN_SHIFT) return META_MIN_SHIFT;
	return 64 - (unsigned)__builtin_clzll(size - 1);
}

static void *carve(size_t size) {
	if (size > META_CHUNK / 2) {
		size = ALIGN_UP(size, os_page_size);
		void *own = os_map_guarded(size);
		if (own != NULL) meta.mapped += size;
		return own;
	}
	if ((size_t)(meta.end - meta.next) < size) {
		char *chunk = os_map_guarded(META_CHUNK);
		if (chunk == NULL) return NULL;
		meta.next = chunk;
		meta.end = chunk + META_CHUNK;
		meta.mapped += META_CHUNK;
	}
	void *block = meta.next;
	meta.next += size;
	return block;
}

void *meta_alloc(size_t size) {
	unsigned shift = shift_of(size);
	if (shift >= META_SHIFTS) return NULL;
	lock_take(&meta.lock, RANK_META);
	void *block = meta.free[shift];
	bool reused = block != NULL;
	if (reused)
		meta.free[shift] = *(void **)block;
	else
		block = carve((size_t)1 << shift);
	lock_drop(&meta.lock, RANK_META);
	if (reused) memset(block, 0, size);
	return block;
}

void meta_free(void *block, size_t size) {
	unsigned shift = shift_of(size);
	lock_take(&meta.lock, RANK_META);
	*(void **)block = meta.free[shift];
	meta.free[shift] = block;
	lock_drop(&meta.lock, RANK_META);
}

size_t meta_mapped(void) {
	lock_take(&meta.lock, RANK_META);
	size_t mapped = meta.mapped;
	lock_drop(&meta.lock, RANK_META);
	return mapped;
}

void meta_lock(void) { lock_take(&meta.lock, RANK_META); }
void meta_unlock(void) { lock_drop(&meta.lock, RANK_META); }
