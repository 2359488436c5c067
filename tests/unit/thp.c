/* arena/thp: which slices are asked for, spared and broken up. */
#include "unit.h"

#include "arena/heap.h"
#include "arena/huge.h"
#include "arena/thp.h"
#include "base/bitmap.h"
#include "base/os.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

static struct region region;

/* The linker leads thp.c here: the setting is the whole machine's. */
bool __wrap_os_thp_always(void);
bool __wrap_os_thp_always(void) { return true; }

/* A region of which all is clean, and that the kernel knows. */
static int make_region(void **state) {
	(void)state;
	memset(&region, 0, sizeof region);
	region.base = (uintptr_t)os_map(REGION_SIZE, REGION_SIZE);
	assert_true(region.base != 0);
	region.slices_total = REGION_SLICES;
	bits_set(region.ours, 0, REGION_SLICES);
	bits_set(region.free, 0, REGION_SLICES);
	return 0;
}

static int drop_region(void **state) {
	(void)state;
	os_unmap((void *)region.base, REGION_SIZE);
	return 0;
}

static void need_huge_pages(void) {
	if (madvise((void *)region.base, REGION_SIZE, MADV_NOHUGEPAGE) != 0) SKIP("the kernel has no huge pages");
}

static void use(size_t first, size_t count) { bits_clear(region.free, first, count); }

static void make_dirty(size_t first, size_t count) {
	bits_set(region.free, first, count);
	bits_set(region.dirty, first, count);
}

static void clean_stretch_is_asked_for(void **state) {
	(void)state;
	need_huge_pages();
	/* Slice 100 is in huge page 3; pages 0 to 4 are clean, 5 and 20 are not. */
	use(5 * HUGE_PAGE_SLICES, 1);
	make_dirty(20 * HUGE_PAGE_SLICES + 3, 1);
	thp_ask(&region, 100);
	assert_int_equal(region.huge_pages, 0x1f);
	assert_true(region.huge_asked);
	thp_ask(&region, 5 * HUGE_PAGE_SLICES + 1); /* not a clean page */
	assert_int_equal(region.huge_pages, 0x1f);
	thp_ask(&region, 19 * HUGE_PAGE_SLICES);
	assert_int_equal(region.huge_pages, 0x000fffdf);
}

static void short_stretch_is_not_worth_it(void **state) {
	(void)state;
	need_huge_pages();
	const size_t pages = THP_STRETCH / HUGE_PAGE;
	use(0, 1);
	use(pages * HUGE_PAGE_SLICES, REGION_SLICES - pages * HUGE_PAGE_SLICES);
	thp_ask(&region, HUGE_PAGE_SLICES);
	assert_int_equal(region.huge_pages, 0);
	assert_false(region.huge_asked);
	bits_set(region.free, 0, 1);
	thp_ask(&region, HUGE_PAGE_SLICES);
	assert_int_equal(region.huge_pages, (1u << pages) - 1);
}

static void scraps_are_spared(void **state) {
	(void)state;
	const size_t scrap = HUGE_PAGE_SLICES / THP_SHARE - 1, worth = scrap + 1, p = HUGE_PAGE_SLICES;
	struct {
		size_t first, count, spared_first, left;
	} runs[] = {
		{ p + 5, scrap, p + 5 + scrap, 0 },        /* inside one page */
		{ p + 5, worth, p + 5, worth },
		{ 2 * p - scrap, scrap + p, 2 * p, p },    /* the end of page 1 and all of page 2 */
		{ 2 * p - worth, worth + p, 2 * p - worth, worth + p },
		{ 2 * p, p + scrap, 2 * p, p },            /* all of page 2 and the start of page 3 */
		{ 2 * p - scrap, 2 * scrap, 2 * p + scrap, 0 },
		{ 2 * p - scrap, scrap + p + scrap, 2 * p, p },
		{ 2 * p, p, 2 * p, p },                    /* a whole page is no scrap */
		{ 6 * p + 1, 1, 6 * p + 1, 1 },            /* not a huge page */
		{ 6 * p - 1, 2, 6 * p, 1 },
	};
	region.huge_pages = 0x3f;
	for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
		size_t first = runs[i].first;
		assert_int_equal(thp_spare(&region, &first, runs[i].count), runs[i].left);
		if (runs[i].left > 0) assert_int_equal(first, runs[i].spared_first);
	}
}

static void parts_break_pages_up(void **state) {
	(void)state;
	need_huge_pages();
	thp_ask(&region, 0);
	assert_int_equal(region.huge_pages, UINT32_MAX);
	thp_break(&region, 2 * HUGE_PAGE_SLICES, 3 * HUGE_PAGE_SLICES); /* whole pages stay asked for */
	assert_int_equal(region.huge_pages, UINT32_MAX);
	assert_true(region.huge_asked);
	thp_break(&region, 3 * HUGE_PAGE_SLICES + 7, 1);
	assert_int_equal(region.huge_pages, UINT32_MAX & ~(1u << 3));
	assert_false(region.huge_asked);
	thp_break(&region, 9 * HUGE_PAGE_SLICES - 1, 2 * HUGE_PAGE_SLICES + 2);
	assert_int_equal(region.huge_pages, UINT32_MAX & ~(1u << 3 | 1u << 8 | 1u << 11));
	/* The region is clean as a whole here, and so it is asked for anew. */
	thp_ask(&region, 0);
	assert_int_equal(region.huge_pages, UINT32_MAX);
	thp_forget(&region, HUGE_PAGE_SLICES - 1, 2);
	assert_int_equal(region.huge_pages, UINT32_MAX & ~3u);
}

/* Of the mappings that [start, end) lies in: how many can be written to, and how many of these may get huge pages unasked. */
static void count_mappings(uintptr_t start, uintptr_t end, size_t *writable, size_t *unasked) {
	char line[512], access[8] = "";
	uintptr_t from, to, low = 0, high = 0;
	FILE *file = fopen("/proc/self/smaps", "r");
	assert_non_null(file);
	*writable = *unasked = 0;
	while (fgets(line, sizeof line, file) != NULL) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &from, &to, access) == 3) low = from, high = to;
		if (strncmp(line, "VmFlags:", 8) != 0 || high <= start || end <= low || access[1] != 'w') continue;
		++*writable;
		*unasked += strstr(line, " nh") == NULL && ALIGN_UP(low, HUGE_PAGE) + HUGE_PAGE <= high;
	}
	fclose(file);
}

enum { RUNS = 200, RUN_SLICES = 8 }; /* 100 MiB */

/* All that the heap grows by is declined, and stays few mappings, though it is touched meanwhile. */
static void grows_declined(enum region_kind kind) {
	static struct span *runs[RUNS];
	uintptr_t low = UINTPTR_MAX, high = 0;
	size_t writable, unasked;
	for (size_t i = 0; i < RUNS; i++) {
		runs[i] = heap_alloc(RUN_SLICES, 1, kind, SPAN_RUN, NULL);
		assert_non_null(runs[i]);
		memset(runs[i]->start, 1, RUN_SLICES * SLICE_SIZE);
		low = min_size(low, (uintptr_t)runs[i]->start);
		high = max_size(high, (uintptr_t)runs[i]->start + RUN_SLICES * SLICE_SIZE);
	}
	count_mappings(low, high, &writable, &unasked);
	assert_int_equal(unasked, 0);
	assert_true(writable <= 8); /* what others mapped between two regions, too */
	for (size_t i = 0; i < RUNS; i++) heap_free(runs[i]);
	/* What was closed and opened again is declined as well. */
	heap_purge();
	heap_trim(0);
	for (size_t i = 0; i < RUNS; i++) {
		runs[i] = heap_alloc(RUN_SLICES, 1, kind, SPAN_RUN, NULL);
		assert_non_null(runs[i]);
	}
	count_mappings(low, high, &writable, &unasked);
	assert_int_equal(unasked, 0);
	for (size_t i = 0; i < RUNS; i++) heap_free(runs[i]);
}

static void unasked_pages_are_declined(void **state) {
	(void)state;
	need_huge_pages();
	grows_declined(REGION_BRK);
	grows_declined(REGION_MAPPED);
}

/* A block gets what the system gives, unless the tunable says that there are none. */
static void blocks_are_declined_when_told_so(void **state) {
	(void)state;
	need_huge_pages();
	for (int thp = -1; thp <= 0; thp++) {
		size_t stale, writable, unasked;
		conf.thp = thp;
		char *block = huge_alloc(16 * MIB, 1, &stale);
		assert_non_null(block);
		count_mappings((uintptr_t)block, (uintptr_t)block + 16 * MIB, &writable, &unasked);
		assert_int_equal(unasked, thp == 0 ? 0 : 1);
		assert_true(huge_free(block));
		huge_purge();
	}
	conf.thp = -1;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(clean_stretch_is_asked_for, make_region, drop_region),
		cmocka_unit_test_setup_teardown(short_stretch_is_not_worth_it, make_region, drop_region),
		cmocka_unit_test_setup_teardown(scraps_are_spared, make_region, drop_region),
		cmocka_unit_test_setup_teardown(parts_break_pages_up, make_region, drop_region),
		cmocka_unit_test_setup_teardown(unasked_pages_are_declined, make_region, drop_region),
		cmocka_unit_test_setup_teardown(blocks_are_declined_when_told_so, make_region, drop_region),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
