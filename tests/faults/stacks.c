/* Blocks whose stacks are taken (guarded ones, samples of the heap profile), on stacks that are none of libc's making: those of
 * coroutines that begin with whatever their library put there, of ucontext, of signals, and small ones.
 *
 * Each case is a run of this program by itself, with settings under which most blocks are of that kind. */
#include "coroutine.h"
#include "support.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

enum { PAGE = 4096, ROOM = 64 << 10 };

static bool profiled;

static char *dump_text(void) {
	const int file = memfd_create("dump", MFD_CLOEXEC);
	CHILD_CHECK(file >= 0 && arenal_profile_dump(file) == 0);
	const off_t size = lseek(file, 0, SEEK_END);
	char *text = mmap(NULL, (size_t)size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	CHILD_CHECK(text != MAP_FAILED);
	close(file);
	return text;
}

/* So many blocks of the kind that the settings ask for were made, as far as can be told. */
static uint64_t stacks_taken(void) {
	struct arenal_stats stats;
	if (!profiled) {
		CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
		return stats.guarded_total;
	}
	double sum = 0;
	for (const char *line = dump_text(); line != NULL; line = strchr(line, '\n'), line = line != NULL ? line + 1 : NULL) {
		double live_blocks, live_bytes, blocks;
		if (sscanf(line, "stack %lf %lf %lf", &live_blocks, &live_bytes, &blocks) == 3) sum += blocks;
	}
	return (uint64_t)sum;
}

/* Every function, every way to a stack: of a block that is made, and of one that is freed. */
static void *volatile sink;
NOINLINE static void allocate(void) {
	errno = 77;
	for (size_t i = 0; i < 12; i++) {
		void *block = malloc(40000 + i), *cleared = calloc(1, 100 + i), *moved, *aligned = NULL;
		sink = block;
		CHILD_CHECK(block != NULL && cleared != NULL && posix_memalign(&aligned, 64, 50000) == 0);
		memset(block, 1, 40000 + i);
		CHILD_CHECK((moved = realloc(block, 50000)) != NULL);
		sink = moved;
		free(moved);
		free(cleared);
		free(aligned);
	}
	CHILD_CHECK(errno == 77);
}

static void check_that_stacks_are_taken(void (*body)(void)) {
	const uint64_t before = stacks_taken();
	body();
	CHILD_CHECK(stacks_taken() >= before + 10);
}

/* ---- coroutines with a made-up return address ---- */

static jmp_buf home;

NOINLINE static void coroutine(void) {
	allocate();
	longjmp(home, 1);
}

static void run_coroutine(char *end, uintptr_t filler, uintptr_t frame_pointer) {
	if (setjmp(home) == 0) coroutine_begin(end, filler, frame_pointer, coroutine);
}

/* Where a handler returns to: behind it, the kernel's record of the registers is expected. */
static uintptr_t signal_return(void) {
#if defined(__x86_64__)
	struct {
		void *handler;
		unsigned long flags;
		uintptr_t restorer;
		uint64_t mask;
	} action;
	signal(SIGUSR2, _exit);
	CHILD_CHECK(syscall(SYS_rt_sigaction, SIGUSR2, NULL, &action, 8) == 0);
	return action.restorer;
#else
	return 0;
#endif
}

enum above { CLOSED, NOTHING, ZEROS, FILLERS, ABOVES };

static char *stack_end(enum above above, uintptr_t filler) {
	char *area = mmap(NULL, 3 * ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHILD_CHECK(area != MAP_FAILED && mprotect(area + PAGE, ROOM, PROT_READ | PROT_WRITE) == 0);
	char *end = area + PAGE + ROOM;
	memset(area + PAGE, 0xee, ROOM);
	if (above == NOTHING) CHILD_CHECK(munmap(end, ROOM) == 0);
	if (above >= ZEROS) CHILD_CHECK(mprotect(end, ROOM, PROT_READ | PROT_WRITE) == 0);
	for (size_t i = 0; above == FILLERS && i < ROOM / 8; i++) ((uintptr_t *)end)[i] = filler;
	return end;
}

static void made_up_return_addresses(void) {
	static char data[2 * PAGE];
	const uintptr_t fillers[] = {
		0, 1, 2, 0xdead, 0xdeaddeaddeaddead, UINTPTR_MAX, UINTPTR_MAX - 7, (uintptr_t)1 << 47, 0x7fffdeadbeef,
		(uintptr_t)made_up_return_addresses, (uintptr_t)made_up_return_addresses + 1, (uintptr_t)allocate + 30,
		(uintptr_t)coroutine, (uintptr_t)malloc + 4, (uintptr_t)raise + 40, (uintptr_t)data + PAGE, (uintptr_t)&fillers,
		(uintptr_t)stack_end(CLOSED, 0) + 8, signal_return(), signal_return() + 7,
	};
	for (size_t i = 0; i < COUNT_OF(fillers); i++) {
		for (int above = 0; above < ABOVES; above++) {
			char *end = stack_end(above, fillers[i]);
			const uintptr_t frame_pointers[] = { 0, 1, fillers[i], (uintptr_t)end - 8, (uintptr_t)end + 64, (uintptr_t)end - 16 };
			for (size_t f = 0; f < COUNT_OF(frame_pointers); f++) {
				dprintf(STDERR_FILENO, "filler %zu: %#lx, above: %d, frame pointer %#lx\n", i, fillers[i], above, frame_pointers[f]);
				run_coroutine(end, fillers[i], frame_pointers[f]);
			}
		}
	}
}

/* ---- others ---- */

static ucontext_t away, back;

static void by_ucontext(void) {
	char *end = stack_end(CLOSED, 0);
	CHILD_CHECK(getcontext(&away) == 0);
	away.uc_stack = (stack_t){ .ss_sp = end - ROOM, .ss_size = ROOM };
	away.uc_link = &back;
	makecontext(&away, allocate, 0);
	CHILD_CHECK(swapcontext(&back, &away) == 0);
}

static void on_signal(int number) {
	(void)number;
	allocate();
}

static void in_a_handler(void) {
	const size_t size = (size_t)sysconf(_SC_MINSIGSTKSZ) + 12 * 1024;
	const stack_t own = { .ss_sp = stack_end(CLOSED, 0) - size, .ss_size = size }, none = { .ss_flags = SS_DISABLE };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	CHILD_CHECK(sigaltstack(&own, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
	CHILD_CHECK(raise(SIGUSR1) == 0);
	CHILD_CHECK(sigaltstack(&none, NULL) == 0);
}

static void *thread(void *body) {
	((void (*)(void))body)();
	return NULL;
}

static void in_small_threads(void (*body)(void)) {
	pthread_attr_t attributes;
	pthread_t threads[4];
	CHILD_CHECK(pthread_attr_init(&attributes) == 0);
	CHILD_CHECK(pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN) == 0);
	for (size_t i = 0; i < COUNT_OF(threads); i++) CHILD_CHECK(pthread_create(&threads[i], &attributes, thread, body) == 0);
	for (size_t i = 0; i < COUNT_OF(threads); i++) CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
}

static void in_threads(void) { in_small_threads(allocate); }


/* ---- running them ---- */

static const struct {
	const char *name;
	void (*body)(void);
} cases[] = {
	{ "made-up return addresses", made_up_return_addresses }, { "ucontext", by_ucontext }, { "handler", in_a_handler },
	{ "threads", in_threads },
};

static int run_case(const char *name, const char *kind) {
	profiled = strcmp(kind, "profiled") == 0;
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		if (strcmp(name, cases[i].name) != 0) continue;
		check_that_stacks_are_taken(cases[i].body);
		return 0;
	}
	return 1;
}

static void run_all(const char *setting, const char *kind) {
	static struct outcome outcome;
	const char *const changes[] = { "ARENAL_GUARD_SAMPLE", setting, NULL };
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		run_program(&outcome, (const char *const[]){ "/proc/self/exe", cases[i].name, kind, NULL }, changes, NULL);
		/* The end of what it wrote. */
		const size_t length = strlen(outcome.err);
		if (outcome.status != 0)
			fail_msg("%s, %s: %d after \"%s\"", cases[i].name, kind, outcome.status, outcome.err + (length > 300 ? length - 300 : 0));
	}
}

static void guarded_blocks(void **state) {
	(void)state;
	run_all("ARENAL_GUARD_SAMPLE=1", "guarded");
}

static void samples_of_the_profile(void **state) {
	(void)state;
	run_all("ARENAL_CONF=profile:1,profile_sample:300", "profiled");
}

static void samples_in_hardened_mode(void **state) {
	(void)state;
	run_all("ARENAL_CONF=profile:1,profile_sample:300,harden:1", "profiled");
}

int main(int argc, char **argv) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guarded_blocks), cmocka_unit_test(samples_of_the_profile), cmocka_unit_test(samples_in_hardened_mode),
	};
	if (argc > 2) return run_case(argv[1], argv[2]);
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
