/* Hardened mode: two calls about one block at the same moment. The moment is made: the block's pages are closed, so that the first call
 * faults when it looks at the canary, after it has looked at the block's record; and the second one is made meanwhile, by another
 * thread, while the handler of the fault waits for it. And what another thread may do at any moment. Runs with ARENAL_HARDEN=1. */
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One such call and another. */
typedef void call(char *block);

static struct moment {
	size_t size;
	int closed; /* to reads, too, or to writes only */
	call *first, *second;
	char *block;
	size_t pages;
	atomic_int faulted, done;
} moment;

static void free_it(char *block) { free(block); }
static void ask_size(char *block) { malloc_usable_size(block); }
static void resize_in_place(char *block) { block = realloc(block, moment.size - 8); }
static void move_by_copying(char *block) { block = realloc(block, 100); }
static void resize_far(char *block) { block = realloc(block, moment.size + 300000); }

/* The block is somebody else's by then. */
static void free_and_get_again(char *block) {
	free(block);
	for (int i = 0; i < 1000000; i++) {
		char *next = unknown(malloc(moment.size));
		if (next == block) return;
		free(next);
	}
	_exit(99);
}

/* Not by mprotect, which malloc has a part in. */
static void protect(int how) {
	CHILD_CHECK(syscall(SYS_mprotect, (uintptr_t)moment.block & ~(uintptr_t)4095, moment.pages, how) == 0);
}

static void *other_thread(void *unused) {
	(void)unused;
	free(unknown(malloc(1))); /* it has its cache by then */
	atomic_store(&moment.done, 1);
	while (atomic_load(&moment.faulted) != 1) {} /* the pages are open again by then */
	moment.second(moment.block);
	atomic_store(&moment.done, 2);
	return NULL;
}

static void on_fault(int signal) {
	(void)signal;
	if (atomic_exchange(&moment.faulted, -1) != 0) _exit(98); /* it shall fault once */
	protect(PROT_READ | PROT_WRITE);
	atomic_store(&moment.faulted, 1);
	while (atomic_load(&moment.done) != 2) {}
}

static void run_moment(void *unused) {
	(void)unused;
	pthread_t thread;
	CHILD_CHECK(signal(SIGSEGV, on_fault) != SIG_ERR);
	CHILD_CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0);
	while (atomic_load(&moment.done) != 1) {}
	/* Pages that nobody else has a block in. */
	moment.block = unknown(memalign(4096, moment.size));
	moment.pages = (moment.size + 4095) & ~(size_t)4095;
	protect(moment.closed);
	moment.first(moment.block);
	CHILD_CHECK(atomic_load(&moment.faulted) == 1); /* else the moment was none */
}

/* A block of 4,096 bytes has a page: 4,088 for the program, and one word of canary, which stays when the block is free; or more of it, which
 * does not. */
#define WORD 4088
#define WORDS 4000
#define LARGE 100000

static void check(size_t size, int closed, call *first, call *second, const char *text) {
	moment = (struct moment){ .size = size, .closed = closed, .first = first, .second = second };
	int status;
	const char *line = written_by_child(run_moment, NULL, &status);
	if (status != 128 + SIGABRT || strncmp(line, "arenal: ", 8) != 0 || !strstr(line, text))
		fail_msg("%zu bytes: ended with %d and wrote \"%s\" instead of \"%s\"", size, status, line, text);
}

static void two_frees(void **state) {
	(void)state;
	check(WORD, PROT_NONE, free_it, free_it, "was freed already");
	check(WORDS, PROT_NONE, free_it, free_it, "was freed already");
	check(WORD, PROT_NONE, free_it, free_and_get_again, "was freed already");
	check(LARGE, PROT_NONE, free_it, free_it, "is not a block"); /* it is in no table at this moment */
}

static void free_beside_realloc(void **state) {
	(void)state;
	/* It has found the block live, and nothing is sure yet. */
	check(WORD, PROT_NONE, resize_in_place, free_it, "was freed already");
	check(WORD, PROT_NONE, move_by_copying, free_and_get_again, "was freed already");
	/* It has got the block, and writes to it, or copies it. */
	check(WORD, PROT_READ, resize_in_place, free_it, "another thread reallocates the block");
	check(LARGE, PROT_NONE, move_by_copying, free_it, "was freed already");
	check(LARGE, PROT_NONE, resize_far, free_it, "was freed already");
	check(LARGE, PROT_NONE, resize_in_place, free_it, "was freed already");
}

static void two_reallocs(void **state) {
	(void)state;
	check(WORD, PROT_NONE, move_by_copying, resize_in_place, "was freed already");
	check(WORD, PROT_READ, resize_in_place, move_by_copying, "another thread reallocates the block");
	check(LARGE, PROT_NONE, move_by_copying, move_by_copying, "was freed already");
	check(LARGE, PROT_NONE, resize_far, move_by_copying, "was freed already");
}

static void free_beside_a_question(void **state) {
	(void)state;
	check(WORDS, PROT_NONE, ask_size, free_it, "was freed already");
}

/* ---- no mistake ---- */

/* A thread's patrol is slow at a block that its owner, another thread, resizes in place and back. Where it looks are two pages, and the next
 * resize comes when it looks at one of them: the size that it sees in between is not that of the block it began with. */
enum { PATROLLED = 8000, STEPS = 2 };
static struct {
	char *block;
	atomic_int faults, done;
} slow;

static void protect_slow(char *page, int how) { CHILD_CHECK(syscall(SYS_mprotect, page, 4096, how) == 0); }
static char *page_of_canary(void) { return slow.block + 4096; }
static char *page_in_front(void) { return slow.block - 4096; }

static void *owner(void *unused) {
	(void)unused;
	free(unknown(malloc(1)));
	atomic_store(&slow.done, -1);
	for (int step = 1; step <= STEPS; step++) {
		while (atomic_load(&slow.faults) < step) {}
		CHILD_CHECK(realloc(slow.block, step == 1 ? PATROLLED + 16 : PATROLLED) == slow.block);
		if (step == 1) memset(slow.block + PATROLLED, 'x', 16);
		atomic_store(&slow.done, step);
	}
	return NULL;
}

static void on_slow_look(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	const bool behind = (char *)info->si_addr > slow.block;
	const int step = atomic_load(&slow.faults) + 1;
	if (step > STEPS) _exit(98);
	protect_slow(page_of_canary(), PROT_READ | PROT_WRITE);
	protect_slow(page_in_front(), PROT_READ | PROT_WRITE);
	atomic_store(&slow.faults, step);
	while (atomic_load(&slow.done) != step) {}
	if (step < STEPS) protect_slow(behind ? page_in_front() : page_of_canary(), PROT_NONE);
}

static void patrol_slowly(void *unused) {
	(void)unused;
	const struct sigaction action = { .sa_sigaction = on_slow_look, .sa_flags = SA_SIGINFO };
	pthread_t thread;
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	CHILD_CHECK(pthread_create(&thread, NULL, owner, NULL) == 0);
	while (atomic_load(&slow.done) != -1) {}
	do /* until there is a neighbour in front, and not the edge of a span */
		slow.block = unknown(memalign(4096, PATROLLED));
	while ((uintptr_t)slow.block % 65536 == 0);
	protect_slow(page_of_canary(), PROT_NONE);
	protect_slow(page_in_front(), PROT_NONE);
	/* The first block of a size. */
	for (size_t size = 500; size <= 1500; size += 250) unknown(malloc(size));
	CHILD_CHECK(atomic_load(&slow.faults) == STEPS);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
	free(slow.block);
}

static void resizes_beside_a_slow_patrol(void **state) {
	(void)state;
	int status;
	const char *line = written_by_child(patrol_slowly, NULL, &status);
	if (status != 0) fail_msg("ended with %d and wrote \"%s\"", status, line);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_frees),
		cmocka_unit_test(free_beside_realloc),
		cmocka_unit_test(two_reallocs),
		cmocka_unit_test(free_beside_a_question),
		cmocka_unit_test(resizes_beside_a_slow_patrol),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
