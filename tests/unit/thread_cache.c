/* cache/: magazines and the life of thread caches. */
#include "barrier.h"
#include "unit.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena/depot.h"
#include "arena/policy.h"
#include "arena/pressure.h"
#include "arena/wave.h"
#include "base/bitmap.h"
#include "base/conf.h"
#include "cache/caches.h"
#include "cache/walk.h"

static struct magazine *magazine_of(size_t size) { return &tcache_current->magazines[class_of_size(size)]; }

static uint16_t slots_of(size_t size) { return tcache_current->slots[class_of_size(size)].count; }

static size_t blocks_in(const struct magazine *m) { return (size_t)(m->top - m->empty); }

static void last_freed_comes_first(void **state) {
	(void)state;
	void *a = arenal_test_malloc(100), *b = arenal_test_malloc(100);
	arenal_test_free(a);
	arenal_test_free(b);
	assert_ptr_equal(arenal_test_malloc(100), b);
	assert_ptr_equal(arenal_test_malloc(100), a);
	arenal_test_free(a);
	arenal_test_free(b);
}

/* ---- threads of a running process that hide their caches ---- */

static bool leads(const struct tcache *tc) {
	bool all = tc->class_mask == UINT16_MAX, any = tc->class_mask != 0;
	for (size_t i = 1; i <= TABLE_MAX / MIN_ALIGN; i++) {
		all &= tc->tag_of_size[i] == tcache_tags[i];
		any |= tc->tag_of_size[i] != 0;
	}
	assert_int_equal(all, any);
	return all;
}

static void *sleeps_with_a_cache(void *barrier) {
	arenal_test_free(arenal_test_malloc(100));
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	return NULL;
}

static void threads_are_led_away_and_back(void **state) {
	(void)state;
	pthread_barrier_t barrier;
	pthread_t thread;
	pthread_barrier_init(&barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, sleeps_with_a_cache, &barrier), 0);
	pthread_barrier_wait(&barrier);
	void *block = arenal_test_malloc(100), *other = arenal_test_malloc(100);
	struct tcache *own = tcache_current, *its = caches.first == own ? own->next : caches.first;
	const size_t covered = page_map.covered;
	arenal_test_free(other);

	tcache_lead(false);
	assert_true(!leads(own) && !leads(its) && page_map.covered == 0 && page_map.derived_covered == 0);
	assert_int_equal(page_map.length, covered);
	/* What is freed and allocated goes its slow way, to the same magazine. */
	arenal_test_free(block);
	assert_ptr_equal(arenal_test_malloc(100), block);
	assert_ptr_equal(arenal_test_malloc(100), other);
	assert_null(tcache_reveal());
	assert_true(tcache_sample(4096) && tcache_sample(0));
	assert_true(!leads(own) && !leads(its));

	tcache_hide_running();
	assert_ptr_equal(tcache_current, own);
	assert_ptr_equal(tcache_reveal(), &tcache_hiding);
	assert_ptr_equal(tcache_current, own);
	assert_true(leads(own) && !leads(its));
	assert_null(tcache_reveal());
	tcache_conceal(&tcache_hiding);
	assert_ptr_equal(tcache_reveal(), &tcache_hiding);
	assert_ptr_equal(tcache_current, own);

	tcache_hide_no_more();
	tcache_unhide();
	assert_null(tcache_reveal());
	tcache_lead(true);
	assert_true(leads(own) && leads(its) && page_map.covered == covered);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	arenal_test_free(block);
	arenal_test_free(other);
}

static void magazines_adapt(void **state) {
	(void)state;
	enum { BLOCKS = 5000 };
	static void *blocks[BLOCKS];
	tcache_flush();
	blocks[0] = arenal_test_malloc(64);
	uint16_t start = slots_of(64);
	for (int i = 1; i < BLOCKS; i++) blocks[i] = arenal_test_malloc(64);
	assert_true(slots_of(64) > start);
	for (int i = 0; i < BLOCKS; i++) arenal_test_free(blocks[i]);
	assert_true(blocks_in(magazine_of(64)) <= slots_of(64));
	assert_true(slots_of(64) <= 4096);
	tcache_flush();
	assert_int_equal(blocks_in(magazine_of(64)), 0);
	size_t bytes, run_bytes, threads;
	tcache_stats_get(&bytes, &run_bytes, &threads);
	assert_int_equal(bytes, 0);
	assert_int_equal(threads, 1);
}

static void idle_magazines_shrink(void **state) {
	(void)state;
	enum { IDLE = 2000, BLOCKS = 6000 };
	static void *blocks[BLOCKS];
	for (int i = 0; i < IDLE; i++) blocks[i] = arenal_test_malloc(96);
	for (int i = 0; i < IDLE; i++) arenal_test_free(blocks[i]);
	size_t idle = blocks_in(magazine_of(96));
	assert_true(idle > 8);
	/* Work in another class drains it, little by little. */
	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < BLOCKS; i++) blocks[i] = arenal_test_malloc(200);
		for (int i = 0; i < BLOCKS; i++) arenal_test_free(blocks[i]);
	}
	assert_true(blocks_in(magazine_of(96)) <= 2);
	tcache_flush();
}

static void budget_holds(void **state) {
	(void)state;
	for (size_t size = 16; size <= SMALL_MAX; size += size / 2) {
		void *blocks[200];
		for (int i = 0; i < 200; i++) blocks[i] = arenal_test_malloc(size);
		for (int i = 0; i < 200; i++) arenal_test_free(blocks[i]);
	}
	assert_true(tcache_current->room <= (size_t)conf.tcache_max);
	size_t bytes, run_bytes, threads;
	tcache_stats_get(&bytes, &run_bytes, &threads);
	assert_true(bytes <= (size_t)conf.tcache_max);
	tcache_flush();
}

static void no_caching(void **state) {
	(void)state;
	tcache_flush();
	conf.tcache_max = 0;
	void *blocks[100];
	for (int i = 0; i < 100; i++) memset(blocks[i] = arenal_test_malloc(48), i, 48);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(*(char *)blocks[i], i);
		arenal_test_free(blocks[i]);
	}
	assert_int_equal(blocks_in(magazine_of(48)), 0);
	conf.tcache_max = MIB;
}

/* In caches, not in depots. */
static size_t cached_bytes(void) {
	size_t bytes, run_bytes, threads;
	depots_drain(0);
	tcache_stats_get(&bytes, &run_bytes, &threads);
	return bytes;
}

/* A thread, which ends: what it used. */
struct use {
	size_t size, blocks; /* so many are allocated and freed */
	size_t sizes;        /* as many, of so many other sizes */
	void *first;         /* the first of them */
	struct arena *arena;
	struct tcache *cache;
	size_t room;     /* of its cache, at its end */
	uint64_t during; /* blocks out while it was there */
};

/* In all hands: the program's, and caches'. */
static uint64_t blocks_out(const struct use *use) {
	struct bin *bin = &use->arena->bins[class_of_size(use->size)];
	lock_take(&bin->lock, RANK_BIN);
	const uint64_t blocks = bin->blocks_out;
	lock_drop(&bin->lock, RANK_BIN);
	return blocks;
}

static void *use_and_exit(void *use_out) {
	struct use *use = use_out;
	void **blocks = mmap(NULL, use->blocks * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(blocks, MAP_FAILED);
	for (size_t other = use->sizes + 1; other-- > 0;) {
		for (size_t i = 0; i < use->blocks; i++) blocks[i] = arenal_test_malloc(use->size + 500 * other);
		use->first = blocks[0];
		for (size_t i = use->blocks; i-- > 0;) arenal_test_free(blocks[i]);
	}
	munmap(blocks, use->blocks * sizeof *blocks);
	use->cache = tcache_current;
	use->room = tcache_current->room;
	use->arena = tcache_current->arena;
	use->during = blocks_out(use);
	return NULL;
}

static struct use run_thread(size_t size, size_t blocks) {
	struct use use = { .size = size, .blocks = blocks };
	pthread_t thread;
	const size_t threads = tcache_count();
	assert_int_equal(pthread_create(&thread, NULL, use_and_exit, &use), 0);
	pthread_join(thread, NULL);
	assert_int_equal(tcache_count(), threads);
	return use;
}

static void exit_flushes(void **state) {
	(void)state;
	const struct use use = run_thread(300, 1);
	assert_true(use.during > 0);
	assert_int_equal(blocks_out(&use), 0);
	assert_int_equal(use.arena->threads, use.arena == tcache_current->arena);
	assert_int_equal(tcache_count(), 1);
}

/* A thread with a cache that is there all the time: it waits for `over`. */
static pthread_barrier_t begun, over;
static pthread_t staying;

static void *stay(void *unused) {
	arenal_test_free(arenal_test_malloc(8));
	pthread_barrier_wait(&begun);
	pthread_barrier_wait(&over);
	return unused;
}

/* As in a process of several threads, with a purger. */
static int with_another_thread(void **state) {
	(void)state;
	arenal_test_free(arenal_test_malloc(8)); /* this thread has a cache */
	pthread_barrier_init(&begun, NULL, 2);
	pthread_barrier_init(&over, NULL, 2);
	assert_int_equal(pthread_create(&staying, NULL, stay, NULL), 0);
	pthread_barrier_wait(&begun);
	atomic_store(&purged_in_background, true);
	tcache_flush_all();
	return 0;
}

static void end_staying(void) {
	if (staying == 0) return;
	pthread_barrier_wait(&over);
	pthread_join(staying, NULL);
	staying = 0;
}

static int without(void **state) {
	(void)state;
	end_staying();
	atomic_store(&purged_in_background, false);
	tcache_flush_all();
	assert_int_equal(caches.parked_count, 0);
	assert_int_equal(cached_bytes(), 0);
	return 0;
}

static void the_next_thread_takes_a_cache_over(void **state) {
	(void)state;
	struct use one = run_thread(300, 1);
	assert_true(one.during > 0);
	assert_int_equal(blocks_out(&one), one.during);
	assert_true(cached_bytes() > 0);
	assert_int_equal(caches.parked_count, 1);
	struct use next = run_thread(300, 1);
	assert_ptr_equal(next.cache, one.cache);
	assert_ptr_equal(next.first, one.first);
	assert_int_equal(next.during, one.during);
	assert_int_equal(caches.parked_count, 1);
	/* Nobody comes. */
	for (int look = 0; look < IDLE_LOOKS; look++) {
		assert_true(tcache_drain(IDLE_LOOKS));
		assert_int_equal(blocks_out(&next), next.during);
	}
	tcache_drain(IDLE_LOOKS);
	assert_int_equal(blocks_out(&next), 0);
	assert_int_equal(caches.parked_count, 0);
	assert_null(caches.parked);
	/* At once, when told. */
	one = run_thread(300, 1);
	assert_int_equal(caches.parked_count, 1);
	tcache_flush_all();
	assert_int_equal(blocks_out(&one), 0);
	assert_int_equal(caches.parked_count, 0);
}

static void a_look_begins_anew_with_the_next_thread(void **state) {
	(void)state;
	for (int thread = 0; thread < 3; thread++) {
		run_thread(300, 1);
		for (int look = 0; look < IDLE_LOOKS; look++) tcache_drain(IDLE_LOOKS);
		assert_int_equal(caches.parked_count, 1);
	}
}

/* Blocks that nobody uses keep their spans: there are few in each. */
static void parked_magazines_are_short(void **state) {
	(void)state;
	struct use use = { .size = 500, .blocks = 1000, .sizes = 3 };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, use_and_exit, &use), 0);
	pthread_join(thread, NULL);
	assert_true(use.room > 20 * MAGAZINE_START_BYTES);
	assert_int_equal(caches.parked_count, 1);
	assert_true(caches.parked->room <= 5 * MAGAZINE_START_BYTES);
	for (unsigned c = 1; c < CLASS_COUNT; c++) assert_true(caches.parked->slots[c].count <= MAGAZINE_START_SLOTS);
	assert_true(cached_bytes() > 0 && cached_bytes() <= 6 * MAGAZINE_START_BYTES);
}

/* What malloc finds there, whoever took it over: free blocks with marks, and below them what has none. */
static void expect_marks(const struct tcache *tc, size_t size) {
	const struct magazine *m = &tc->magazines[class_of_size(size)];
	assert_true(m->top > m->empty);
	for (void **slot = m->empty; slot < m->top; slot++) assert_true(mark_is_there(*slot));
	assert_ptr_equal(m->empty[-1], magazine_no_block);
	assert_int_equal(tc->tag_of_size[(size + MIN_ALIGN - 1) / MIN_ALIGN], TAG_OF_CLASS(class_of_size(size)));
}

static void parked_blocks_have_marks(void **state) {
	(void)state;
	for (int thread = 0; thread < 3; thread++) {
		run_thread(300, 20);
		assert_int_equal(caches.parked_count, 1);
		expect_marks(caches.parked, 300);
	}
}

/* Who takes one over is not to guard the allocation that the one before guarded, nor none at all. */
static void turns_are_not_inherited(void **state) {
	(void)state;
	const int64_t before = conf.guard_sample;
	conf.guard_sample = 1000000;
	run_thread(300, 1);
	const int64_t left = caches.parked->guard.left;
	const uint64_t random = caches.parked->guard.random.state;
	caches.parked->guard.last = UINT64_MAX;
	caches.parked->sample.busy = true;
	run_thread(300, 1);
	assert_false(caches.parked->sample.busy);
	assert_int_not_equal(caches.parked->guard.left, left);
	assert_int_not_equal(caches.parked->guard.random.state, random);
	assert_int_not_equal(caches.parked->guard.last, UINT64_MAX);
	conf.guard_sample = before;
}

/* While the tunable says less than is in it. */
static void less_room_empties_a_parked_cache(void **state) {
	(void)state;
	const struct use one = run_thread(300, 1);
	conf.tcache_max = 0;
	const struct use next = run_thread(300, 1);
	conf.tcache_max = CONF_TCACHE_MAX;
	assert_ptr_equal(next.cache, one.cache);
	assert_int_equal(caches.parked->room, 0);
	assert_int_equal(blocks_out(&next), 0);
}

/* A second free of a block that lies there is found however seldom all caches are searched. */
static void a_parked_block_is_found(void **state) {
	(void)state;
	const struct use use = run_thread(300, 1);
	void *other = arenal_test_malloc(300);
	for (int time = 0; time < 3; time++) {
		assert_null(tcache_where_free(span_of(other), other)); /* after this, none for a while */
		assert_string_equal(tcache_where_free(span_of(use.first), use.first), ", and is in the cache of a thread that ended");
	}
	arenal_test_free(other);
}

enum { MANY = PARKED_MOST + 4 };
static pthread_barrier_t together;

static void *use_together(void *use) {
	use_and_exit(use);
	pthread_barrier_wait(&together);
	return NULL;
}

static void run_together(void) {
	pthread_t threads[MANY];
	static struct use uses[MANY];
	assert_int_equal(pthread_barrier_init(&together, NULL, MANY), 0);
	for (size_t i = 0; i < MANY; i++) {
		uses[i] = (struct use){ .size = 300, .blocks = 1 };
		assert_int_equal(pthread_create(&threads[i], NULL, use_together, &uses[i]), 0);
	}
	for (size_t i = 0; i < MANY; i++) pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&together);
}

static void *use_and_wait(void *use) {
	use_and_exit(use);
	pthread_barrier_wait(&together);
	pthread_barrier_wait(&together);
	return NULL;
}

/* Drained while its thread was there, it leaves malloc a way that ends below the block that was left. */
static void a_drained_cache_is_taken_over(void **state) {
	(void)state;
	struct use use = { .size = 300, .blocks = 20 };
	pthread_t thread;
	assert_int_equal(pthread_barrier_init(&together, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, use_and_wait, &use), 0);
	pthread_barrier_wait(&together);
	tcache_drain(0);
	pthread_barrier_wait(&together);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&together);
	assert_int_equal(caches.parked_count, 1);
	expect_marks(caches.parked, 300);
	const struct use next = run_thread(300, 20);
	assert_ptr_equal(next.cache, use.cache);
	expect_marks(caches.parked, 300);
}

static void few_are_parked(void **state) {
	(void)state;
	run_together();
	assert_int_equal(caches.parked_count, PARKED_MOST);
	assert_int_equal(tcache_count(), 2);
	run_together(); /* each has one thread */
	assert_int_equal(caches.parked_count, PARKED_MOST);
	/* One thread is left, which may rest for good, without a purger. */
	end_staying();
	assert_int_equal(caches.parked_count, 0);
	assert_int_equal(tcache_count(), 1);
	run_thread(300, 1);
	assert_int_equal(caches.parked_count, 0);
}

/* The child has them as orphans, like those of threads that were there. */
static void a_child_gives_them_back(void **state) {
	(void)state;
	int status;
	const struct use use = run_thread(300, 1);
	assert_int_equal(caches.parked_count, 1);
	const pid_t child = fork();
	if (child == 0) {
		const bool kept = cached_bytes() > 0 && caches.parked == NULL && caches.parked_count == 0;
		tcache_flush_all();
		_exit(kept && cached_bytes() == 0 && blocks_out(&use) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(caches.parked_count, 1);
}

/* What was parked before goes back with the next look. */
static void none_are_parked_while_memory_is_short(void **state) {
	(void)state;
	run_thread(300, 1);
	assert_int_equal(caches.parked_count, 1);
	atomic_store(&pressure.keep, 0);
	tcache_drain(1);
	assert_int_equal(caches.parked_count, 0);
	run_thread(300, 1);
	atomic_store(&pressure.keep, SIZE_MAX);
	assert_int_equal(caches.parked_count, 0);
	const int64_t left = atomic_exchange(&pressure.left, PARKED_LEAST_LEFT / 2);
	run_thread(300, 1);
	atomic_store(&pressure.left, left);
	assert_int_equal(caches.parked_count, 0);
}

static void none_are_parked_without_a_purger(void **state) {
	(void)state;
	atomic_store(&purged_in_background, false);
	const struct use use = run_thread(300, 1);
	assert_int_equal(caches.parked_count, 0);
	assert_int_equal(blocks_out(&use), 0);
	atomic_store(&purged_in_background, true);
	run_thread(300, 1);
	assert_int_equal(caches.parked_count, 1);
	tcache_end_parked(); /* it ends */
	assert_int_equal(caches.parked_count, 0);
}

static void drain_when_idle(void) {
	need_barrier();
	for (int look = 0; look < 10; look++) tcache_drain(IDLE_LOOKS);
}

/* As arenal_purge does with the caches of other threads. */
static void drain_now(void) {
	need_barrier();
	tcache_drain(0);
}

/* Fills the magazine of a size with blocks from a few pages, and returns how many it holds. */
static size_t fill_magazine(size_t size) {
	enum { BLOCKS = 64 };
	void *blocks[BLOCKS];
	tcache_flush();
	for (int i = 0; i < BLOCKS; i++) blocks[i] = arenal_test_malloc(size);
	for (int i = 0; i < BLOCKS; i++) arenal_test_free(blocks[i]);
	return blocks_in(magazine_of(size));
}

static bool is_with_arena(const void *block) {
	const struct span *s = span_of(block);
	return s == NULL || s->kind != SPAN_SMALL ||
	       bit_get(s->free_blocks, (size_t)((const char *)block - s->start) / size_classes[s->class_].size);
}

static void idle_caches_are_drained(void **state) {
	(void)state;
	assert_true(fill_magazine(112) > 8);
	struct bin *bin = &tcache_current->arena->bins[class_of_size(112)];
	drain_when_idle();
	assert_int_equal(blocks_in(magazine_of(112)), 1);
	assert_int_equal(bin->blocks_out, 1);
	/* It goes on working as before. */
	assert_true(fill_magazine(112) > 8);
	tcache_flush();
	assert_int_equal(bin->blocks_out, 0);
}

/* All of them at once, for one barrier serves them. */
static void busy_caches_are_drained_when_told(void **state) {
	(void)state;
	static const size_t sizes[] = { 48, 112, 1000, 5000 };
	enum { SIZES = sizeof sizes / sizeof *sizes, BLOCKS = 8 };
	void *blocks[SIZES][BLOCKS], *one = arenal_test_malloc(3000);
	tcache_flush();
	arenal_test_free(one); /* a single block, which stays */
	for (int s = 0; s < SIZES; s++)
		for (int i = 0; i < BLOCKS; i++) blocks[s][i] = arenal_test_malloc(sizes[s]);
	for (int s = 0; s < SIZES; s++)
		for (int i = 0; i < BLOCKS; i++) arenal_test_free(blocks[s][i]);
	drain_now();
	for (int s = 0; s < SIZES; s++) {
		assert_int_equal(blocks_in(magazine_of(sizes[s])), 1);
		assert_int_equal(tcache_current->arena->bins[class_of_size(sizes[s])].blocks_out, 1);
	}
	assert_ptr_equal(arenal_test_malloc(3000), one);
	arenal_test_free(one);
	tcache_flush();
}

static size_t kept_run_bytes(void) {
	size_t bytes, run_bytes, threads;
	tcache_stats_get(&bytes, &run_bytes, &threads);
	return run_bytes;
}

static void runs_are_kept(void **state) {
	(void)state;
	tcache_flush();
	char *block = arenal_test_malloc(100 * KIB);
	memset(block, 1, 100 * KIB);
	arenal_test_free(block);
	assert_int_equal(kept_run_bytes(), 2 * SLICE_SIZE);
	/* For blocks of its length only, and zeroed for calloc. */
	void *other = arenal_test_malloc(200 * KIB);
	assert_ptr_not_equal(other, block);
	assert_ptr_equal(arenal_test_calloc(1, 100 * KIB), block);
	for (size_t i = 0; i < 100 * KIB; i++) assert_int_equal(block[i], 0);
	assert_int_equal(kept_run_bytes(), 0);
	arenal_test_free(other);
	arenal_test_free(block);
	assert_int_equal(kept_run_bytes(), 6 * SLICE_SIZE);
	tcache_flush();
	assert_int_equal(kept_run_bytes(), 0);
}

static void few_runs_are_kept(void **state) {
	(void)state;
	enum { BLOCKS = 20 };
	void *blocks[BLOCKS];
	tcache_flush();
	for (size_t size = 64 * KIB; size <= 2 * RUN_CACHE_BYTES; size *= 2) {
		for (int i = 0; i < BLOCKS; i++) blocks[i] = arenal_test_malloc(size);
		for (int i = 0; i < BLOCKS; i++) arenal_test_free(blocks[i]);
		assert_true(kept_run_bytes() <= RUN_CACHE_BYTES);
		assert_true(kept_run_bytes() <= RUN_CACHE_SLICES * size);
		assert_true(size > RUN_CACHE_BYTES || kept_run_bytes() > 0);
	}
	conf.tcache_max = 0;
	tcache_flush();
	arenal_test_free(arenal_test_malloc(64 * KIB));
	assert_int_equal(kept_run_bytes(), 0);
	conf.tcache_max = MIB;
}

static void idle_runs_go_back(void **state) {
	(void)state;
	need_barrier();
	tcache_flush();
	arenal_test_free(arenal_test_malloc(100 * KIB));
	for (int look = 0; look < IDLE_LOOKS; look++) {
		assert_true(tcache_drain(IDLE_LOOKS));
		assert_int_equal(kept_run_bytes(), 2 * SLICE_SIZE);
	}
	tcache_drain(IDLE_LOOKS);
	assert_int_equal(kept_run_bytes(), 0);
	arenal_test_free(arenal_test_malloc(100 * KIB));
	assert_false(tcache_drain(0)); /* at once, when told */
	assert_int_equal(kept_run_bytes(), 0);
}

static void busy_caches_are_not(void **state) {
	(void)state;
	size_t filled = fill_magazine(112);
	for (int look = 0; look < 10; look++) {
		void *block = look % 2 == 0 ? NULL : arenal_test_malloc(112);
		tcache_drain(IDLE_LOOKS);
		if (look % 2 == 0) block = arenal_test_malloc(112);
		tcache_drain(IDLE_LOOKS);
		arenal_test_free(block);
	}
	assert_true(blocks_in(magazine_of(112)) + 1 >= filled);
	tcache_flush();
}

/* A malloc that was interrupted after it had looked at the magazine goes on when that was drained: the block it takes, as
 * the fast path does, belongs to nobody else. */
static void a_drain_spares_an_interrupted_malloc(void **state) {
	void (*drain)(void) = *state;
	assert_true(fill_magazine(112) > 8);
	struct magazine *m = magazine_of(112);
	void **top = m->top;
	assert_true(top > m->empty);
	drain();
	m->top = top - 1;
	void *block = top[-1];
	assert_false(is_with_arena(block));
	arenal_test_free(block);
	void *again[100];
	for (int i = 0; i < 100; i++) again[i] = arenal_test_malloc(112);
	for (int i = 0; i < 100; i++)
		for (int j = 0; j < i; j++) assert_ptr_not_equal(again[i], again[j]);
	for (int i = 0; i < 100; i++) arenal_test_free(again[i]);
	tcache_flush();
	assert_int_equal(tcache_current->arena->bins[class_of_size(112)].blocks_out, 0);
}

static void a_drain_spares_an_interrupted_free(void **state) {
	void (*drain)(void) = *state;
	assert_true(fill_magazine(112) > 8);
	struct magazine *m = magazine_of(112);
	void *block = arenal_test_malloc(112);
	void **top = m->top;
	assert_true(top < m->full);
	mark_set(block);
	drain();
	*top = block;
	m->top = top + 1;
	assert_true(m->top > m->empty);
	assert_ptr_equal(arenal_test_malloc(112), block);
	arenal_test_free(block);
	tcache_flush();
	assert_int_equal(tcache_current->arena->bins[class_of_size(112)].blocks_out, 0);
}

static void *taken[3];

/* The thread has not seen yet that `empty` went up. */
static bool take_some(void) {
	struct magazine *m = magazine_of(112);
	for (int i = 0; i < 3; i++) taken[i] = *--m->top;
	return true;
}

static void a_drain_spares_what_is_taken_meanwhile(void **state) {
	(void)state;
	need_barrier();
	size_t filled = fill_magazine(112);
	assert_true(filled > 8);
	struct magazine *m = magazine_of(112);
	during_barrier = take_some;
	tcache_drain(0);
	during_barrier = NULL;
	for (int i = 0; i < 3; i++) assert_false(is_with_arena(taken[i]));
	/* And one more, which another call has its eye on. */
	assert_int_equal(blocks_in(m), 1);
	assert_false(is_with_arena(m->top[-1]));
	assert_int_equal(tcache_current->arena->bins[class_of_size(112)].blocks_out, 4);
	for (int i = 0; i < 3; i++) arenal_test_free(taken[i]);
	tcache_flush();
}

static bool refuse(void) { return false; }

static void nothing_is_drained_without_the_barrier(void **state) {
	(void)state;
	size_t filled = fill_magazine(112);
	void **empty = magazine_of(112)->empty;
	during_barrier = refuse;
	for (int look = 0; look < 10; look++) tcache_drain(IDLE_LOOKS);
	tcache_drain(0);
	during_barrier = NULL;
	assert_int_equal(blocks_in(magazine_of(112)), filled);
	assert_ptr_equal(magazine_of(112)->empty, empty);
	tcache_flush();
	assert_int_equal(tcache_current->arena->bins[class_of_size(112)].blocks_out, 0);
}

/* A thread with a cache of its own, of which nothing is free but in one magazine; it ends when it is told to. */
struct keeper {
	pthread_t thread;
	pthread_barrier_t ready, end;
	struct tcache *cache;
};

static void *keep(void *keeper_out) {
	struct keeper *keeper = keeper_out;
	fill_magazine(112);
	keeper->cache = tcache_current;
	pthread_barrier_wait(&keeper->ready);
	pthread_barrier_wait(&keeper->end);
	return NULL;
}

static void begin_keeper(struct keeper *keeper) {
	pthread_barrier_init(&keeper->ready, NULL, 2);
	pthread_barrier_init(&keeper->end, NULL, 2);
	assert_int_equal(pthread_create(&keeper->thread, NULL, keep, keeper), 0);
	pthread_barrier_wait(&keeper->ready);
}

static void end_keeper(struct keeper *keeper) {
	pthread_barrier_wait(&keeper->end);
	pthread_join(keeper->thread, NULL);
	pthread_barrier_destroy(&keeper->ready);
	pthread_barrier_destroy(&keeper->end);
}

/* A thread that ends has its cache no more, and this thread has one. No purger starts meanwhile. */
static void nobody_parks(void) {
	arenal_test_free(arenal_test_malloc(8));
	conf.background = 0;
	atomic_store(&purged_in_background, false);
	tcache_flush_all();
	assert_int_equal(caches.parked_count, 0);
}

static int came_and_went;

static bool come_and_go(void) {
	run_thread(300, 1);
	came_and_went++;
	return true;
}

/* A process may have ten thousand threads, of which a drain looks at each. */
static void threads_start_and_end_during_a_drain(void **state) {
	(void)state;
	need_barrier();
	struct keeper keeper;
	begin_keeper(&keeper);
	tcache_flush();
	came_and_went = 0;
	during_barrier = come_and_go;
	tcache_drain(0);
	during_barrier = NULL;
	assert_true(came_and_went > 0);
	assert_int_equal(blocks_in(&keeper.cache->magazines[class_of_size(112)]), 1);
	end_keeper(&keeper);
	assert_int_equal(tcache_count(), 1);
}

/* Where a walk comes to the cache: that is by its record. */
static size_t place_of(const struct tcache *tc) {
	size_t place = 0;
	for (struct cache_chunk *chunk = cache_chunks; chunk != NULL; chunk = chunk->next)
		for (size_t i = 0; i < chunk->used; i++, place++)
			if (&chunk->records[i] == cache_record_of(tc)) return place;
	fail();
	return 0;
}

static int by_place(const void *a, const void *b) {
	const struct keeper *const *left = a, *const *right = b;
	return place_of((*left)->cache) < place_of((*right)->cache) ? -1 : 1;
}

/* Who comes next, of the others; the own cache counts in *own. `busy` NULL: whoever has locks is waited for. */
static struct tcache *next_of_others(struct cache_walk *walk, bool *busy, int *own) {
	struct tcache *tc;
	do tc = busy != NULL ? cache_walk_next_idle(walk, NULL, busy) : cache_walk_next(walk);
	while (tc == tcache_current && (++*own, cache_walk_leave(tc), true));
	return tc;
}

/* The walk stays where it is. */
static struct tcache *peek(const struct cache_walk *walk) {
	struct cache_walk copy = *walk;
	int own = 0;
	struct tcache *tc = next_of_others(&copy, NULL, &own);
	if (tc != NULL) cache_walk_leave(tc);
	return tc;
}

static void a_walk_meets_those_that_stay(void **state) {
	(void)state;
	enum { KEEPERS = 5 };
	struct keeper keepers[KEEPERS], late, *order[KEEPERS];
	int own = 0;
	nobody_parks();
	for (int i = 0; i < KEEPERS; i++) {
		begin_keeper(&keepers[i]);
		order[i] = &keepers[i];
	}
	qsort(order, KEEPERS, sizeof *order, by_place);
	struct cache_walk walk;
	cache_walk_begin(&walk);
	/* While the walk is there, the next two end, and another begins, which has the record of the last one. */
	assert_ptr_equal(next_of_others(&walk, NULL, &own), order[0]->cache);
	assert_ptr_equal(peek(&walk), order[1]->cache);
	end_keeper(order[1]);
	assert_ptr_equal(peek(&walk), order[2]->cache);
	const size_t place = place_of(order[2]->cache);
	end_keeper(order[2]);
	assert_ptr_equal(peek(&walk), order[3]->cache);
	begin_keeper(&late);
	assert_int_equal(place_of(late.cache), place);
	assert_ptr_equal(peek(&walk), late.cache);
	cache_walk_leave(order[0]->cache);
	end_keeper(order[0]);
	/* One whose lock somebody has is busy. */
	bool busy = false;
	atomic_store(&order[3]->cache->lock->state, 1);
	assert_ptr_equal(next_of_others(&walk, &busy, &own), late.cache);
	cache_walk_leave(late.cache);
	assert_false(busy);
	assert_ptr_equal(next_of_others(&walk, &busy, &own), order[4]->cache);
	assert_true(busy);
	cache_walk_leave(order[4]->cache);
	atomic_store(&order[3]->cache->lock->state, 0);
	assert_null(next_of_others(&walk, NULL, &own));
	assert_null(cache_walk_next(&walk));
	assert_int_equal(own, 1);
	end_keeper(order[3]);
	end_keeper(order[4]);
	end_keeper(&late);
	assert_int_equal(tcache_count(), 1);
}

/* Of those that are quiet, each turn meets one in QUIET_TURNS; a slow path, and others are met at once. */
static void a_walk_passes_what_is_quiet(void **state) {
	(void)state;
	struct keeper keeper;
	int met = 0;
	nobody_parks();
	begin_keeper(&keeper);
	tcache_drain(0);
	tcache_drain(1); /* nothing is left */
	struct cache_record *record = cache_record_of(keeper.cache);
	assert_true(record->quiet);
	for (unsigned turn = 0; turn < QUIET_TURNS; turn++) {
		struct cache_walk walk;
		bool busy = false;
		cache_walk_begin(&walk);
		for (struct tcache *tc; (tc = cache_walk_next_idle(&walk, &turn, &busy)) != NULL; cache_walk_leave(tc))
			met += tc == keeper.cache;
	}
	assert_int_equal(met, 1);
	magazine_flush(keeper.cache, class_of_size(112), magazine_refill(keeper.cache, class_of_size(112)));
	assert_false(record->quiet);
	end_keeper(&keeper);
}

/* Nobody who starts or ends waits for a walk: it has no lock but that of the cache that it is at. */
static void a_walk_holds_no_lock_of_all(void **state) {
	(void)state;
	struct cache_walk walk;
	cache_walk_begin(&walk);
	struct tcache *tc = cache_walk_next(&walk);
	assert_true(lock_try(&caches.lock, RANK_THREADS));
	cache_walk_leave(tc);
	while ((tc = cache_walk_next(&walk)) != NULL) cache_walk_leave(tc); /* with the lock of all, too */
	lock_drop(&caches.lock, RANK_THREADS);
}

/* Of other threads there is nothing in the child, and of their walks neither. */
static void a_walk_ends_with_a_fork(void **state) {
	(void)state;
	struct keeper keeper;
	nobody_parks();
	begin_keeper(&keeper);
	struct cache_walk walk;
	cache_walk_begin(&walk);
	const bool own_first = place_of(tcache_current) < place_of(keeper.cache);
	struct tcache *first = own_first ? tcache_current : keeper.cache, *second = own_first ? keeper.cache : tcache_current;
	assert_ptr_equal(peek(&walk), keeper.cache);
	const pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		const bool over = cache_walk_next(&walk) == NULL;
		tcache_drain(0); /* the orphan goes back, too */
		_exit(over && caches.orphans == NULL ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_ptr_equal(cache_walk_next(&walk), first);
	cache_walk_leave(first);
	assert_ptr_equal(cache_walk_next(&walk), second);
	cache_walk_leave(second);
	assert_null(cache_walk_next(&walk));
	end_keeper(&keeper);
}

/* A thread that takes a lock of a closed rank has it until it looks at the word. Such locks are open in the child, for
 * itself and for its own forks, also before the orphans have gone back. */
static void locks_of_others_are_open_in_a_child(void **state) {
	(void)state;
	struct keeper keeper;
	int status;
	begin_keeper(&keeper);
	struct lock *others[] = { keeper.cache->lock, &keeper.cache->arena->bins[class_of_size(112)].lock };
	tcache_lock_all();
	arena_lock_all();
	for (int i = 0; i < 2; i++) atomic_store(&others[i]->state, 1);
	const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0) {
		alarm(20);
		arena_unlock_all();
		lock_open_all_in_child();
		arena_after_fork();
		tcache_after_fork();
		if (caches.orphans == NULL) _exit(2);
		tcache_lock_all(); /* waits for nobody */
		arena_lock_all();
		_exit(0);
	}
	for (int i = 0; i < 2; i++) atomic_store(&others[i]->state, 0);
	arena_unlock_all();
	lock_open_all();
	tcache_unlock_all();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	end_keeper(&keeper);
}

#define PARKING(test) cmocka_unit_test_setup_teardown(test, with_another_thread, without)

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_are_kept), cmocka_unit_test(few_runs_are_kept), cmocka_unit_test(idle_runs_go_back),
		cmocka_unit_test(idle_caches_are_drained), cmocka_unit_test(busy_caches_are_not),
		cmocka_unit_test(busy_caches_are_drained_when_told), cmocka_unit_test(a_drain_spares_what_is_taken_meanwhile),
		cmocka_unit_test(nothing_is_drained_without_the_barrier),
		cmocka_unit_test_prestate(a_drain_spares_an_interrupted_malloc, drain_when_idle),
		cmocka_unit_test_prestate(a_drain_spares_an_interrupted_malloc, drain_now),
		cmocka_unit_test_prestate(a_drain_spares_an_interrupted_free, drain_when_idle),
		cmocka_unit_test_prestate(a_drain_spares_an_interrupted_free, drain_now),
		cmocka_unit_test(last_freed_comes_first), cmocka_unit_test(threads_are_led_away_and_back),
		cmocka_unit_test(magazines_adapt),
		cmocka_unit_test(idle_magazines_shrink), cmocka_unit_test(budget_holds), cmocka_unit_test(no_caching),
		cmocka_unit_test(exit_flushes),
		cmocka_unit_test(threads_start_and_end_during_a_drain), cmocka_unit_test(a_walk_meets_those_that_stay), cmocka_unit_test(a_walk_passes_what_is_quiet),
		cmocka_unit_test(a_walk_holds_no_lock_of_all),
		cmocka_unit_test(a_walk_ends_with_a_fork), cmocka_unit_test(locks_of_others_are_open_in_a_child),
		PARKING(the_next_thread_takes_a_cache_over),
		PARKING(a_look_begins_anew_with_the_next_thread),
		PARKING(parked_magazines_are_short),
		PARKING(parked_blocks_have_marks),
		PARKING(a_drained_cache_is_taken_over),
		PARKING(turns_are_not_inherited),
		PARKING(less_room_empties_a_parked_cache),
		PARKING(a_parked_block_is_found),
		PARKING(few_are_parked),
		PARKING(a_child_gives_them_back),
		PARKING(none_are_parked_while_memory_is_short),
		PARKING(none_are_parked_without_a_purger),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
