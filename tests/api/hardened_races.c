/* Hardened mode: two calls about one block at the same moment. The moment is made: the block's pages are closed, so that the first call
 * faults when it looks at the canary, after it has looked at the block's record; and the second one is made meanwhile, by another
 * thread, while the handler of the fault waits for it. Runs with ARENAL_HARDEN=1. */
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

static char *unknown(void *pointer) { return (char *)hidden((size_t)pointer); }

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
	while (!atomic_load(&moment.faulted)) {}
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

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_frees),
		cmocka_unit_test(free_beside_realloc),
		cmocka_unit_test(two_reallocs),
		cmocka_unit_test(free_beside_a_question),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
