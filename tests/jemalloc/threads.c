/* thread.allocated and its relatives: exact, from the first question on, for each thread by itself. */
#include "jemalloc_support.h"

#include <pthread.h>
#include <stdlib.h>

static uint64_t *allocated, *deallocated;

static void begin(void) {
	allocated = READ(uint64_t *, "thread.allocatedp");
	deallocated = READ(uint64_t *, "thread.deallocatedp");
}

static void counts_are_exact(void **state) {
	(void)state;
	begin();
	for (size_t i = 0; i < 100; i++) {
		for (int again = 0; again < 3; again++) { /* the second one comes from the thread's cache */
			const size_t size = sample_size(i);
			const uint64_t before = *allocated, gone = *deallocated;
			void *block = malloc(size);
			const size_t real = malloc_usable_size(block);
			assert_int_equal(*allocated - before, real);
			assert_int_equal(*deallocated, gone);
			free(block);
			assert_int_equal(*allocated - before, real);
			assert_int_equal(*deallocated - gone, real);
		}
	}
	assert_int_equal(READ(uint64_t, "thread.allocated"), *allocated);
	assert_int_equal(READ(uint64_t, "thread.deallocated"), *deallocated);
	assert_ptr_equal(READ(uint64_t *, "thread.allocatedp"), allocated);
}

/* Whatever function it is. What is left is what was not freed. */
static void all_functions_count(void **state) {
	(void)state;
	begin();
	const uint64_t before = *allocated - *deallocated;
	size_t live = 0;
	void *blocks[64];
	const unsigned arena = READ(unsigned, "arenas.create");
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		const size_t size = 10 + i * i * 20;
		const uint64_t then = *allocated;
		switch (i % 8) {
		case 0: blocks[i] = malloc(size); break;
		case 1: blocks[i] = calloc(2, size); break;
		case 2: blocks[i] = realloc(NULL, size); break;
		case 3: blocks[i] = aligned_alloc(64, size); break;
		case 4: blocks[i] = mallocx(size, MALLOCX_ZERO); break;
		case 5: blocks[i] = mallocx(size, MALLOCX_ALIGN(256)); break;
		case 6: blocks[i] = mallocx(size, MALLOCX_ARENA(arena)); break;
		case 7: blocks[i] = rallocx(malloc(size), size * 3, 0); break;
		}
		assert_true(*allocated - then >= size);
		live += malloc_usable_size(blocks[i]);
		assert_int_equal(*allocated - *deallocated - before, live);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		live -= malloc_usable_size(blocks[i]);
		if (i % 3 == 0)
			free(blocks[i]);
		else if (i % 3 == 1)
			dallocx(blocks[i], 0);
		else
			assert_null(realloc(blocks[i], 0));
		assert_int_equal(*allocated - *deallocated - before, live);
	}
	assert_int_equal(act(of_arena(arena, "destroy")), 0);
}

static void peaks_are_remembered(void **state) {
	(void)state;
	assert_int_equal(act("thread.peak.reset"), 0);
	void *block = malloc(100000);
	const size_t real = malloc_usable_size(block);
	free(block);
	block = malloc(1000);
	assert_int_equal(READ(uint64_t, "thread.peak.read"), real);
	free(block);
	assert_int_equal(act("thread.peak.reset"), 0);
	assert_int_equal(READ(uint64_t, "thread.peak.read"), 0);
}

static pthread_barrier_t barrier;
static void *from_other;

static void *be_other(void *argument) {
	uint64_t *own = argument == NULL ? NULL : READ(uint64_t *, "thread.allocatedp");
	const uint64_t before = own != NULL ? *own : 0;
	from_other = malloc(5000);
	const bool right = own == NULL || (own != allocated && *own - before == malloc_usable_size(from_other));
	pthread_barrier_wait(&barrier);
	return right ? NULL : "it counts wrongly";
}

/* Who frees counts it. */
static void threads_count_by_themselves(void **state) {
	(void)state;
	begin();
	pthread_barrier_init(&barrier, NULL, 2);
	for (int counts = 0; counts < 2; counts++) {
		pthread_t thread;
		void *wrong;
		assert_int_equal(pthread_create(&thread, NULL, be_other, counts ? &barrier : NULL), 0);
		pthread_barrier_wait(&barrier);
		pthread_join(thread, &wrong);
		assert_null(wrong);
		const uint64_t before = *allocated, gone = *deallocated;
		const size_t real = malloc_usable_size(from_other);
		free(from_other);
		assert_int_equal(*allocated, before);
		assert_int_equal(*deallocated - gone, real);
	}
}

static void *count_and_end(void *argument) {
	(void)argument;
	for (int i = 0; i < 200; i++) free(malloc((size_t)i * 100));
	const uint64_t before = READ(uint64_t, "thread.allocated");
	size_t real = 0;
	for (int i = 0; i < 200; i++) {
		void *block = malloc(100);
		real += malloc_usable_size(block);
		free(block);
	}
	return READ(uint64_t, "thread.allocated") - before == real ? NULL : "it counts wrongly";
}

/* Caches go on to other threads, which count for themselves, or do not. */
static void threads_come_and_go(void **state) {
	(void)state;
	for (int i = 0; i < 50; i++) {
		pthread_t threads[4];
		for (size_t t = 0; t < COUNT_OF(threads); t++)
			assert_int_equal(pthread_create(&threads[t], NULL, count_and_end, NULL), 0);
		for (size_t t = 0; t < COUNT_OF(threads); t++) {
			void *wrong;
			pthread_join(threads[t], &wrong);
			assert_null(wrong);
		}
	}
}

static void in_child(void *argument) {
	(void)argument;
	const uint64_t before = *allocated;
	void *block = malloc(3000);
	CHILD_CHECK(*allocated - before == malloc_usable_size(block));
	free(block);
}

static void children_go_on(void **state) {
	(void)state;
	begin();
	const uint64_t before = *allocated;
	assert_int_equal(run_in_child(in_child, NULL), 0);
	assert_int_equal(*allocated, before);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_are_exact),
		cmocka_unit_test(all_functions_count),
		cmocka_unit_test(peaks_are_remembered),
		cmocka_unit_test(threads_count_by_themselves),
		cmocka_unit_test(threads_come_and_go),
		cmocka_unit_test(children_go_on),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
