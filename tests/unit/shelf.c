/* arena/shelf.c: runs that one thread frees and another one takes, without the page heap. */
#include "passing.h"
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena/large.h"
#include "arena/policy.h"
#include "arena/pressure.h"
#include "arena/shelf.h"
#include "arena/wave.h"
#include "base/conf.h"
#include "base/gate.h"
#include "base/libc.h"
#include "cache/purger.h"
#include "cache/tcache.h"
#include "harden/harden.h"
#include "observe/stats.h"

enum { SLICES = SHELF_SLICES, KEPT = RUN_CACHE_BYTES / SLICE_SIZE };

static void *take(size_t slices) {
	void *block = arenal_test_malloc(slices * SLICE_SIZE);
	assert_non_null(block);
	return block;
}

/* Nothing waits anywhere, and a purger is said to come by. */
static void begin(void) {
	atomic_store(&purged_in_background, true);
	tcache_flush_all();
	shelves_drain(0);
	assert_int_equal(shelves_bytes(), 0);
}

/* The calling thread keeps as many runs as it may. */
static void keep_all(void) {
	void *blocks[KEPT];
	for (int i = 0; i < KEPT; i++) blocks[i] = take(1);
	for (int i = 0; i < KEPT; i++) arenal_test_free(blocks[i]);
	assert_int_equal(run_cache_bytes(&tcache_current->run_cache), RUN_CACHE_BYTES);
}

static void put(void *block) { assert_true(shelf_put(span_of(block))); }

/* Runs of one to so many slices, of this thread's arena, lie on its shelf. Returns them, by slices. */
static void **shelve(size_t longest) {
	static void *blocks[SLICES + 1];
	for (size_t n = 1; n <= longest; n++) blocks[n] = take(n);
	for (size_t n = 1; n <= longest; n++) put(blocks[n]);
	return blocks;
}

static void *take_of_length(void *slices) { return take((size_t)slices); }

/* The calling thread's next block of the length comes from the shelf of the arena of `like`. */
static void *take_in_arena_of(void *like) {
	arenal_test_free(arenal_test_malloc(16)); /* it has a cache now */
	tcache_move_to(arena_list[span_of(like)->home - 1]);
	return take(span_of(like)->slices);
}

static void each_length_serves_others(void **state) {
	(void)state;
	begin();
	void **blocks = shelve(SLICES);
	assert_int_equal(shelves_bytes(), SLICES * (SLICES + 1) / 2 * SLICE_SIZE);
	for (size_t n = 1; n <= SLICES; n++) {
		assert_int_equal(span_of(blocks[n])->kind, SPAN_KEPT);
		assert_ptr_equal(in_thread(take_in_arena_of, blocks[n]), blocks[n]);
		assert_int_equal(span_of(blocks[n])->kind, SPAN_RUN);
	}
	assert_int_equal(shelves_bytes(), 0);
	/* The last one that came is the first to go. */
	for (size_t n = 1; n <= 2; n++) put(blocks[n]);
	void *second = take(1);
	assert_ptr_equal(second, blocks[1]);
	void *third = take(1);
	put(third), put(second);
	assert_ptr_equal(take(1), second);
	assert_ptr_equal(take(1), third);
	/* Longer ones are none of it, nor what has no size or far too much. */
	assert_false(shelf_put(span_of(take(SLICES + 1))));
	assert_null(shelf_take(arena_list[0], 0));
	assert_null(shelf_take(arena_list[0], SIZE_MAX));
	begin();
}

/* Slices that may lie on each shelf. */
static size_t most(void) {
	const size_t each = pressure.caches / SHELF_SHARE / arena_count;
	return min_size(max_size(each, SHELF_LEAST), SHELF_BYTES) / SLICE_SIZE;
}

/* A thread that keeps as much as it may leaves what it has others of; of another length, it keeps one. */
static void threads_pass_on(void **state) {
	(void)state;
	begin();
	void *longer[] = { take(3), take(3) }, *last = take(1), *other = take(2);
	keep_all();
	arenal_test_free(last);
	assert_int_equal(shelves_bytes(), SLICE_SIZE);
	assert_int_equal(run_cache_bytes(&tcache_current->run_cache), RUN_CACHE_BYTES);
	arenal_test_free(other); /* others go for it, or it does, but to the page heap */
	assert_int_equal(shelves_bytes(), SLICE_SIZE);
	for (int i = 0; i < 3; i++) take(1);
	arenal_test_free(longer[0]); /* there is room */
	assert_int_equal(shelves_bytes(), SLICE_SIZE);
	arenal_test_free(longer[1]);
	assert_int_equal(shelves_bytes(), 4 * SLICE_SIZE);
	/* Its own come first, then those. */
	assert_ptr_equal(take(3), longer[0]);
	assert_ptr_equal(take(3), longer[1]);
	assert_int_equal(shelves_bytes(), SLICE_SIZE);
	/* One that is to have nothing leaves all. */
	begin();
	atomic_store(&pressure.caches, 0);
	assert_int_equal(most() * SLICE_SIZE, SHELF_LEAST);
	arenal_test_free(longer[0]);
	assert_int_equal(shelves_bytes(), 3 * SLICE_SIZE);
	atomic_store(&pressure.caches, PRESSURE_CACHES);
	begin();
}

/* What one thread takes in its arena comes back there, whoever frees it. */
static void runs_go_home(void **state) {
	(void)state;
	begin();
	const int64_t usual = conf.arena_max;
	conf.arena_max = (int64_t)arena_count + 1;
	struct arena *own = tcache_arena(), *second = arena_create();
	conf.arena_max = usual;
	assert_true(second != NULL && second != own);
	void *block = take(2);
	assert_int_equal(span_of(block)->home, own->number + 1);
	shelf_own(second, span_of(block)); /* as if one of its threads had taken it */
	put(block);
	assert_null(shelf_take(own, 2 * SLICE_SIZE));
	assert_int_equal(second->shelf.slices, 2);
	assert_ptr_equal(shelf_take(second, 2 * SLICE_SIZE - 100)->start, block);
	/* Of nobody: what was not taken by a thread of an arena, as blocks of arenas that the program made. */
	struct span *run = span_of(large_alloc(2 * SLICE_SIZE, MIN_ALIGN, false, REGION_MAPPED));
	assert_int_equal(run->home, 0);
	assert_false(shelf_put(run));
	heap_free(run);
	begin();
}

static void there_is_a_limit(void **state) {
	(void)state;
	begin();
	enum { MANY = SHELF_BYTES / SLICE_SIZE + 4 };
	void *blocks[MANY];
	size_t left = 0;
	for (int i = 0; i < MANY; i++) blocks[i] = take(1);
	for (int i = 0; i < MANY; i++)
		if (!shelf_put(span_of(blocks[i]))) blocks[left++] = blocks[i];
	assert_int_equal(MANY - left, most());
	assert_int_equal(shelves_bytes(), most() * SLICE_SIZE);
	for (size_t i = 0; i < left; i++) arenal_test_free(blocks[i]);
	/* Less may lie there while memory is short: a look is enough. */
	atomic_store(&pressure.caches, 0);
	atomic_store(&pressure.level, 1);
	void *none = take(2);
	assert_false(shelf_put(span_of(none)));
	assert_false(shelves_drain(IDLE_LOOKS));
	assert_int_equal(shelves_bytes(), 0);
	atomic_store(&pressure.caches, PRESSURE_CACHES);
	atomic_store(&pressure.level, 0);
	/* None comes while nobody would look at it, nor where threads are to keep nothing. */
	atomic_store(&purged_in_background, false);
	assert_false(shelf_put(span_of(none)));
	atomic_store(&purged_in_background, true);
	const int64_t usual = conf.tcache_max;
	conf.tcache_max = 0;
	assert_false(shelf_put(span_of(none)));
	conf.tcache_max = usual;
	put(none);
	begin();
}

static void what_nobody_wants_goes(void **state) {
	(void)state;
	begin();
	void **blocks = shelve(2);
	for (int look = 1; look < IDLE_LOOKS; look++) assert_true(shelves_drain(IDLE_LOOKS));
	/* A length that is in use stays, and another one goes. */
	assert_ptr_equal(take(2), blocks[2]);
	put(blocks[2]);
	assert_true(shelves_drain(IDLE_LOOKS));
	assert_int_equal(shelves_bytes(), 2 * SLICE_SIZE);
	for (int look = 1; look < IDLE_LOOKS; look++) assert_true(shelves_drain(IDLE_LOOKS));
	assert_false(shelves_drain(IDLE_LOOKS));
	assert_int_equal(shelves_bytes(), 0);
	/* What comes after that has its own time. */
	shelve(2);
	for (int look = 1; look < IDLE_LOOKS; look++) assert_true(shelves_drain(IDLE_LOOKS));
	assert_int_equal(shelves_bytes(), 3 * SLICE_SIZE);
	begin();
}

/* When all is to go: memory is short, somebody asks for it, an allocation is about to fail. */
static void all_goes_at_once(void **state) {
	(void)state;
	begin();
	shelve(3);
	arena_purge_all(0);
	assert_int_equal(shelves_bytes(), 0);
	shelve(3);
	arena_release_all(SLICE_SIZE);
	assert_int_equal(shelves_bytes(), 0);
	shelve(3);
	arenal_test_malloc_trim(0);
	assert_int_equal(shelves_bytes(), 0);
	shelve(1);
	assert_false(shelves_drain(0));
	assert_int_equal(shelves_bytes(), 0);
}

/* The figures of the process: what lies there is free, and cached. */
static void it_is_counted(void **state) {
	(void)state;
	begin();
	struct arenal_stats before, after;
	void *block = take(3);
	stats_get(&before);
	put(block);
	stats_get(&after);
	assert_int_equal(before.allocated - after.allocated, 3 * SLICE_SIZE);
	assert_int_equal(after.cached - before.cached, 3 * SLICE_SIZE);
	assert_int_equal(after.active, before.active);
	begin();
}

static void calloc_clears_it(void **state) {
	(void)state;
	begin();
	void *block = take(1);
	memset(block, 0xaa, SLICE_SIZE);
	put(block);
	char *again = arenal_test_calloc(1, SLICE_SIZE);
	assert_ptr_equal(again, block);
	for (size_t i = 0; i < SLICE_SIZE; i++) assert_int_equal(again[i], 0);
	arenal_test_free(again);
	begin();
}

static void free_once_more(void) {
	close(2);
	arenal_test_free(shelve(0)[3]);
}

/* Two threads free it in one moment, and both have seen that it was in use. */
static void put_once_more(void) {
	close(2);
	atomic_store(&purged_in_background, true); /* as if it had a purger by now */
	shelf_put(span_of(shelve(0)[3]));
}

/* A child has what lies there, once. */
static void take_in_child(void) {
	atomic_store(&purged_in_background, true); /* as if it had a purger by now */
	void *first = take(3), *second = take(3);
	if (first != shelve(0)[3] || second == first || shelves_bytes() != 3 * SLICE_SIZE) _exit(1);
}

/* Nobody in the child would look at it: it goes as what its parent's other threads kept does, by and by. */
static void free_in_child(void) {
	if (shelves_bytes() != 6 * SLICE_SIZE) _exit(1);
	const time_t end = time(NULL) + 20;
	while (shelves_bytes() > 0 && time(NULL) < end) {
		void *block = take(40);
		arenal_test_free(block);
	}
	_exit(shelves_bytes() > 0);
}

/* It has waited until a fork of the child's is over. */
static void fork_while_it_is_freed(void) {
	const uint64_t from = os_milliseconds() + 2 * ADOPTION_PACE, until = from + 20000;
	gate_close();
	while (os_milliseconds() < from) tcache_adopt_in_time();
	gate_open();
	while (shelves_bytes() > 0 && os_milliseconds() < until) tcache_adopt_in_time();
	_exit(shelves_bytes() > 0);
}

static void children_and_second_frees(void **state) {
	(void)state;
	begin();
	shelve(3);
	void (*const second_frees[])(void) = { free_once_more, put_once_more };
	for (int i = 0; i < 2; i++) {
		const int status = status_of(second_frees[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
	assert_int_equal(status_of(take_in_child), 0);
	assert_int_equal(status_of(free_in_child), 0);
	assert_int_equal(status_of(fork_while_it_is_freed), 0);
	assert_int_equal(shelves_bytes(), 6 * SLICE_SIZE);
	begin();
}

/* Nobody waits for a shelf: who finds it taken does without. */
static void nobody_waits(void **state) {
	(void)state;
	begin();
	void *own = take(2), **blocks = shelve(2);
	struct shelf *shelf = &tcache_arena()->shelf;
	lock_take(&shelf->lock, RANK_BIN);
	void *other = in_thread(take_of_length, (void *)(uintptr_t)2);
	assert_ptr_not_equal(other, blocks[2]);
	assert_false(shelf_put(span_of(own)));
	lock_drop(&shelf->lock, RANK_BIN);
	assert_int_equal(shelves_bytes(), 3 * SLICE_SIZE);
	arenal_test_free(other);
	begin();
}

static size_t length_by_turns(uintptr_t number) { return (1 + number % SLICES) * SLICE_SIZE - 256; }

static void drain_all(void) {
	shelves_drain(1);
	tcache_drain(IDLE_LOOKS);
}

static void passed_on_while_drained(void **state) {
	(void)state;
	begin();
	pass_on(length_by_turns, 20000, drain_all);
	begin();
}

/* A fork is under way, and over a moment later. */
static void *fork_for_a_moment(void *barrier) {
	gate_close();
	pthread_barrier_wait(barrier);
	usleep(20000);
	gate_open();
	return NULL;
}

/* Before an allocation fails, and not only where nobody forks. */
static void forks_make_no_allocation_fail(void **state) {
	(void)state;
	begin();
	shelve(3);
	pthread_t thread;
	pthread_barrier_t barrier;
	pthread_barrier_init(&barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, fork_for_a_moment, &barrier), 0);
	pthread_barrier_wait(&barrier);
	assert_true(harden_reclaim(SLICE_SIZE));
	assert_int_equal(shelves_bytes(), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_barrier_destroy(&barrier);
	begin();
}

/* ---- with a purger ---- */

/* A process in which a purger starts at the next slow moment. */
static pthread_t two_threads(void) {
	atomic_store(&purged_in_background, false);
	atomic_store(&wave_highest, 2 * SMALL_PROCESS_MAX);
	const pthread_t thread = other_thread();
	assert_int_equal(purger_state, PURGER_OFF);
	conf.background = 1;
	return thread;
}

static void end_two_threads(pthread_t other) {
	conf.background = 0;
	end_other_thread(other);
}

/* Others come by while one is about to start, which the system refuses. */
static void **left;

static int refuse(pthread_t *handle, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
	(void)handle, (void)attributes, (void)body, (void)argument;
	for (int i = 0; i < 2; i++) put(left[i]);
	return EAGAIN;
}

static void none_stays_when_it_cannot_start(void **state) {
	(void)state;
	begin();
	void *blocks[] = { take(1), take(2) };
	left = blocks;
	const pthread_t other = two_threads();
	libc.pthread_create = refuse;
	purger_start();
	libc.pthread_create = pthread_create;
	assert_int_equal(purger_state, PURGER_OFF);
	assert_int_equal(slice_record(blocks[0])->kind, SPAN_NONE); /* they were there */
	assert_int_equal(shelves_bytes(), 0);
	end_two_threads(other);
}

/* No purger starts unless a test wants one: what is drained, and when, the tests say. */
static int start_alone(void **state) {
	conf.background = 0;
	return start_arenal(state);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_length_serves_others), cmocka_unit_test(threads_pass_on),
		cmocka_unit_test(runs_go_home),              cmocka_unit_test(there_is_a_limit),
		cmocka_unit_test(what_nobody_wants_goes),    cmocka_unit_test(all_goes_at_once),
		cmocka_unit_test(it_is_counted),             cmocka_unit_test(calloc_clears_it),
		cmocka_unit_test(children_and_second_frees), cmocka_unit_test(nobody_waits),
		cmocka_unit_test(passed_on_while_drained),   cmocka_unit_test(forks_make_no_allocation_fail),
		cmocka_unit_test(none_stays_when_it_cannot_start),
	};
	return cmocka_run_group_tests(tests, start_alone, NULL);
}
