/* arena/huge, arena/huge_cache and arena/large. */
#include "unit.h"

#include "arena/huge.h"
#include "arena/huge_cache.h"
#include "arena/large.h"
#include "arena/wave.h"
#include "base/conf.h"
#include "base/os.h"

static struct huge_stats stats(void) {
	struct huge_stats s;
	huge_stats_get(&s);
	return s;
}

static void table_grows(void **state) {
	(void)state;
	enum { BLOCKS = 500 };
	char *blocks[BLOCKS];
	size_t stale;
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = huge_alloc((size_t)(i + 1) * 4096, 1, &stale);
		assert_non_null(blocks[i]);
		blocks[i][0] = (char)i;
	}
	assert_int_equal(stats().blocks, BLOCKS);
	for (int i = 0; i < BLOCKS; i++) {
		assert_int_equal(huge_size(blocks[i]), (size_t)(i + 1) * 4096);
		assert_int_equal(huge_size(blocks[i] + 4096), 0);
		assert_int_equal(blocks[i][0], (char)i);
	}
	for (int i = 0; i < BLOCKS; i++) assert_true(huge_free(blocks[i]));
	assert_false(huge_free(blocks[0]));
	assert_int_equal(stats().blocks, 0);
	assert_int_equal(stats().bytes, 0);
	huge_purge();
}

static void kept_mappings_are_reused(void **state) {
	(void)state;
	size_t stale;
	huge_purge();
	char *a = huge_alloc(4 * MIB, 1, &stale);
	assert_int_equal(stale, 0);
	memset(a, 1, 4 * MIB);
	huge_free(a);
	assert_int_equal(stats().cached, 4 * MIB);
	/* A shorter one is cut from it; a longer one grows it, and keeps what is resident. */
	char *b = huge_alloc(1 * MIB, 1, &stale);
	assert_ptr_equal(b, a);
	assert_int_equal(stale, MIB);
	assert_int_equal(stats().cached, 3 * MIB);
	char *c = huge_alloc(5 * MIB, 1, &stale);
	assert_int_equal(stale, 3 * MIB);
	assert_int_equal(stats().cached, 0);
	assert_int_equal(os_resident(c, 5 * MIB), 3 * MIB);
	assert_int_equal(huge_size(c), 5 * MIB);
	memset(c, 2, 5 * MIB);
	assert_int_equal(b[MIB - 1], 1);
	huge_free(b);
	huge_free(c);
	assert_int_equal(huge_purge(), 6 * MIB);
	assert_int_equal(stats().cached, 0);
}

static void cache_is_bounded(void **state) {
	(void)state;
	size_t stale;
	huge_purge();
	char *large = huge_alloc(64 * MIB, 1, &stale);
	huge_free(large);
	assert_int_equal(stats().cached, 0); /* more than the limit: unmapped at once */
	char *blocks[40];
	for (int i = 0; i < 40; i++) blocks[i] = huge_alloc(MIB, 1, &stale);
	for (int i = 0; i < 40; i++) huge_free(blocks[i]);
	assert_in_range(stats().cached, 1, DIRTY_MIN);
	/* Neighbours grow together to more than the limit: only what is too much is dropped. */
	huge_purge();
	char *parts = huge_alloc(12 * MIB, 1, &stale);
	struct mapping victims[HUGE_CACHE_ENTRIES + 1], half = { parts + 6 * MIB, 6 * MIB };
	assert_int_equal(huge_cache_put((struct mapping){ parts, 6 * MIB }, 8 * MIB, victims), 0);
	assert_ptr_equal(huge_cache_take_neighbour(half).address, parts);
	assert_null(huge_cache_take_neighbour(half).address);
	assert_int_equal(huge_cache_put((struct mapping){ parts, 12 * MIB }, 8 * MIB, victims), 1);
	assert_int_equal(victims[0].size, 4 * MIB);
	assert_int_equal(huge_cache_take(8 * MIB).size, 8 * MIB);
	huge_free(parts);
	conf.dirty_max = 0;
	huge_free(huge_alloc(MIB, 1, &stale));
	assert_int_equal(stats().cached, 0);
	conf.dirty_max = -1;
}

static void resizing_keeps_content(void **state) {
	(void)state;
	size_t stale;
	char *p = huge_alloc(2 * MIB, 1, &stale);
	memset(p, 3, 2 * MIB);
	for (size_t size = 3 * MIB; size <= 300 * MIB; size += 27 * MIB) {
		p = huge_resize(p, size);
		assert_non_null(p);
		assert_true(huge_size(p) >= size);
		p[size - 1] = 4;
	}
	assert_null(huge_resize(p, (size_t)PTRDIFF_MAX));
	p = huge_resize(p, 2 * MIB);
	assert_int_equal(huge_size(p), 2 * MIB);
	for (size_t i = 0; i < 2 * MIB; i++) assert_int_equal(p[i], 3);
	huge_free(p);
}

/* The rest of a kept mapping lies behind the block that was cut from it. */
static void growing_takes_what_is_kept_behind(void **state) {
	(void)state;
	size_t stale;
	huge_purge();
	char *block = huge_alloc(6 * MIB, os_page_size, &stale);
	assert_non_null(block);
	memset(block, 5, 6 * MIB);
	assert_true(huge_free(block));
	assert_int_equal(stats().cached, 6 * MIB);
	assert_ptr_equal(huge_alloc(2 * MIB, os_page_size, &stale), block);
	assert_ptr_equal(huge_resize(block, 4 * MIB), block);
	const size_t size = huge_size(block);
	assert_true(size >= 4 * MIB && size < 6 * MIB);
	assert_int_equal(stats().cached, 6 * MIB - size);
	for (size_t i = 0; i < size; i += 1000) assert_int_equal(block[i], 5); /* resident: no fault, no zeros */
	/* No more behind it than is kept: the kernel moves it. */
	char *moved = huge_resize(block, 32 * MIB);
	assert_non_null(moved);
	assert_int_equal(moved[4 * MIB - 1], 5);
	assert_true(huge_free(moved));
	huge_purge();
}

static void large_blocks(void **state) {
	(void)state;
	static const size_t sizes[] = { SMALL_MAX + 1, 100 * KIB, 1 * MIB, 1 * MIB + 1, 70 * MIB };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (size_t align = 16; align <= 128 * MIB; align *= 8) {
			char *p = large_alloc(sizes[i], align, true, REGION_BRK);
			assert_non_null(p);
			assert_int_equal((uintptr_t)p % align, 0);
			for (size_t j = 0; j < sizes[i]; j += 4096) assert_int_equal(p[j], 0);
			memset(p, 9, sizes[i] < 2 * MIB ? sizes[i] : 2 * MIB); /* dirty for the next round */
			arenal_test_free(p);
		}
	}
	assert_null(large_alloc(SIZE_MAX, 16, false, REGION_BRK));
	assert_null(large_alloc((size_t)PTRDIFF_MAX + 1, 16, false, REGION_BRK));
}

static size_t kept_after_a_wave(void) {
	enum { BLOCKS = 8 };
	void *blocks[BLOCKS];
	size_t stale;
	huge_purge();
	conf.decay = 1000000; /* its intervals are longer than this test */
	for (int i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = huge_alloc(4 * MIB, os_page_size, &stale));
	for (int i = 0; i < BLOCKS; i++) assert_true(huge_free(blocks[i]));
	conf.decay = 1000;
	return stats().cached;
}

/* A program that frees a lot gets rid of it; one that has used up what it may purge, or that is purged in the
 * background, keeps what it used a moment ago. */
static void waves_are_kept(void **state) {
	(void)state;
	allowance_since = 0;
	assert_true(kept_after_a_wave() <= DIRTY_MIN);
	allowance_since = os_milliseconds() + 1000000;
	assert_int_equal(kept_after_a_wave(), 32 * MIB);
	allowance_since = 0;
	purged_in_background = true;
	assert_int_equal(kept_after_a_wave(), 32 * MIB);
	purged_in_background = false;
	huge_purge();
}

static void unused_mappings_decay(void **state) {
	(void)state;
	purged_in_background = true;
	assert_int_equal(kept_after_a_wave(), 32 * MIB);
	purged_in_background = false;
	conf.decay = 4; /* an interval is a millisecond */
	for (size_t left = 32 * MIB, before = left; left > 0; before = left) {
		uint64_t start = os_milliseconds();
		while (os_milliseconds() - start < 10) {
		}
		left = huge_decay();
		assert_true(left >= before / 2 || before <= MIB);
		assert_true(left < before || before == 32 * MIB); /* the first look only notes what there is */
	}
	conf.decay = 1000;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_grows), cmocka_unit_test(kept_mappings_are_reused), cmocka_unit_test(cache_is_bounded),
		cmocka_unit_test(resizing_keeps_content), cmocka_unit_test(growing_takes_what_is_kept_behind), cmocka_unit_test(large_blocks),
		cmocka_unit_test(waves_are_kept), cmocka_unit_test(unused_mappings_decay),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
