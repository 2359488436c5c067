#include "base/meta.h"

#include <string.h>

#include "base/cap.h"
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
	struct meta_place *_Atomic places;
} meta __attribute__((aligned(CACHE_LINE)));

static unsigned shift_of(size_t size) {
	if (size <= (size_t)1 << META_MIN_SHIFT) return META_MIN_SHIFT;
	return 64 - (unsigned)__builtin_clzll(size - 1);
}

static void *cut(size_t size) {
	void *block = meta.next;
	meta.next += size;
	return block;
}

static void note_place(const char *start, size_t size) {
	static_assert(sizeof(struct meta_place) <= (size_t)1 << META_MIN_SHIFT, "it has the smallest size");
	struct meta_place *place = cut((size_t)1 << META_MIN_SHIFT);
	meta.mapped += size;
	*place = (struct meta_place){ meta.places, (uintptr_t)start, (uintptr_t)start + size };
	atomic_store_explicit(&meta.places, place, memory_order_release);
}

/* Is there room for so much, and for the place of a mapping? */
static bool has_chunk(size_t size) {
	if ((size_t)(meta.end - meta.next) >= size + ((size_t)1 << META_MIN_SHIFT)) return true;
	char *chunk = os_map_guarded(META_CHUNK);
	if (chunk == NULL) return false;
	meta.next = chunk;
	meta.end = chunk + META_CHUNK;
	cap_add(META_CHUNK);
	note_place(chunk, META_CHUNK);
	return true;
}

static void *carve(size_t size) {
	if (size <= META_CHUNK / 2) return has_chunk(size) ? cut(size) : NULL;
	size = ALIGN_UP(size, os_page_size);
	if (!has_chunk(0) || !cap_take(size)) return NULL;
	void *own = os_map_guarded(size);
	if (own != NULL)
		note_place(own, size);
	else
		cap_give(size);
	return own;
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

const struct meta_place *meta_places(void) {
	return atomic_load_explicit(&meta.places, memory_order_acquire);
}

void meta_lock(void) { lock_take(&meta.lock, RANK_META); }
void meta_unlock(void) { lock_drop(&meta.lock, RANK_META); }
