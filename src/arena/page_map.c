#include "arena/page_map.h"

#include "arena/place.h"
#include "base/meta.h"
#include "base/os.h"

static uint16_t no_tags[1];
/* A mark that nothing has before the start. */
struct page_map page_map = { .tags = no_tags, .mark = 1 };

_Atomic(page_map_leaf *) page_map_root[LEVEL_SIZE];

void page_map_init(void) {
	const struct place_range first = place_init();
	const size_t slices = (first.end - first.start) / SLICE_SIZE,
	             size = ALIGN_UP(slices * sizeof *page_map.tags, os_page_size);
	if (slices == 0) return;
	char *wanted = place_of_table();
	uint16_t *tags = os_reserve_zero_at(wanted, size) ? (uint16_t *)wanted : os_reserve_zero(size);
	if (tags == NULL) return;
	page_map.tags = tags;
	page_map.base = first.start;
	page_map.length = page_map.covered = slices;
}

/* Under the heap lock, but for the last line: see page_map_let_derived. */
static void set_covered(size_t covered) {
	__atomic_store_n(&page_map.covered, covered, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&page_map.derived_limit, __ATOMIC_SEQ_CST) != 0)
		__atomic_store_n(&page_map.derived_covered, covered, __ATOMIC_SEQ_CST);
}

static bool leads = true; /* under the heap lock */

void page_map_lead(bool lead) {
	leads = lead;
	set_covered(lead ? page_map.length : 0);
}

/* By doubling, in place: others read the table meanwhile, and write to it. */
bool page_map_cover(uintptr_t end) {
	size_t covered = page_map.length;
	while (covered > 0 && end - page_map.base > covered * SLICE_SIZE) {
		const size_t size = covered * sizeof *page_map.tags;
		if (covered * SLICE_SIZE >= PLACE_SPREAD_MAX || size % os_page_size != 0 ||
		    os_address_space_limit() != SIZE_MAX || !os_reserve_zero_at(page_map.tags + covered, size))
			return false;
		covered *= 2;
		__atomic_store_n(&page_map.length, covered, __ATOMIC_SEQ_CST);
		if (leads) set_covered(covered);
	}
	return covered > 0;
}

/* Whoever covers more or less at this moment sees the limit, or is seen here. */
void page_map_let_derived(size_t limit) {
	size_t covered;
	__atomic_store_n(&page_map.derived_limit, limit, __ATOMIC_SEQ_CST);
	do {
		covered = __atomic_load_n(&page_map.covered, __ATOMIC_SEQ_CST);
		__atomic_store_n(&page_map.derived_covered, covered, __ATOMIC_SEQ_CST);
	} while (covered != __atomic_load_n(&page_map.covered, __ATOMIC_SEQ_CST));
}

bool page_map_commit(uintptr_t base) {
	const size_t first = (base - page_map.base) / SLICE_SIZE;
	if (first >= page_map.length) return true;
	const uintptr_t start = ALIGN_DOWN((uintptr_t)&page_map.tags[first], os_page_size);
	const uintptr_t end = ALIGN_UP((uintptr_t)&page_map.tags[first + REGION_SLICES], os_page_size);
	return os_commit((void *)start, end - start);
}

void page_map_set_tags(uintptr_t address, size_t slices, uint16_t tag) {
	const size_t first = (address - page_map.base) / SLICE_SIZE;
	if (first >= page_map.length) return;
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
