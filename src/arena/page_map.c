#include "arena/page_map.h"

#include "arena/place.h"
#include "base/meta.h"
#include "base/os.h"

static uint16_t no_tags[1];
struct page_map page_map = { .tags = no_tags };

_Atomic(page_map_leaf *) page_map_root[LEVEL_SIZE];

void page_map_init(void) {
	const struct place_range all = place_init();
	const size_t slices = (all.end - all.start) / SLICE_SIZE, size = ALIGN_UP(slices * sizeof *page_map.tags, os_page_size);
	uint16_t *tags = slices > 0 ? os_reserve_zero(size) : NULL;
	if (tags == NULL) return;
	page_map.tags = tags;
	page_map.base = all.start;
	page_map.covered = slices;
}

bool page_map_commit(uintptr_t base) {
	const size_t first = (base - page_map.base) / SLICE_SIZE;
	if (first >= page_map.covered) return true;
	const uintptr_t start = ALIGN_DOWN((uintptr_t)&page_map.tags[first], os_page_size);
	const uintptr_t end = ALIGN_UP((uintptr_t)&page_map.tags[first + REGION_SLICES], os_page_size);
	return os_commit((void *)start, end - start);
}

void page_map_set_tags(uintptr_t address, size_t slices, uint16_t tag) {
	const size_t first = (address - page_map.base) / SLICE_SIZE;
	if (first >= page_map.covered) return;
	for (size_t i = 0; i < slices; i++) page_map.tags[first + i] = tag;
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
