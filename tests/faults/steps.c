/* The handler of a signal that comes before any one instruction of malloc or free, and allocates. Whatever it does, it frees as much as it
 * allocates, and leaves blocks in the thread's cache, so that neither it nor what it interrupts takes a lock. And a thread that is stopped
 * there for long, while another one drains its cache, and gives all that is free back. */
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)

enum { SIZE = 48, CACHED = 8, INSTRUCTIONS = 100 };

static char *kept; /* the handler's, from one signal to the next */
static void (*act)(void);
static volatile sig_atomic_t steps, act_at, acted;

/* ---- what handlers do ---- */

static char *take(char byte) {
	char *block = malloc(SIZE);
	assert_non_null(block);
	return memset(block, byte, SIZE);
}

static void allocate_and_free(void) {
	free(take(1));
}

static void free_the_last_one_first(void) {
	char *one = take(1), *two = take(2);

	free(two);
	free(one);
}

static void free_the_first_one_first(void) {
	char *one = take(1), *two = take(2);

	free(one);
	free(two);
}

static void free_in_no_order(void) {
	char *one = take(1), *two = take(2), *three = take(3);

	free(two);
	free(three);
	free(one);
}

static void replace_what_it_keeps(void) {
	char *block = take(4);

	free(kept);
	kept = block;
}

/* ---- what another thread does meanwhile ---- */

enum { NOTHING, DRAIN, END };
static _Atomic int wanted;

static void *drain_when_told(void *unused) {
	int what;

	while ((what = atomic_load(&wanted)) != END) {
		if (what == DRAIN) {
			malloc_trim(0);
			atomic_store(&wanted, NOTHING);
		}
		sched_yield();
	}
	atomic_store(&wanted, NOTHING);
	return unused;
}

static void have_done(int what) {
	atomic_store(&wanted, what);
	while (atomic_load(&wanted) != NOTHING)
		sched_yield();
}

static void drain_and_replace_what_it_keeps(void) {
	have_done(DRAIN);
	replace_what_it_keeps();
}

/* ---- one instruction after the other ---- */

static void count_step(int signal) {
	(void)signal;
	if (++steps != act_at)
		return;
	acted++;
	act();
}

/* The trap flag, which the kernel clears for the handler. */
static void set_trap(bool on) {
	unsigned long flags = __builtin_ia32_readeflags_u64();

	__builtin_ia32_writeeflags_u64(on ? flags | 0x100 : flags & ~0x100ul);
}

static void *(*volatile const allocate)(size_t) = malloc;
static void (*volatile const release)(void *) = free;

static char *malloc_in_steps(void) {
	steps = 0;
	set_trap(true);
	char *block = allocate(SIZE);
	set_trap(false);
	return block;
}

static void free_in_steps(char *block) {
	steps = 0;
	set_trap(true);
	release(block);
	set_trap(false);
}

/* All that lies in the cache: each block once, none of them `used` or the handler's. */
static void look_into_cache(const char *used) {
	char *blocks[CACHED];

	for (size_t i = 0; i < CACHED; i++) {
		blocks[i] = malloc(SIZE);
		assert_non_null(blocks[i]);
		assert_ptr_not_equal(blocks[i], used);
		assert_ptr_not_equal(blocks[i], kept);
		for (size_t k = 0; k < i; k++)
			assert_ptr_not_equal(blocks[i], blocks[k]);
	}
	for (size_t i = CACHED; i-- > 0;)
		free(blocks[i]);
}

static void interrupt_each_instruction(void (*what)(void)) {
	struct sigaction action = { .sa_handler = count_step }, old;

	assert_int_equal(sigaction(SIGTRAP, &action, &old), 0);
	kept = take(4);
	act = what;
	acted = 0;
	for (act_at = 1; act_at <= INSTRUCTIONS; act_at++) {
		char *block = malloc_in_steps();
		assert_ptr_not_equal(block, kept);
		memset(block, 5, SIZE);
		look_into_cache(block);
		free_in_steps(block);
		look_into_cache(NULL);
	}
	assert_true(acted > 20 && acted < 2 * INSTRUCTIONS); /* up to the last one of each */
	free(kept);
	sigaction(SIGTRAP, &old, NULL);
}

static void (*const ways[])(void) = {
	allocate_and_free, free_the_last_one_first, free_the_first_one_first, free_in_no_order, replace_what_it_keeps,
};

static void handlers_allocate_before_any_instruction(void **state) {
	char *blocks[2 * CACHED];

	(void)state;
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		blocks[i] = take(0);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		interrupt_each_instruction(ways[w]);
}

static void handlers_allocate_after_a_drain(void **state) {
	enum { BLOCKS = 4000 }; /* pages that are free, and were used before */
	static char *blocks[BLOCKS];
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, drain_when_told, NULL), 0);
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = take(0);
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	interrupt_each_instruction(drain_and_replace_what_it_keeps);
	have_done(END);
	pthread_join(thread, NULL);
}

#else

static void skip(void **state) {
	(void)state;
	SKIP("the processor is no x86-64, which can be told to trap behind each instruction");
}
#define handlers_allocate_before_any_instruction skip
#define handlers_allocate_after_a_drain skip

#endif

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handlers_allocate_before_any_instruction),
		cmocka_unit_test(handlers_allocate_after_a_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
