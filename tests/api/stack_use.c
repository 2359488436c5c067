/* How much of the caller's stack malloc and its relatives take: programs call them on coroutines' stacks, in threads with
 * PTHREAD_STACK_MIN, and in handlers on an alternate stack. "bound": each call takes at most 2 KiB; without it, the calls are
 * made on small stacks, and must come back. */
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { STACK = 16 * KIB, BOUND = 2 * KIB, PAINT = 0x6b, BLOCKS = 6000 };

/* ---- the calls; each is one ---- */

/* Volatile, for the compiler knows that raise calls nothing in here. */
static void *volatile blocks[BLOCKS];
static volatile size_t count, size;

static void call_malloc(void) { blocks[count++] = malloc(size); }
static void call_calloc(void) { blocks[count++] = calloc(1, size); }
static void call_aligned(void) { blocks[count++] = aligned_alloc(4096, size); }
static void call_free(void) { free(blocks[--count]); }
static void call_realloc(void) { blocks[count - 1] = realloc(blocks[count - 1], size); }

/* All sizes, in waves that refill, grow, flush and purge; enough for a background thread, and for looks at memory limits. `call` makes
 * one call, on a stack of its own kind. */
static void make_calls(void (*call)(void (*)(void))) {
	static void (*const ways[])(void) = { call_malloc, call_calloc, call_aligned };

	count = 0;
	for (size = 0; size < 8 * MIB; size += size / 3 + 24) {
		const size_t times = size < 40 * KIB ? 400 : 8;
		for (size_t way = 0; way < COUNT_OF(ways); way++) {
			for (size_t i = 0; i < times; i++) call(ways[way]);
			for (size_t i = 0; i < times; i++) call(call_free);
		}
	}
	for (size = 10; size < 20 * MIB; size *= 3) {
		if (count == 0) call(call_malloc);
		call(call_realloc);
	}
	size = 100;
	call(call_realloc);
	call(call_free);
	for (size = 5 * KIB; count < BLOCKS;) call(call_malloc);
	while (count > 0) call(call_free);
}

/* ---- on a stack that is looked at afterwards ---- */

static unsigned char *stack;
static ucontext_t home, there;
static size_t most;

static void call_and_look(void (*one)(void)) {
	memset(stack, PAINT, STACK);
	getcontext(&there);
	there.uc_stack = (stack_t){ .ss_sp = stack, .ss_size = STACK };
	there.uc_link = &home;
	makecontext(&there, one, 0);
	swapcontext(&home, &there);
	size_t untouched = 0;
	while (untouched < STACK && stack[untouched] == PAINT) untouched++;
	const size_t used = STACK - untouched;
	if (used > BOUND)
		fail_msg("%zu bytes of stack for a call with %zu bytes, %zu blocks", used, size, count);
	most = used > most ? used : most;
}

static void *bound_in_thread(void *unused) {
	make_calls(call_and_look);
	return unused;
}

/* A second thread with a cache, so that a background thread may be started. */
static void *second(void *gate) {
	free(unknown(malloc(100)));
	pthread_barrier_wait(gate);
	pthread_barrier_wait(gate);
	return NULL;
}

static void two_kilobytes(void **state) {
	(void)state;
	pthread_t thread;
	pthread_barrier_t gate;
	pthread_barrier_init(&gate, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, second, &gate), 0);
	pthread_barrier_wait(&gate);
	stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(stack != MAP_FAILED);
	bound_in_thread(NULL);
	pthread_barrier_wait(&gate);
	pthread_join(thread, NULL);
	printf("at most %zu bytes\n", most);
}

/* ---- on small stacks ---- */

static void call_here(void (*one)(void)) { one(); }

static void *calls_in_thread(void *unused) {
	make_calls(call_here);
	return unused;
}

static void smallest_thread(void **state) {
	(void)state;
	pthread_attr_t attributes;
	pthread_t threads[2];
	pthread_attr_init(&attributes);
	assert_int_equal(pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN)), 0);
	/* One after the other: they share the blocks. */
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		assert_int_equal(pthread_create(&threads[i], &attributes, calls_in_thread, NULL), 0);
		pthread_join(threads[i], NULL);
	}
}

static void (*volatile in_handler)(void);

static void handler(int signal) {
	(void)signal;
	in_handler();
}

static void call_in_handler(void (*one)(void)) {
	in_handler = one;
	raise(SIGUSR1);
}

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* What the kernel needs for the signal itself, and what a call may take; nothing is accessible below it. */
static void alternate_stack(void **state) {
	(void)state;
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), kernels = getauxval(AT_MINSIGSTKSZ);
	const size_t room = ((kernels > 0 ? kernels : MINSIGSTKSZ) + 2 * BOUND + page - 1) / page * page;
	char *area = mmap(NULL, page + room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(area != MAP_FAILED);
	assert_int_equal(mprotect(area + page, room, PROT_READ | PROT_WRITE), 0);
	stack_t alternate = { .ss_sp = area + page, .ss_size = room }, before;
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK }, earlier;
	assert_int_equal(sigaltstack(&alternate, &before), 0);
	assert_int_equal(sigaction(SIGUSR1, &action, &earlier), 0);
	make_calls(call_in_handler);
	sigaction(SIGUSR1, &earlier, NULL);
	sigaltstack(&before, NULL);
	munmap(area, page + room);
}

int main(int argc, char **argv) {
	const struct CMUnitTest bound[] = { cmocka_unit_test(two_kilobytes) };
	const struct CMUnitTest small[] = { cmocka_unit_test(smallest_thread), cmocka_unit_test(alternate_stack) };

	if (argc > 1 && strcmp(argv[1], "bound") == 0)
		return cmocka_run_group_tests(bound, require_arenal, NULL);
	return cmocka_run_group_tests(small, require_arenal, NULL);
}
