/* observe/resident: what the kernel says is in memory, and that nobody else asks it. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <time.h>

#include "arena/heap.h"
#include "arena/huge.h"
#include "base/conf.h"
#include "base/os.h"
#include "harden/hard_large.h"
#include "observe/stats.h"
#include "observe/window.h"

static size_t questions;
static void (*meanwhile)(void); /* called in the middle of the first question about this address */
static const char *about;
static _Atomic bool no_memory;

/* In place of the library's (--wrap). */
long __real_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f) {
	if (number == SYS_mmap && no_memory) return -ENOMEM;
	if (number == SYS_mincore) {
		void (*call)(void) = (size_t)about - (size_t)a < (size_t)b ? meanwhile : NULL;
		questions++;
		if (call != NULL) {
			meanwhile = NULL;
			call();
		}
	}
	return __real_system_call(number, a, b, c, d, e, f);
}

enum { BLOCKS = 400, BLOCK = 256 * 1024 };
static char *blocks[BLOCKS];

static void take_blocks(void) {
	size_t stale;
	for (int i = 0; i < BLOCKS; i++) {
		assert_non_null(blocks[i] = huge_alloc(BLOCK, 1, &stale));
		memset(blocks[i], 1, BLOCK);
	}
}

static void drop_blocks(void) {
	for (int i = 0; i < BLOCKS; i++)
		if (blocks[i] != NULL) huge_free(blocks[i]);
	huge_purge();
}

static size_t asked_for(size_t *bytes) {
	questions = 0;
	*bytes = stats_resident();
	return questions;
}

static void what_is_written_is_in_memory(void **state) {
	(void)state;
	size_t stale, bytes;
	conf.thp = 0;
	struct span *run = heap_alloc(100, 1, REGION_MAPPED, SPAN_RUN, NULL);
	char *block = huge_alloc(20 * MIB, 1, &stale), *kept = huge_alloc(3 * MIB, 1, &stale);
	assert_non_null(run);
	assert_true(block != NULL && kept != NULL);
	const size_t before = stats_resident();
	for (size_t i = 0; i < 100; i += 2) run->start[i * SLICE_SIZE] = 1;
	memset(block + 7 * MIB, 1, 6 * MIB);
	memset(kept, 1, 3 * MIB);
	asked_for(&bytes);
	assert_int_equal(bytes - before, 50 * os_page_size + 9 * MIB);
	/* Kept for the next block, it is in memory all the same. */
	conf.dirty_max = 64 * MIB;
	huge_free(kept);
	asked_for(&bytes);
	assert_int_equal(bytes - before, 50 * os_page_size + 9 * MIB);
	conf.dirty_max = -1;
	huge_free(block);
	heap_free(run);
	heap_purge();
	huge_purge();
	asked_for(&bytes);
	assert_true(bytes <= before);
}

static int by_address(const void *a, const void *b) {
	const char *left = *(char *const *)a, *right = *(char *const *)b;
	return left < right ? -1 : left > right;
}

/* However many blocks there are, and in whatever order they came: a call for 1024 pages of what lies side by side. */
static void neighbours_are_asked_for_together(void **state) {
	(void)state;
	size_t bytes, rest = asked_for(&bytes), most = rest, length = 0;
	take_blocks();
	qsort(blocks, BLOCKS, sizeof *blocks, by_address);
	for (int i = 0; i < BLOCKS; i++) {
		length += BLOCK;
		if (i + 1 < BLOCKS && blocks[i] + BLOCK == blocks[i + 1]) continue;
		most += length / (1024 * os_page_size) + 2;
		length = 0;
	}
	assert_true(most < rest + BLOCKS / 2);
	assert_in_range(asked_for(&bytes), 1, most);
	assert_true(bytes >= (size_t)BLOCKS * BLOCK);
	drop_blocks();
}

static sem_t wanted, done;

static void *use_all_locks(void *unused) {
	size_t stale;
	sem_wait(&wanted);
	char *block = huge_alloc(2 * MIB, 1, &stale);
	if (block != NULL) huge_free(block);
	struct span *run = heap_alloc(1, 1, REGION_MAPPED, SPAN_RUN, NULL);
	if (run != NULL) heap_free(run);
	arenal_test_free(arenal_test_malloc(100));
	sem_post(&done);
	return unused;
}

static bool others_went_on;

static void let_others_go_on(void) {
	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 10;
	sem_post(&wanted);
	others_went_on = sem_timedwait(&done, &limit) == 0;
}

static void no_lock_is_held_meanwhile(void **state) {
	(void)state;
	size_t stale;
	pthread_t thread;
	char *block = huge_alloc(MIB, 1, &stale);
	struct span *run = heap_alloc(1, 1, REGION_MAPPED, SPAN_RUN, NULL);
	const char *places[] = { block, run->start };
	sem_init(&wanted, 0, 0);
	sem_init(&done, 0, 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&thread, NULL, use_all_locks, NULL), 0);
		others_went_on = false;
		about = places[i];
		meanwhile = let_others_go_on;
		stats_resident();
		assert_null(meanwhile);
		pthread_join(thread, NULL);
		assert_true(others_went_on);
	}
	heap_free(run);
	huge_free(block);
	huge_purge();
}

/* Half of the blocks, in pieces, so that neighbours have gaps between them. */
static void lose_some(void) {
	for (int i = 0; i < BLOCKS; i++) {
		if (i / 3 % 2 == 0) continue;
		huge_free(blocks[i]);
		blocks[i] = NULL;
	}
	huge_purge();
}

static void what_goes_meanwhile_does_no_harm(void **state) {
	(void)state;
	size_t left = 0;
	huge_purge();
	take_blocks();
	const size_t before = stats_resident();
	about = blocks[BLOCKS / 2];
	meanwhile = lose_some;
	const size_t during = stats_resident(), after = stats_resident();
	assert_null(meanwhile);
	for (int i = 0; i < BLOCKS; i++) left += blocks[i] != NULL ? BLOCK : 0;
	assert_true(left < (size_t)BLOCKS * BLOCK);
	assert_in_range(after, left, before);
	/* Some that went may have been asked for before. Of what is left, the edges of the gaps may be missing. */
	assert_in_range(during, after - after / 4, before);
	drop_blocks();
}

/* Then all of these blocks count. */
static void without_memory_for_a_list(void **state) {
	(void)state;
	struct arenal_stats stats;
	take_blocks();
	const size_t exactly = stats_resident();
	no_memory = true;
	const size_t about_as_much = stats_resident();
	no_memory = false;
	stats_get(&stats);
	assert_in_range(about_as_much, exactly, stats.mapped);
	drop_blocks();
}

/* Large blocks of hardened mode, whose neighbours lie beyond a guard; and what freed ones keep. */
static void hardened_blocks_are_in_memory(void **state) {
	(void)state;
	const struct claim claim = { "free", FAMILY_MALLOC, SIZE_UNKNOWN };
	size_t before, bytes;
	const size_t few = asked_for(&before);
	for (int i = 0; i < BLOCKS; i++) {
		assert_non_null(blocks[i] = large_hard_alloc(MIN_ALIGN, BLOCK, FAMILY_MALLOC));
		memset(blocks[i], 1, BLOCK);
	}
	/* 4 MiB a call: none for each block. */
	assert_true(asked_for(&bytes) <= few + (size_t)BLOCKS * BLOCK / (4 * MIB) * 2);
	assert_in_range(bytes - before, (size_t)BLOCKS * BLOCK, (size_t)BLOCKS * BLOCK + MIB);
	for (int i = 0; i < BLOCKS; i++) assert_true(large_hard_free(blocks[i], &claim));
	asked_for(&bytes);
	assert_in_range(bytes - before, BLOCK, (size_t)BLOCKS * BLOCK / 2);
	large_hard_purge();
	asked_for(&bytes);
	assert_in_range(bytes, 0, before + MIB);
}

/* All that there is to look at, but for the one figure. */
static void nobody_else_asks(void **state) {
	(void)state;
	static struct window_page page;
	struct arenal_stats stats;
	int dump[2] = { -1, -1 }, nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	take_blocks();
	questions = 0;
	stats_get(&stats);
	assert_int_equal(stats_print(nowhere), 0);
	window_answer(&page, &(struct window_request){ .kind = WINDOW_SNAPSHOT }, dump);
	assert_int_equal(page.answer.resident, 0);
	window_answer(&page, &(struct window_request){ .kind = WINDOW_PURGE }, dump);
	assert_int_equal(questions, 0);
	window_answer(&page, &(struct window_request){ .kind = WINDOW_SNAPSHOT, .value = WINDOW_RESIDENT }, dump);
	assert_true(questions > 0);
	memcpy(&stats, page.stats, sizeof stats);
	assert_in_range(page.answer.resident, (size_t)BLOCKS * BLOCK, stats.mapped);
	drop_blocks();
	os_close(nowhere);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_in_memory), cmocka_unit_test(neighbours_are_asked_for_together),
		cmocka_unit_test(no_lock_is_held_meanwhile), cmocka_unit_test(what_goes_meanwhile_does_no_harm),
		cmocka_unit_test(without_memory_for_a_list),
		cmocka_unit_test(hardened_blocks_are_in_memory), cmocka_unit_test(nobody_else_asks),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
