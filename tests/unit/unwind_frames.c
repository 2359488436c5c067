/* The unwinder and the compiler's own (libgcc's) find the same frames: in deep stacks, below signal handlers, in callbacks of
 * libc, in threads and coroutines, in frames of every shape. Without cmocka, since it is cross-compiled, too. */
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include "coroutine.h"
#include "harden/stack.h"
#include "harden/unwind.h"

enum { MOST = 150 };

struct frames {
	uintptr_t at[MOST];
	size_t count;
};

static const char *current; /* what is being tried */

static void fail(const char *what, const struct frames *theirs, const struct frames *ours) {
	fprintf(stderr, "%s: %s\n", current, what);
	for (size_t i = 0; i < theirs->count || i < ours->count; i++)
		fprintf(stderr, "  %#14lx %#14lx\n", i < theirs->count ? theirs->at[i] : 0, i < ours->count ? ours->at[i] : 0);
	exit(1);
}

static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *argument) {
	struct frames *frames = argument;
	int before = 0;
	const uintptr_t ip = _Unwind_GetIPInfo(context, &before);
	if (ip == 0 || frames->count == MOST) return _URC_NORMAL_STOP;
	frames->at[frames->count++] = before ? ip : ip - 1;
	return _URC_NO_REASON;
}

/* How many frames there are, this one included. */
NOINLINE size_t compare(void);
size_t compare(void) {
	struct frames theirs = { .count = 0 }, ours = { .count = 0 };
	struct unwind frame;
	struct stack stack;
	unwind_here(&frame);
	do
		ours.at[ours.count++] = frame.pc;
	while (ours.count < MOST && unwind_step(&frame));
	_Unwind_Backtrace(visit, &theirs);
	if (ours.count != theirs.count) fail("not as many", &theirs, &ours);
	if (memcmp(&ours.at[1], &theirs.at[1], (ours.count - 1) * sizeof ours.at[0]) != 0) fail("others", &theirs, &ours);
	stack_take(&stack, 0);
	const size_t taken = ours.count < STACK_FRAMES ? ours.count : STACK_FRAMES;
	if (stack.count != taken) fail("as a stack, not as many", &theirs, &ours);
	if (memcmp(&ours.at[1], &stack.frames[1], (taken - 1) * sizeof ours.at[0]) != 0) fail("as a stack, others", &theirs, &ours);
	return ours.count;
}

static void expect(size_t least) {
	const size_t count = compare();
	if (count >= least) return;
	fprintf(stderr, "%s: only %zu frames\n", current, count);
	exit(1);
}

/* ---- frames of several shapes; each is counted ---- */

static volatile size_t sink;

NOINLINE static void plain(size_t depth);
NOINLINE static void variable(size_t depth);

/* Whose stack pointer alone says where it is, as a rule. */
NOINLINE static void many_registers(size_t depth, size_t b, size_t c, size_t d, size_t e, size_t f) {
	char room[333];
	memset(room, (int)b, sizeof room);
	if (depth > 0) plain(depth - 1);
	sink += b * c + d * e + f + (size_t)room[depth % sizeof room];
}

/* Found by its frame pointer. */
NOINLINE static void variable(size_t depth) {
	char *room = alloca(100 + depth * 16);
	memset(room, 1, 100 + depth * 16);
	if (depth > 0) many_registers(depth - 1, depth, 2, 3, 4, 5);
	else expect(50);
	sink += (size_t)room[depth];
}

/* Found by an expression, on x86-64: its stack is aligned, and its size unknown. */
NOINLINE static void aligned(size_t depth) {
	_Alignas(256) char line[512];
	char *room = alloca(depth * 24 + 1);
	memset(line, 2, sizeof line);
	memset(room, 3, depth * 24 + 1);
	variable(depth);
	sink += (size_t)line[depth] + (size_t)room[depth];
}

NOINLINE static void plain(size_t depth) {
	if (depth % 2 != 0)
		variable(depth);
	else
		aligned(depth);
	sink++;
}

/* A frame of a MiB. */
NOINLINE static void large(void) {
	char room[1 << 20];
	room[0] = room[sizeof room - 1] = 1;
	__asm__ volatile("" : : "r"(room) : "memory");
	plain(60);
	sink += (size_t)room[0];
}

/* ---- ways to get there ---- */

static int compare_in_callback(const void *a, const void *b) {
	static size_t calls;
	if (calls++ == 0) expect(4);
	return *(const int *)a - *(const int *)b;
}

NOINLINE static void sort(void) {
	int numbers[] = { 3, 1, 2, 5, 4 };
	qsort(numbers, 5, sizeof numbers[0], compare_in_callback);
}

static void on_signal(int number) {
	(void)number;
	expect(5);
	plain(20 + 20);
}

/* The instruction that faults, and who called. */
static volatile uintptr_t faulting_caller;
static void on_fault(int number, siginfo_t *info, void *context) {
	(void)number, (void)info;
	struct stack here, from, interrupted;
	struct unwind frame;
	expect(5);
	unwind_interrupted(&frame, context);
	const uintptr_t pc = frame.pc;
	stack_take_interrupted(&interrupted, context);
	stack_take(&from, pc);
	stack_take(&here, 0);
	if (interrupted.count != from.count || memcmp(interrupted.frames, from.frames, from.count * sizeof from.frames[0]) != 0 ||
	    interrupted.frames[0] != pc || here.count <= from.count || interrupted.frames[1] + 1 != faulting_caller) {
		fprintf(stderr, "%s: the frames of the fault\n", current);
		exit(1);
	}
	/* Goes on behind the instruction: it has a length that its function knows. */
#if defined(__x86_64__)
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
#else
	((ucontext_t *)context)->uc_mcontext.pc += 4;
#endif
}

NOINLINE static void fault(void *at) {
	faulting_caller = (uintptr_t)__builtin_return_address(0);
#if defined(__x86_64__)
	__asm__ volatile("movb %%al, (%%rdi)" : : "D"(at) : "memory"); /* two bytes */
#else
	__asm__ volatile("str xzr, [%0]" : : "r"(at) : "memory");
#endif
}

static void set_handler(int number, void (*handler)(int, siginfo_t *, void *), void (*simple)(int), int flags) {
	struct sigaction action = { .sa_flags = flags };
	if (simple != NULL)
		action.sa_handler = simple;
	else
		action.sa_sigaction = handler;
	sigaction(number, &action, NULL);
}

NOINLINE static void signals(int flags) {
	set_handler(SIGUSR1, NULL, on_signal, flags);
	set_handler(SIGSEGV, on_fault, NULL, flags | SA_SIGINFO);
	raise(SIGUSR1);
	void *closed = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fault(closed);
	munmap(closed, 4096);
}

static void signals_on_a_stack_of_their_own(char *room, size_t size) {
	const stack_t own = { .ss_sp = room, .ss_size = size };
	sigaltstack(&own, NULL);
	signals(SA_ONSTACK);
	const stack_t none = { .ss_flags = SS_DISABLE };
	sigaltstack(&none, NULL);
}

static void *in_a_thread(void *unused) {
	plain(60);
	signals(0);
	/* Once above the stack in use, and once below. */
	static char other[128 << 10];
	char room[128 << 10];
	signals_on_a_stack_of_their_own(room, sizeof room);
	signals_on_a_stack_of_their_own(other, sizeof other);
	sort();
	return unused;
}

static ucontext_t home, away;
static void in_a_coroutine(void) {
	expect(2);
	plain(60);
	signals(0);
}

/* libgcc's unwinder would fault on some of these. */
static jmp_buf before_coroutine;
static struct stack of_coroutine;
static void take_one(void) {
	stack_take(&of_coroutine, 0);
	longjmp(before_coroutine, 1);
}

static void run_coroutine(char *end, uintptr_t filler) {
	if (setjmp(before_coroutine) == 0) coroutine_begin(end, filler, filler, take_one);
}

static void coroutines_without_a_caller(void) {
	char *area = mmap(NULL, 128 << 10, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *end = area + (64 << 10);
	mprotect(area, 64 << 10, PROT_READ | PROT_WRITE);
	const uintptr_t fillers[] = {
		0, 1, 0xdead, 0xdeaddeaddeaddead, UINTPTR_MAX, (uintptr_t)area, (uintptr_t)end + 16, (uintptr_t)plain, (uintptr_t)large + 32,
	};
	for (size_t i = 0; i < sizeof fillers / sizeof *fillers; i++) {
		run_coroutine(end, fillers[i]);
		/* Nobody but itself and, at most, what its return address says. */
		if (of_coroutine.count == 1 + (fillers[i] != 0) || (i >= 7 && of_coroutine.count == 3)) continue;
		fprintf(stderr, "%s: %u frames with filler %zu\n", current, of_coroutine.count, i);
		exit(1);
	}
}

/* Stacks are taken in malloc, wherever it is called: on small ones, too. Sanitizers make all frames larger. */
enum { PAINT = 0xa5, USE_MAX = 1600 };
static void takes_little_room(void) {
	static _Alignas(16) char room[16 << 10];
	size_t unused;
	run_coroutine(room + sizeof room, 0); /* so that the loader has found all functions */
	memset(room, PAINT, sizeof room);
	run_coroutine(room + sizeof room, 0);
	for (unused = 0; (unsigned char)room[unused] == PAINT;) unused++;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	if (sizeof room - unused > USE_MAX) {
		fprintf(stderr, "taking a stack needs %zu bytes of it\n", sizeof room - unused);
		exit(1);
	}
#endif
}

/* In the C++ part, where there is one. */
void compare_exceptions(void) __attribute__((weak));

int main(void) {
	if (!unwind_is_possible()) return fprintf(stderr, "there are no tables\n"), 1;
	current = "main";
	large();
	sort();
	current = "signals";
	signals(0);
	current = "thread";
	in_a_thread(NULL);
	pthread_t thread;
	pthread_create(&thread, NULL, in_a_thread, NULL);
	pthread_join(thread, NULL);
	current = "coroutine";
	getcontext(&away);
	static char room[256 << 10];
	away.uc_stack = (stack_t){ .ss_sp = room, .ss_size = sizeof room };
	away.uc_link = &home;
	makecontext(&away, in_a_coroutine, 0);
	swapcontext(&home, &away);
	coroutines_without_a_caller();
	takes_little_room();
	current = "exceptions";
	if (compare_exceptions != NULL) compare_exceptions();
	return 0;
}
