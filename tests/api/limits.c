/* Memory runs out: RLIMIT_AS and RLIMIT_DATA, set in a running process and before a program starts. Allocation must fail
 * with ENOMEM, what is there must stay intact, and allocation must work again when there is room again. */
#include "stamp.h"
#include "support.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

/* Blocks in a chain, so that keeping them needs no memory. */
struct link {
	struct link *next;
};

/* Allocates until that fails or until `most` bytes are there. Returns how many bytes. */
static size_t allocate(struct link **chain, size_t size, size_t most) {
	size_t total = 0;

	while (total < most) {
		errno = 0;
		struct link *block = malloc(size);
		if (!block) {
			CHILD_CHECK(errno == ENOMEM);
			break;
		}
		stamp_block(block + 1, size - sizeof *block, size);
		block->next = *chain;
		*chain = block;
		total += size;
	}
	return total;
}

static void check_and_free(struct link **chain, size_t size) {
	while (*chain) {
		struct link *block = *chain;

		*chain = block->next;
		CHILD_CHECK(stamp_intact(block + 1, size - sizeof *block, size));
		errno = EXDEV;
		free(block);
		CHILD_CHECK(errno == EXDEV);
	}
}

static const size_t block_sizes[] = { 32, 100, 5000, 50000, 300000, 5 * MIB };

static void run_dry_in_address_space(void *argument) {
	size_t size = *(const size_t *)argument;
	const size_t budget = 200 * MIB;
	struct link *chain = NULL;

	limit_address_space(virtual_bytes() + budget);
	for (int round = 0; round < 3; round++) {
		size_t total = allocate(&chain, size, 2 * budget);

		/* Most of the room is usable, and it is usable again in each round. */
		CHILD_CHECK(total < 2 * budget);
		CHILD_CHECK(total >= budget / 2);
		CHILD_CHECK(allocate(&chain, size, 10 * size) == 0);
		check_and_free(&chain, size);
	}
	/* Memory that was cut into blocks of one size serves others. */
	malloc_trim(0);
	for (size_t i = 0; i < COUNT_OF(block_sizes); i++) {
		CHILD_CHECK(allocate(&chain, block_sizes[i], budget / 4) >= budget / 4);
		check_and_free(&chain, block_sizes[i]);
		malloc_trim(0);
	}
}

static void address_space_limit(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(block_sizes); i++)
		assert_int_equal(run_in_child(run_dry_in_address_space, (void *)&block_sizes[i]), 0);
}

static void run_dry_in_data(void *argument) {
	size_t size = *(const size_t *)argument;
	struct link *before = NULL, *during = NULL;

	CHILD_CHECK(allocate(&before, size, 10 * MIB) >= 10 * MIB);
	/* Less than is in use already: the break cannot grow, and nothing writable can be mapped. */
	limit_data(4096);
	CHILD_CHECK(allocate(&during, size, 256 * MIB) < 256 * MIB);
	check_and_free(&during, size);
	CHILD_CHECK(malloc(128 * MIB) == NULL && errno == ENOMEM);
	check_and_free(&before, size);

	limit_data(SIZE_MAX);
	CHILD_CHECK(allocate(&before, size, 100 * MIB) >= 100 * MIB);
	check_and_free(&before, size);
}

static void data_limit_below_current_use(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(block_sizes); i++)
		assert_int_equal(run_in_child(run_dry_in_data, (void *)&block_sizes[i]), 0);
}

static void realloc_fails_softly(void *argument) {
	(void)argument;
	static const size_t sizes[] = { 100, 5000, 100000, 2 * MIB };
	void *blocks[COUNT_OF(sizes)];

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		blocks[i] = malloc(sizes[i]);
		CHILD_CHECK(blocks[i]);
		stamp_block(blocks[i], sizes[i], i);
	}
	limit_address_space(virtual_bytes() + 16 * MIB);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		errno = 0;
		CHILD_CHECK(realloc(blocks[i], 300 * MIB) == NULL);
		CHILD_CHECK(errno == ENOMEM);
		errno = 0;
		CHILD_CHECK(reallocarray(blocks[i], 300, MIB) == NULL);
		CHILD_CHECK(errno == ENOMEM);
		errno = 0;
		CHILD_CHECK(calloc(1, 300 * MIB) == NULL);
		CHILD_CHECK(errno == ENOMEM);
		errno = 0;
		CHILD_CHECK(aligned_alloc(32 * MIB, 300 * MIB) == NULL);
		CHILD_CHECK(errno == ENOMEM);
		CHILD_CHECK(stamp_intact(blocks[i], sizes[i], i));
	}
	limit_address_space(SIZE_MAX);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		uint64_t key = stamp_key(blocks[i], sizes[i], i);
		blocks[i] = realloc(blocks[i], 300 * MIB);
		CHILD_CHECK(blocks[i]);
		CHILD_CHECK(stamp_holds(blocks[i], sizes[i], key));
		free(blocks[i]);
	}
}

static void failed_realloc_keeps_the_block(void **state) {
	(void)state;
	assert_int_equal(run_in_child(realloc_fails_softly, NULL), 0);
}

/* Programs do not expect that a block cannot be made smaller. */
static void shrink_without_memory(void *argument) {
	(void)argument;
	static const size_t sizes[] = { 100, 1000, 5000, 30000, 100000, MIB, 40 * MIB };
	void *blocks[COUNT_OF(sizes)];
	struct link *chain = NULL;

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		blocks[i] = malloc(sizes[i]);
		CHILD_CHECK(blocks[i]);
		stamp_block(blocks[i], sizes[i], i);
	}
	limit_address_space(virtual_bytes() + 4 * MIB);
	/* The large blocks first: the small ones then take what those left over. */
	for (size_t size = MIB; size >= 16; size /= 2)
		allocate(&chain, size, SIZE_MAX);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		uint64_t key = stamp_key(blocks[i], sizes[i], i);
		for (size_t size = sizes[i] / 3; size > 0; size /= 7) {
			blocks[i] = realloc(blocks[i], size);
			CHILD_CHECK(blocks[i]);
			CHILD_CHECK(stamp_holds(blocks[i], size, key));
		}
	}
}

static void shrinking_never_fails(void **state) {
	(void)state;
	assert_int_equal(run_in_child(shrink_without_memory, NULL), 0);
}

/* ---- what is free is no reason to fail ---- */

enum { ROOM = 400 };

/* Takes and frees blocks with mappings of their own, some of which the library keeps. */
static void leave_mappings(void) {
	for (size_t i = 0; i < 6; i++) {
		void *block = malloc((ROOM / 2 + 10 * i) * MIB);

		CHILD_CHECK(block);
		free(block);
	}
}

/* Every way to ask for a block gets what others have left. */
static void *ask_for(unsigned way, size_t size, void *small) {
	void *block = NULL;

	switch (way) {
	case 0: return malloc(size);
	case 1: return calloc(1, size);
	case 2: return realloc(small, size);
	case 3: return posix_memalign(&block, 64, size) == 0 ? block : NULL;
	default: return aligned_alloc(2 * MIB, size);
	}
}

static void small_beside_kept(void *argument) {
	const size_t size = *(const size_t *)argument;
	struct link *chain = NULL;
	void *small[5]; /* before all others: they are not to lie above them, and hold the break */

	for (size_t i = 0; i < COUNT_OF(small); i++) CHILD_CHECK((small[i] = malloc(100)));
	limit_address_space(virtual_bytes() + ROOM * MIB);
	leave_mappings();
	CHILD_CHECK(allocate(&chain, size, ROOM * MIB) >= ROOM / 8 * 5 * MIB);
	check_and_free(&chain, size);
	for (unsigned way = 0; way < 5; way++) {
		allocate(&chain, size, ROOM * MIB);
		check_and_free(&chain, size);
		void *block = ask_for(way, ROOM / 4 * 3 * MIB, small[way]);
		CHILD_CHECK(block);
		free(block);
		leave_mappings();
	}
}

static void kept_mappings_make_room(void **state) {
	(void)state;
	for (size_t i = 1; i < COUNT_OF(block_sizes); i += 2)
		assert_int_equal(run_in_child(small_beside_kept, (void *)&block_sizes[i]), 0);
}

static void *fill_and_free(void *argument) {
	struct link *chain = NULL;

	CHILD_CHECK(allocate(&chain, *(const size_t *)argument, ROOM / 2 * MIB) >= ROOM / 2 * MIB);
	check_and_free(&chain, *(const size_t *)argument);
	return NULL;
}

/* Regions that another thread has filled and freed: their addresses go back. */
static void regions_of_others(void *argument) {
	pthread_t thread;

	free(malloc(10));
	const size_t before = virtual_bytes();
	CHILD_CHECK(pthread_create(&thread, NULL, fill_and_free, argument) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
	malloc_trim(0);
	/* One region stays, one with what libc holds in it, and guarded blocks' pool. */
	CHILD_CHECK(virtual_bytes() < before + 170 * MIB);

	CHILD_CHECK(pthread_create(&thread, NULL, fill_and_free, argument) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
	limit_address_space(before + ROOM / 2 * MIB + 20 * MIB);
	void *block = malloc(ROOM / 2 * MIB - 60 * MIB);
	CHILD_CHECK(block);
	free(block);
}

static void free_regions_are_unmapped(void **state) {
	(void)state;
	for (size_t i = 1; i < COUNT_OF(block_sizes); i += 2)
		assert_int_equal(run_in_child(regions_of_others, (void *)&block_sizes[i]), 0);
}

static size_t data_bytes(void) {
	char line[256];
	size_t kib = 0;
	FILE *file = fopen("/proc/self/status", "r");

	CHILD_CHECK(file);
	while (fgets(line, sizeof line, file))
		sscanf(line, "VmData: %zu", &kib);
	fclose(file);
	return kib * 1024;
}

static void *take_little(void *unused) {
	CHILD_CHECK(malloc(1000));
	return unused;
}

/* What can be written to is what the kernel charges where it promises no more than it has. */
static void charge(void *unused) {
	(void)unused;
	const size_t before = data_bytes();
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	CHILD_CHECK(pthread_create(&thread, &small, take_little, NULL) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
	CHILD_CHECK(data_bytes() < before + 8 * MIB);
	/* As much again as it grows, and less when it is free. */
	size_t size = 32000;
	CHILD_CHECK(pthread_create(&thread, &small, fill_and_free, &size) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
	malloc_trim(0);
	CHILD_CHECK(data_bytes() < before + 64 * MIB);
}

static void little_is_charged(void **state) {
	(void)state;
	assert_int_equal(run_in_child(charge, NULL), 0);
}

enum { THREADS = 4 };
static pthread_barrier_t barrier;

static void *run_dry_among_others(void *argument) {
	size_t size = *(const size_t *)argument;
	struct link *chain = NULL;

	pthread_barrier_wait(&barrier);
	for (int round = 0; round < 5; round++) {
		allocate(&chain, size, 200 * MIB);
		check_and_free(&chain, size);
	}
	pthread_barrier_wait(&barrier);
	/* All have freed: a share for everyone. */
	CHILD_CHECK(allocate(&chain, size, 8 * MIB) >= 8 * MIB);
	check_and_free(&chain, size);
	return NULL;
}

static void run_dry_in_threads(void *argument) {
	(void)argument;
	pthread_t threads[THREADS];

	CHILD_CHECK(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0);
	for (size_t i = 0; i < THREADS; i++) {
		void *size = (void *)&block_sizes[i + 1];
		CHILD_CHECK(pthread_create(&threads[i], NULL, run_dry_among_others, size) == 0);
	}
	limit_address_space(virtual_bytes() + 150 * MIB);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < THREADS; i++)
		CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
}

static void threads_run_dry_together(void **state) {
	(void)state;
	assert_int_equal(run_in_child(run_dry_in_threads, NULL), 0);
}

static size_t limit_at_exec;

static void limit_address_space_at_exec(void) {
	limit_address_space(limit_at_exec);
}

static void limit_data_at_exec(void) {
	limit_data(limit_at_exec);
}

static void expect_start(const char *program, const char *mib, void (*set_limit)(void)) {
	const char *arguments[] = { program, mib, NULL };
	struct outcome outcome;

	run_program(&outcome, arguments, NULL, set_limit);
	if (outcome.status != 0)
		fail_msg("%s under %zu MiB: status %d: %s", program, limit_at_exec / MIB, outcome.status, outcome.err);
	assert_string_equal(outcome.err, "");
}

/* Services and build farms start programs under such limits. */
static void programs_start_in_small_address_spaces(void **state) {
	(void)state;
	limit_at_exec = 64 * MIB;
	expect_start("/bin/true", NULL, limit_address_space_at_exec);
	expect_start(SMALL_PROGRAM, "4", limit_address_space_at_exec);
	limit_at_exec = 200 * MIB;
	expect_start("/bin/true", NULL, limit_address_space_at_exec);
	expect_start(SMALL_PROGRAM, "64", limit_address_space_at_exec);
}

static void programs_start_with_small_data_limits(void **state) {
	(void)state;
	limit_at_exec = 64 * MIB;
	expect_start("/bin/true", NULL, limit_data_at_exec);
	expect_start(SMALL_PROGRAM, "4", limit_data_at_exec);
	limit_at_exec = 200 * MIB;
	expect_start(SMALL_PROGRAM, "64", limit_data_at_exec);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_space_limit),
		cmocka_unit_test(data_limit_below_current_use),
		cmocka_unit_test(failed_realloc_keeps_the_block),
		cmocka_unit_test(shrinking_never_fails),
		cmocka_unit_test(kept_mappings_make_room),
		cmocka_unit_test(free_regions_are_unmapped),
		cmocka_unit_test(little_is_charged),
		cmocka_unit_test(threads_run_dry_together),
		cmocka_unit_test(programs_start_in_small_address_spaces),
		cmocka_unit_test(programs_start_with_small_data_limits),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
