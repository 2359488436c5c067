#include "arena/page_map.h"

#include <string.h>

#include "arena/place.h"
#include "base/meta.h"
#include "base/os.h"

static uint16_t no_tags[1];
struct page_map page_map = { .tags = no_tags };

_Atomic(page_map_leaf *) page_map_root[LEVEL_SIZE];

/* Bytes of address space that are covered at most, by 128 MiB of tags. */
#define SPREAD_MAX (4096 * GIB)

static uint16_t *map_tags(size_t slices) { return os_reserve_zero(ALIGN_UP(slices * sizeof(uint16_t), os_page_size)); }

void page_map_init(void) {
	const struct place_range first = place_init();
	const size_t slices = (first.end - first.start) / SLICE_SIZE;
	uint16_t *tags = slices > 0 ? map_tags(slices) : NULL;
	if (tags == NULL) return;
	page_map.tags = tags;
	page_map.base = first.start;
	page_map.covered = slices;
}

static bool commit(uint16_t *tags, size_t first) {
	const uintptr_t start = ALIGN_DOWN((uintptr_t)&tags[first], os_page_size);
	const uintptr_t end = ALIGN_UP((uintptr_t)&tags[first + REGION_SLICES], os_page_size);
	return os_commit((void *)start, end - start);
}

static bool copy_tags(uint16_t *to) {
	for (size_t first = 0; first < page_map.covered; first += REGION_SLICES) {
		if (page_map_region(page_map.base + first * SLICE_SIZE) == NULL) continue;
		if (!commit(to, first)) return false;
		memcpy(to + first, page_map.tags + first, REGION_SLICES * sizeof *to);
	}
	return true;
}

/* Who reads a tag looks at `covered` first, and then at `tags`, which is the large table before `covered` says so. The small one stays
 * mapped for those who have its address already: all that they may look for is in there. */
bool page_map_cover(uintptr_t end) {
	const size_t most = SPREAD_MAX / SLICE_SIZE, wanted = (end - page_map.base) / SLICE_SIZE;
	if (wanted < page_map.covered) return true;
	if (page_map.covered == 0 || page_map.covered >= most || wanted >= most || os_address_space_limit() != SIZE_MAX) return false;
	uint16_t *tags = map_tags(most);
	if (tags == NULL) return false;
	if (!copy_tags(tags)) {
		os_unmap(tags, most * sizeof *tags);
		return false;
	}
	__atomic_store_n(&page_map.tags, tags, __ATOMIC_SEQ_CST);
	/* Then nobody has only read the old address after that. Where the kernel refuses, the part that was covered stays it. */
	if (!os_barrier_in_all_threads()) return false;
	__atomic_store_n(&page_map.covered, most, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&page_map.derived_covered, __ATOMIC_SEQ_CST) != 0)
		__atomic_store_n(&page_map.derived_covered, most, __ATOMIC_SEQ_CST);
	return true;
}

void page_map_let_derived(size_t limit) {
	size_t covered;
	do { /* others may cover more at this moment */
		covered = __atomic_load_n(&page_map.covered, __ATOMIC_SEQ_CST);
		__atomic_store_n(&page_map.derived_covered, covered, __ATOMIC_SEQ_CST);
	} while (covered != __atomic_load_n(&page_map.covered, __ATOMIC_SEQ_CST));
	page_map.derived_limit = limit;
}

bool page_map_commit(uintptr_t base) {
	const size_t first = (base - page_map.base) / SLICE_SIZE;
	return first >= page_map.covered || commit(page_map.tags, first);
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
