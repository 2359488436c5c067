/* The histograms of slow calls in arenal_stats: each kind of call is counted as what it is, in threads and children, too. Runs in each
 * mode. */
#include "support.h"

#include <arenal/arenal.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

/* One of 16 is timed. Of so many calls in a row, the first and the last ones may belong to others' 16; a thread keeps some blocks, and
 * 16 wait for other threads, twice when they are taken away in between: these frees are not slow. */
enum { EACH = 16, CALLS = 20 * EACH, LEAST = CALLS / EACH - 4, MOST = CALLS / EACH + 1 };

static struct arenal_stats stats_now(void) {
	struct arenal_stats stats;
	if (arenal_stats_get(&stats, sizeof stats) != 0) abort();
	return stats;
}

static uint64_t count(struct arenal_times times) {
	uint64_t sum = 0;
	for (int i = 0; i < ARENAL_TIMES; i++) sum += times.counts[i];
	return sum;
}

#define MORE(kind, before) (count(stats_now().kind) - count((before).kind))

/* Of so many slow calls in a row. */
static void assert_a_sixteenth(uint64_t timed) { assert_in_range(timed, LEAST, MOST); }

static void *blocks[CALLS];

static void take(size_t size) {
	for (size_t i = 0; i < CALLS; i++)
		if ((blocks[i] = malloc(size)) == NULL) abort();
}

static void give(void) {
	for (size_t i = 0; i < CALLS; i++) free(blocks[i]);
}

static void runs_and_mappings(void **state) {
	(void)state;
	static const size_t sizes[] = { 100000, 2 * MIB };
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		const struct arenal_stats before = stats_now();
		take(sizes[i]);
		assert_a_sixteenth(MORE(malloc_large, before));
		assert_int_equal(MORE(free_large, before), 0);
		give();
		assert_a_sixteenth(MORE(free_large, before));
		assert_int_equal(MORE(realloc_large, before), 0);
	}
}

static void other_functions(void **state) {
	(void)state;
	const struct arenal_stats before = stats_now();
	for (size_t i = 0; i < CALLS; i++) assert_non_null(blocks[i] = i % 2 == 0 ? calloc(2, 50000) : aligned_alloc(4096, 100000));
	assert_a_sixteenth(MORE(malloc_large, before));
	give();
	assert_a_sixteenth(MORE(free_large, before));
}

static void resizes(void **state) {
	(void)state;
	char *block = malloc(2 * MIB);
	const struct arenal_stats before = stats_now();
	for (size_t i = 1; i <= CALLS; i++) assert_non_null(block = realloc(block, i % 2 == 0 ? 2 * MIB : 8 * MIB));
	assert_a_sixteenth(MORE(realloc_large, before));
	free(block);
}

/* Refills and flushes: fewer than calls, unless each block is guarded, or a sample of the profile. */
static void small_blocks(void **state) {
	(void)state;
	const struct arenal_stats before = stats_now();
	for (int round = 0; round < 40; round++) {
		take(5000);
		give();
	}
	const uint64_t taken = MORE(malloc_small, before), given = MORE(free_small, before);
	assert_in_range(taken, 3, 40 * MOST);
	assert_in_range(given, 3, 40 * MOST);
	assert_true(stats_now().malloc_small.nanoseconds > before.malloc_small.nanoseconds);
}

static void *take_and_give(void *unused) {
	free(unknown(malloc(100))); /* a thread is counted once it has a cache, which large blocks of hardened mode do not need */
	take(100000);
	give();
	return unused;
}

static void what_a_thread_counted_stays(void **state) {
	(void)state;
	pthread_t thread;
	const struct arenal_stats before = stats_now();
	assert_int_equal(pthread_create(&thread, NULL, take_and_give, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_a_sixteenth(MORE(malloc_large, before));
	assert_a_sixteenth(MORE(free_large, before));
}

static void count_in_child(void *argument) {
	const struct arenal_stats *parent = argument;
	CHILD_CHECK(MORE(malloc_large, *parent) == 0);
	take_and_give(NULL);
	CHILD_CHECK(MORE(malloc_large, *parent) >= LEAST);
	CHILD_CHECK(MORE(free_large, *parent) >= LEAST);
}

static void children_go_on_from_their_parent_s(void **state) {
	(void)state;
	const struct arenal_stats before = stats_now();
	assert_int_equal(run_in_child(count_in_child, (void *)&before), 0);
	assert_int_equal(MORE(malloc_large, before), 0);
}

static void purges(void **state) {
	(void)state;
	take(100000);
	for (size_t i = 0; i < CALLS; i++) memset(blocks[i], 1, 100000);
	const struct arenal_stats before = stats_now();
	for (size_t i = 0; i < CALLS; i += 2) { /* what lies between others in use cannot go but by madvise */
		free(blocks[i]);
		blocks[i] = NULL;
	}
	arenal_purge();
	const struct arenal_stats after = stats_now();
	assert_true(count(after.purge) - count(before.purge) >= after.purges_total - before.purges_total);
	assert_true(after.purges_total > before.purges_total);
	assert_true(after.purge.nanoseconds > before.purge.nanoseconds);
	give();
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_and_mappings),
		cmocka_unit_test(other_functions),
		cmocka_unit_test(resizes),
		cmocka_unit_test(small_blocks),
		cmocka_unit_test(what_a_thread_counted_stays),
		cmocka_unit_test(children_go_on_from_their_parent_s),
		cmocka_unit_test(purges),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
