#include "arena/page_map.h"

#include "base/meta.h"
#include "base/os.h"

#define SLICE_NUMBER_BITS (ADDRESS_BITS - SLICE_SHIFT)
#define TAGS_SIZE (sizeof(uint16_t) << SLICE_NUMBER_BITS)

/* A process with an address-space limit keeps nearly all of it for itself: no table below 32 times its size. */
#define TAGS_LIMIT (TAGS_SIZE * 32)

static uint16_t no_tags[1];
struct page_map page_map = { .tags = no_tags };

_Atomic(page_map_leaf *) page_map_root[LEVEL_SIZE];

void page_map_init(void) {
	if (os_address_space_limit() < TAGS_LIMIT) return;
	uint16_t *tags = os_reserve_zero(TAGS_SIZE);
	if (tags == NULL) return;
	page_map.tags = tags;
	page_map.mask = (UINT64_C(1) << SLICE_NUMBER_BITS) - 1;
}

bool page_map_commit(uintptr_t base) {
	if (page_map.mask == 0) return true;
	uintptr_t start = ALIGN_DOWN((uintptr_t)&page_map.tags[base >> SLICE_SHIFT & page_map.mask], os_page_size);
	uintptr_t end = ALIGN_UP((uintptr_t)&page_map.tags[base >> SLICE_SHIFT & page_map.mask] + 2 * REGION_SLICES, os_page_size);
	return os_commit((void *)start, end - start);
}

void page_map_set_tags(uintptr_t address, size_t slices, uint16_t tag) {
	if (page_map.mask == 0) return;
	uint16_t *tags = &page_map.tags[address >> SLICE_SHIFT & page_map.mask];
	for (size_t i = 0; i < slices; i++) tags[i] = tag;
}

bool page_map_set_region(uintptr_t base, struct region *region) {
	uintptr_t number = base >> REGION_SHIFT;
	_Atomic(page_map_leaf *) *slot = &page_map_root[number >> LEVEL_BITS];
	page_map_leaf *leaf = atomic_load_explicit(slot, memory_order_relaxed);
	if (leaf == NULL) {
		leaf = meta_alloc(LEVEL_SIZE * sizeof *leaf);
		if (leaf == NULL) return false;
		atomic_store_explicit(slot, leaf, memory_order_release);
	}
	atomic_store_explicit(&leaf[number & (LEVEL_SIZE - 1)], region, memory_order_release);
	return true;
}
