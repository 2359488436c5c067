/* base/node, and what arenas and the page heap make of it: the test says on which node a thread runs. */
#include "unit.h"

#include <pthread.h>
#include <unistd.h>

#include "arena/arena.h"
#include "arena/heap.h"
#include "base/conf.h"
#include "base/node.h"
#include "base/os.h"
#include "cache/tcache.h"

static __thread unsigned here = 7; /* the node of the thread, as the kernel would tell it */

unsigned __wrap_os_node(void);
unsigned __wrap_os_node(void) { return here; }

struct answer {
	unsigned node;
	struct arena *arena;
	void *small, *large;
	uint32_t node_of_small, node_of_large;
};

static uint32_t node_of(const void *block) { return page_map_region((uintptr_t)block)->node; }

static pthread_barrier_t all_are_there, all_have_seen;

/* Until all have, none ends and leaves its arena to another one. */
static void *allocate(void *argument) {
	struct answer *a = argument;
	here = a->node;
	a->small = PUBLIC(malloc)(3000);
	a->large = PUBLIC(malloc)(200000);
	a->arena = tcache_arena();
	a->node_of_small = node_of(a->small);
	a->node_of_large = node_of(a->large);
	pthread_barrier_wait(&all_are_there);
	pthread_barrier_wait(&all_have_seen);
	PUBLIC(free)(a->small);
	PUBLIC(free)(a->large);
	return NULL;
}

static void run_threads(struct answer *answers, unsigned count) {
	pthread_t threads[8];
	pthread_barrier_init(&all_are_there, NULL, count + 1);
	pthread_barrier_init(&all_have_seen, NULL, count + 1);
	for (unsigned i = 0; i < count; i++) assert_int_equal(pthread_create(&threads[i], NULL, allocate, &answers[i]), 0);
	pthread_barrier_wait(&all_are_there);
	pthread_barrier_wait(&all_have_seen);
	for (unsigned i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

/* As on most machines, whichever node it is. */
static void one_node_changes_nothing(void **state) {
	(void)state;
	struct answer answers[3] = { { .node = 7 }, { .node = 7 }, { .node = 7 } };
	assert_ptr_equal(tcache_arena(), arena_list[0]);
	run_threads(answers, 3);
	assert_false(node_matters());
	/* Slices that are free serve everybody, also those of the break. */
	heap_purge();
	struct span *low = heap_alloc(1, 1, REGION_BRK, SPAN_RUN, NULL);
	char *start = low->start;
	heap_free(low);
	struct span *other = heap_alloc(1, 1, REGION_MAPPED, SPAN_RUN, NULL);
	assert_ptr_equal(other->start, start);
	heap_free(other);
}

static void arenas_and_memory_are_by_node(void **state) {
	(void)state;
	static const unsigned nodes[6] = { 0, 1, 0, 1, 2, 1 };
	struct answer answers[6];
	for (unsigned i = 0; i < 6; i++) answers[i] = (struct answer){ .node = nodes[i] };
	run_threads(answers, 6);
	assert_true(node_matters());
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(answers[i].arena->node, answers[i].node);
		assert_int_equal(answers[i].node_of_small, answers[i].node);
		assert_int_equal(answers[i].node_of_large, answers[i].node);
		for (unsigned j = 0; j < i; j++)
			if (answers[j].node != answers[i].node) assert_ptr_not_equal(answers[j].arena, answers[i].arena);
	}
}

/* What the threads of one node have touched is not given to those of another, as long as there is more. */
static void free_slices_stay_on_their_node(void **state) {
	(void)state;
	enum { RUNS = 200 };
	static struct span *runs[RUNS];
	for (unsigned node = 0; node < 2; node++) {
		here = node;
		for (size_t i = 0; i < RUNS; i++) {
			runs[i] = heap_alloc(3, 1, node == 0 ? REGION_BRK : REGION_MAPPED, SPAN_RUN, NULL);
			assert_non_null(runs[i]);
			assert_int_equal(node_of(runs[i]->start), node);
		}
		void *before = sbrk(0);
		/* Who is elsewhere now gets others, and does not raise a break that is not near. */
		for (size_t i = 0; i < RUNS; i++) heap_free(runs[i]);
		here = 3;
		struct span *far[2];
		for (size_t i = 0; i < 2; i++) {
			far[i] = heap_alloc(3, 1, REGION_BRK, SPAN_RUN, NULL);
			assert_int_equal(node_of(far[i]->start), 3);
		}
		assert_true(sbrk(0) <= before);
		for (size_t i = 0; i < 2; i++) heap_free(far[i]);
	}
	here = 0;
}

/* Better far memory than none. */
static void far_slices_serve_when_there_are_no_others(void **state) {
	(void)state;
	here = 1;
	heap_free(heap_alloc(5, 1, REGION_MAPPED, SPAN_RUN, NULL));
	here = 5;
	conf.cap = 1; /* nothing new is to be had */
	struct span *far = heap_alloc(5, 1, REGION_MAPPED, SPAN_RUN, NULL);
	conf.cap = 0;
	assert_non_null(far);
	assert_true(node_of(far->start) != 5);
	heap_free(far);
	here = 0;
}

int main(void) {
	conf.arena_max = 16; /* whatever the machine has */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_node_changes_nothing),
		cmocka_unit_test(arenas_and_memory_are_by_node),
		cmocka_unit_test(free_slices_stay_on_their_node),
		cmocka_unit_test(far_slices_serve_when_there_are_no_others),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
