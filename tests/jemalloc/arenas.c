/* Arenas that the program makes: blocks come from there, and all of them go at once. */
#include "jemalloc_support.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned make_arena(void) { return READ(unsigned, "arenas.create"); }

static unsigned arena_of(void *block) {
	unsigned arena = 0;
	size_t length = sizeof arena;
	assert_int_equal(mallctl("arenas.lookup", &arena, &length, &block, sizeof block), 0);
	return arena;
}

static size_t allocated(void) {
	uint64_t epoch = 1;
	assert_int_equal(WRITE(uint64_t, "epoch", epoch), 0);
	return READ(size_t, "stats.allocated");
}

static const size_t sizes[] = { 1, 100, 1000, 5000, 20000, 40000, 300000, 3000000 };

static void blocks_come_from_there(void **state) {
	(void)state;
	const unsigned first = make_arena(), second = make_arena();
	assert_int_not_equal(first, second);
	assert_int_equal(READ(unsigned, "arenas.narenas"), second + 1);
	assert_true(READ(bool, of_arena(first, "initialized")));
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		const int flags = MALLOCX_ARENA(second) | MALLOCX_TCACHE_NONE;
		char *block = mallocx(sizes[i], flags), *aligned = mallocx(sizes[i], flags | MALLOCX_ALIGN(4096));
		assert_int_equal(arena_of(block), second);
		assert_int_equal(arena_of(aligned), second);
		assert_int_equal((uintptr_t)aligned % 4096, 0);
		memset(block, 1, sizes[i]);
		memset(aligned, 1, sizes[i]);
		block = rallocx(block, sizes[i] * 3, flags);
		assert_int_equal(arena_of(block), second);
		for (size_t b = 0; b < sizes[i]; b++) assert_int_equal(block[b], 1);
		free(block);
		dallocx(aligned, MALLOCX_TCACHE_NONE);
	}
	assert_int_equal(act(of_arena(first, "destroy")), 0);
	assert_int_equal(act(of_arena(second, "destroy")), 0);
}

/* Free pages between blocks that stay go back, of this arena alone. */
static void holes_of_one_are_purged(void **state) {
	(void)state;
	const unsigned arena = make_arena();
	static char *blocks[20000];
	const ssize_t usual = READ(ssize_t, "arenas.dirty_decay_ms");
	assert_int_equal(WRITE(ssize_t, "arenas.dirty_decay_ms", -1), 0); /* not by themselves */
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = mallocx(2000, MALLOCX_ARENA(arena));
		memset(blocks[i], 1, 2000);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		if (i % 64 != 0) free(blocks[i]);
	const size_t before = resident_bytes();
	assert_int_equal(act(of_arena(arena, "purge")), 0);
	/* under another front, blocks are where that has them */
	assert_true(sizes_are_exact() || is_on("ARENAL_TRACE_FILE", "") || resident_bytes() + 20 * MIB < before);
	assert_int_equal(WRITE(ssize_t, "arenas.dirty_decay_ms", usual), 0);
	for (size_t i = 0; i < COUNT_OF(blocks); i += 64) assert_int_equal(blocks[i][1999], 1);
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
}

/* No block of it is handed out to anybody else, whoever freed it. */
static void freed_blocks_stay_there(void **state) {
	(void)state;
	const unsigned arena = make_arena();
	void *blocks[200];
	for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = mallocx(64, MALLOCX_ARENA(arena));
	for (size_t i = 0; i < COUNT_OF(blocks); i++) free(blocks[i]);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(64);
		assert_int_not_equal(arena_of(blocks[i]), arena);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++) free(blocks[i]);
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
}

static void reset_frees_all(void **state) {
	(void)state;
	const unsigned arena = make_arena();
	const size_t before = allocated();
	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < 3000; i++) {
			const size_t size = i % 100 == 0 ? sizes[i / 100 % COUNT_OF(sizes)] : 1 + i % 3000;
			unsigned char *block = mallocx(size, MALLOCX_ARENA(arena) | (i % 3 == 0 ? MALLOCX_ZERO : 0));
			assert_non_null(block);
			if (i % 3 == 0) assert_int_equal(block[size - 1], 0);
			memset(block, (int)i, size);
			if (i % 7 == 0) free(block);
			else if (i % 11 == 5) assert_non_null(realloc(block, size + 20));
		}
		assert_true(allocated() > before + 3 * MIB);
		assert_int_equal(act(of_arena(arena, "reset")), 0);
		/* what realloc has moved is an arena of all's */
		assert_true(allocated() < before + (size_t)(round + 1) * 2 * MIB);
	}
	void *block = mallocx(100, MALLOCX_ARENA(arena));
	assert_int_equal(arena_of(block), arena);
	free(block);
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
}

static void only_made_arenas_are_reset(void **state) {
	(void)state;
	assert_int_equal(act("arena.0.reset"), EFAULT);
	assert_int_equal(act("arena.0.destroy"), EFAULT);
	assert_int_equal(act("arena.1000.reset"), ENOENT);
	assert_int_equal(act("arena.1000.destroy"), ENOENT);
	assert_int_equal(act("arena.4096.reset"), EFAULT);
	assert_int_equal(act("arena.4096.destroy"), EFAULT);
	assert_int_equal(act(of_arena(READ(unsigned, "arenas.narenas"), "destroy")), EFAULT);
}

static void numbers_are_used_again(void **state) {
	(void)state;
	const unsigned arena = make_arena();
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
	assert_int_equal(act(of_arena(arena, "destroy")), EFAULT);
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(make_arena(), arena);
		free(mallocx(100000, MALLOCX_ARENA(arena)));
		assert_non_null(mallocx(100, MALLOCX_ARENA(arena)));
		assert_int_equal(act(of_arena(arena, "destroy")), 0);
	}
}

/* A thread that chose the arena gets everything from there, by malloc too. */
static void *live_there(void *argument) {
	const unsigned arena = *(const unsigned *)argument;
	unsigned before = 0;
	size_t length = sizeof before;
	if (mallctl("thread.arena", &before, &length, (void *)argument, sizeof arena) != 0) return "not chosen";
	if (READ(unsigned, "thread.arena") != arena) return "another one";
	void *blocks[COUNT_OF(sizes)];
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		blocks[i] = malloc(sizes[i]);
		if (arena_of(blocks[i]) != arena) return "elsewhere";
	}
	free(blocks[2]);
	if (act("thread.tcache.flush") != 0) return "not flushed";
	if (mallctl("thread.arena", NULL, NULL, &before, sizeof before) != 0) return "not back";
	void *block = malloc(100);
	if (arena_of(block) == arena) return "still there";
	free(block);
	return NULL;
}

static void threads_choose_arenas(void **state) {
	(void)state;
	const unsigned arena = make_arena();
	const size_t before = allocated();
	pthread_t thread;
	void *wrong;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(pthread_create(&thread, NULL, live_there, (void *)&arena), 0);
		assert_int_equal(pthread_join(thread, &wrong), 0);
		assert_null(wrong);
	}
	assert_true(allocated() > before + 10 * 3 * MIB);
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
	assert_true(allocated() < before + MIB);
}

/* What realloc moves comes from there as well, and goes with all others; so does what it makes smaller. */
static void *resize_there(void *argument) {
	const unsigned arena = *(const unsigned *)argument;
	char *block = malloc(10); /* of all's */
	if (mallctl("thread.arena", NULL, NULL, argument, sizeof arena) != 0) return "not chosen";
	static const size_t steps[] = { 1000, 9000, 50000, 3000000, 9000000, 70000, 200, 20 };
	memset(block, 5, 10);
	for (size_t i = 0; i < COUNT_OF(steps); i++) {
		block = realloc(block, steps[i]);
		if (arena_of(block) != arena) return "elsewhere";
		for (size_t b = 0; b < 10; b++)
			if (block[b] != 5) return "other bytes";
	}
	errno = 0;
	if (malloc(PTRDIFF_MAX - 1) != NULL || errno != ENOMEM) return "malloc fails without errno";
	errno = 0;
	if (calloc(1, PTRDIFF_MAX - 1) != NULL || errno != ENOMEM) return "calloc fails without errno";
	errno = 0;
	if (realloc(block, PTRDIFF_MAX - 1) != NULL || errno != ENOMEM) return "realloc fails without errno";
	return arena_of(block) == arena ? NULL : "lost";
}

static void realloc_stays_in_a_chosen_arena(void **state) {
	(void)state;
	const unsigned arena = make_arena();
	const size_t before = allocated();
	for (int i = 0; i < 20; i++) {
		pthread_t thread;
		void *wrong;
		assert_int_equal(pthread_create(&thread, NULL, resize_there, (void *)&arena), 0);
		assert_int_equal(pthread_join(thread, &wrong), 0);
		if (wrong != NULL) fail_msg("%s", (const char *)wrong);
	}
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
	assert_true(allocated() < before + MIB);
}

static void rallocx_stays_when_it_shrinks(void **state) {
	(void)state;
	const unsigned arena = make_arena();
	for (size_t i = 1; i < COUNT_OF(sizes); i++) {
		void *block = mallocx(sizes[i], MALLOCX_ARENA(arena));
		block = rallocx(block, sizes[i] / 5, MALLOCX_ARENA(arena));
		assert_int_equal(arena_of(block), arena);
	}
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
}

/* Wherever the front that serves has it. */
static void any_block_is_found(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		void *block = malloc(sizes[i]);
		arena_of(block);
		free(block);
	}
}

static pthread_barrier_t barrier;

static void *stay_there(void *argument) {
	mallctl("thread.arena", NULL, NULL, argument, sizeof(unsigned));
	const bool there = arena_of(malloc(100)) == *(unsigned *)argument;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier); /* it is another arena of this number by now */
	void *block = malloc(100);
	const bool left = arena_of(block) != *(unsigned *)argument;
	free(block);
	return there && left ? NULL : "the wrong arena";
}

/* Its thread goes on with another one. */
static void arenas_of_threads_may_go(void **state) {
	(void)state;
	unsigned arena = make_arena();
	pthread_t thread;
	void *wrong;
	pthread_barrier_init(&barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, stay_there, &arena), 0);
	pthread_barrier_wait(&barrier);
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
	assert_int_equal(make_arena(), arena);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, &wrong);
	assert_null(wrong);
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
}

static void *have_a_cache(void *unused) {
	void *volatile block = malloc(100);
	free(block);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return unused;
}

/* Those of its parent are not there. */
static void a_child_counts_its_own_threads(void **state) {
	(void)state;
	pthread_t thread;
	int status;
	pthread_barrier_init(&barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, have_a_cache, NULL), 0);
	pthread_barrier_wait(&barrier);
	assert_true(READ(unsigned, "stats.arenas.4096.nthreads") >= 2);
	const pid_t child = fork();
	if (child == 0) _exit(READ(unsigned, "stats.arenas.4096.nthreads") == 1 ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
}

/* Blocks of many threads, freed by others, while arenas come and go. */
static void *use_own(void *argument) {
	(void)argument;
	for (int round = 0; round < 30; round++) {
		const unsigned arena = make_arena();
		void *kept[50];
		for (size_t i = 0; i < 1000; i++) {
			void *block = mallocx(1 + i % 700 + (i % 90 == 0 ? 50000 : 0), MALLOCX_ARENA(arena));
			if (block == NULL) return "no block";
			memset(block, round, 1 + i % 700);
			if (i % 20 != 0) continue;
			kept[i / 20] = block;
		}
		for (size_t i = 0; i < COUNT_OF(kept); i += 2) free(kept[i]);
		if (act("arena.4096.purge") != 0) return "no purge";
		char name[40];
		snprintf(name, sizeof name, "arena.%u.%s", arena, "destroy");
		if (act(name) != 0) return "not destroyed";
	}
	return NULL;
}

static void threads_make_and_destroy(void **state) {
	(void)state;
	const size_t before = allocated();
	pthread_t threads[4];
	for (size_t i = 0; i < COUNT_OF(threads); i++) assert_int_equal(pthread_create(&threads[i], NULL, use_own, NULL), 0);
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		void *wrong;
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		if (wrong != NULL) fail_msg("%s", (const char *)wrong);
	}
	assert_true(allocated() < before + MIB);
}

static void in_child(void *argument) {
	const unsigned arena = *(unsigned *)argument;
	CHILD_CHECK(mallocx(50000, MALLOCX_ARENA(arena)) != NULL);
	CHILD_CHECK(act(of_arena(arena, "reset")) == 0);
	CHILD_CHECK(mallocx(50, MALLOCX_ARENA(arena)) != NULL);
	CHILD_CHECK(act(of_arena(arena, "destroy")) == 0);
}

static void children_have_them_too(void **state) {
	(void)state;
	unsigned arena = make_arena();
	char *small = mallocx(100, MALLOCX_ARENA(arena)), *large = mallocx(100000, MALLOCX_ARENA(arena));
	small[0] = large[0] = 7;
	assert_int_equal(run_in_child(in_child, &arena), 0);
	assert_int_equal(small[0], 7);
	assert_int_equal(large[0], 7);
	free(small);
	free(large);
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_come_from_there),
		cmocka_unit_test(holes_of_one_are_purged),
		cmocka_unit_test(freed_blocks_stay_there),
		cmocka_unit_test(reset_frees_all),
		cmocka_unit_test(only_made_arenas_are_reset),
		cmocka_unit_test(numbers_are_used_again),
		cmocka_unit_test(threads_choose_arenas),
		cmocka_unit_test(realloc_stays_in_a_chosen_arena),
		cmocka_unit_test(rallocx_stays_when_it_shrinks),
		cmocka_unit_test(any_block_is_found),
		cmocka_unit_test(arenas_of_threads_may_go), cmocka_unit_test(a_child_counts_its_own_threads),
		cmocka_unit_test(threads_make_and_destroy),
		cmocka_unit_test(children_have_them_too),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
