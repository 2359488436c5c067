/* The program's handlers of SIGSEGV and SIGBUS: it sees what it asked for, and gets it, whether the pool of guarded blocks, with Arenal's own
 * handler, comes before it asks or later. Each test runs in children, which make the pool at one of two moments. Without Arenal
 * (TEST_WITH_LIBC=1) there is no pool, and all must hold the same. */
#include "support.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define KIB ((size_t)1 << 10)

/* ---- the pool, and the two moments ---- */

static enum moment { BEFORE, AFTER } moment;

/* From here on, blocks are guarded, and Arenal's handler is there. */
static void make_pool(void) {
	int (*set)(const char *, int64_t) = (int (*)(const char *, int64_t))dlsym(RTLD_DEFAULT, "arenal_set");
	int (*get)(struct arenal_stats *, size_t) = (int (*)(struct arenal_stats *, size_t))dlsym(RTLD_DEFAULT, "arenal_stats_get");
	struct arenal_stats stats = { 0 };
	if (!set)
		return;
	CHILD_CHECK(set("guard_sample", 1) == 0);
	for (int i = 0; i < 100000 && stats.guarded_total == 0; i++) {
		free((void *)hidden((size_t)malloc(100 + (size_t)i % 5000)));
		CHILD_CHECK(get(&stats, sizeof stats) == 0);
	}
	CHILD_CHECK(stats.guarded_total > 0);
}

static void pool_if(enum moment now) {
	if (now == moment)
		make_pool();
}

/* Without the handlers of cmocka. */
static int plain_child(void (*body)(void *), void *argument) {
	const struct sigaction none = { .sa_handler = SIG_DFL };
	struct sigaction segv, bus;
	sigaction(SIGSEGV, &none, &segv);
	sigaction(SIGBUS, &none, &bus);
	const int status = run_in_child(body, argument);
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return status;
}

static void in_children(void (*body)(void *), void *argument, int status) {
	for (moment = BEFORE; moment <= AFTER; moment++) {
		const int ended = plain_child(body, argument);
		if (ended != status)
			fail_msg("with the pool %s, the child ended with %d, not %d", moment == BEFORE ? "before" : "after", ended, status);
	}
}

/* ---- what the handler finds ---- */

static struct {
	volatile int calls;
	bool on_alternate;
	sigset_t blocked;
	siginfo_t info;
	void *context;
} found;

static char *alternate; /* the alternate stack */
static char *page;      /* that cannot be written to */
enum { ALTERNATE = 64 * 1024 };

static bool on_alternate(void) {
	const char *here = __builtin_frame_address(0);
	return here >= alternate && here < alternate + ALTERNATE;
}

static void note(void) {
	found.calls++;
	found.on_alternate = on_alternate();
	sigprocmask(SIG_BLOCK, NULL, &found.blocked);
	mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

static void simple_handler(int signal) {
	(void)signal;
	note();
}

static void full_handler(int signal, siginfo_t *info, void *context) {
	(void)signal;
	found.info = *info;
	found.context = context;
	errno = EXDEV;
	note();
}

static void set_up(void) {
	alternate = mmap(NULL, ALTERNATE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHILD_CHECK(alternate != MAP_FAILED && page != MAP_FAILED);
	stack_t stack = { .ss_sp = alternate, .ss_size = ALTERNATE };
	CHILD_CHECK(sigaltstack(&stack, NULL) == 0);
}

static void fault(void) {
	mprotect(page, PAGE, PROT_READ);
	*(volatile char *)page = 1;
}

/* ---- what is asked for ---- */

static const int all_flags[] = {
	0, SA_ONSTACK, SA_NODEFER, SA_RESTART, SA_ONSTACK | SA_NODEFER, SA_ONSTACK | SA_NODEFER | SA_RESTART, SA_NOCLDSTOP, SA_NOCLDWAIT,
};

static struct sigaction asked(int flags, bool full) {
	struct sigaction action = { .sa_flags = flags | (full ? SA_SIGINFO : 0) };
	if (full)
		action.sa_sigaction = full_handler;
	else
		action.sa_handler = simple_handler;
	sigaddset(&action.sa_mask, SIGUSR1);
	sigaddset(&action.sa_mask, SIGTERM);
	sigaddset(&action.sa_mask, SIGKILL); /* which the kernel leaves out */
	return action;
}

static bool same(const struct sigaction *a, const struct sigaction *b) {
	return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags && a->sa_restorer == b->sa_restorer &&
	       memcmp(&a->sa_mask, &b->sa_mask, 8) == 0;
}

/* Of SIGUSR2, nobody but the kernel knows. */
static struct sigaction as_shown(const struct sigaction *action) {
	struct sigaction shown;
	CHILD_CHECK(sigaction(SIGUSR2, action, NULL) == 0);
	CHILD_CHECK(sigaction(SIGUSR2, NULL, &shown) == 0);
	return shown;
}

static void shown_as_asked(void *signal_) {
	const int signal = *(int *)signal_;
	set_up();
	struct sigaction before, shown;
	CHILD_CHECK(sigaction(signal, NULL, &before) == 0 && before.sa_handler == SIG_DFL);
	pool_if(BEFORE);
	for (size_t i = 0; i < COUNT_OF(all_flags) * 4; i++) {
		const int flags = all_flags[i / 4] | (i % 2 ? (int)SA_RESETHAND : 0);
		const struct sigaction action = asked(flags, i / 2 % 2), expected = as_shown(&action);
		CHILD_CHECK(sigaction(signal, &action, &shown) == 0);
		CHILD_CHECK(same(&shown, &before));
		pool_if(AFTER);
		CHILD_CHECK(sigaction(signal, NULL, &shown) == 0);
		CHILD_CHECK(same(&shown, &expected));
		before = shown;
	}
	/* Back to where it was, by what was told; and to be ignored. */
	struct sigaction action = { .sa_handler = SIG_IGN };
	const struct sigaction ignored = as_shown(&action);
	action.sa_handler = SIG_DFL;
	const struct sigaction by_default = as_shown(&action);
	CHILD_CHECK(sigaction(signal, &ignored, NULL) == 0 && sigaction(signal, NULL, &shown) == 0 && same(&shown, &ignored));
	/* In and out may be one and the same. */
	CHILD_CHECK(sigaction(signal, &action, (struct sigaction *)hidden((size_t)&action)) == 0 && same(&action, &ignored));
	CHILD_CHECK(sigaction(signal, NULL, &shown) == 0 && same(&shown, &by_default));
}

static int segv = SIGSEGV, bus = SIGBUS;

static void actions_are_shown_as_asked(void **state) {
	(void)state;
	in_children(shown_as_asked, &segv, 0);
	in_children(shown_as_asked, &bus, 0);
}

static void expect_mask(int signal, int flags) {
	CHILD_CHECK(sigismember(&found.blocked, SIGUSR1) && sigismember(&found.blocked, SIGTERM));
	CHILD_CHECK(!sigismember(&found.blocked, SIGKILL) && !sigismember(&found.blocked, SIGUSR2));
	CHILD_CHECK(sigismember(&found.blocked, signal) == ((flags & SA_NODEFER) == 0));
}

static void runs_as_asked(void *unused) {
	(void)unused;
	set_up();
	pool_if(BEFORE);
	for (size_t i = 0; i < COUNT_OF(all_flags) * 2; i++) {
		const int flags = all_flags[i / 2];
		const bool full = i % 2;
		const struct sigaction action = asked(flags, full);
		CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
		pool_if(AFTER);
		memset(&found, 0, sizeof found);
		errno = 7;
		fault();
		CHILD_CHECK(found.calls == 1);
		CHILD_CHECK(found.on_alternate == ((flags & SA_ONSTACK) != 0));
		expect_mask(SIGSEGV, flags);
		CHILD_CHECK(errno == (full ? EXDEV : 7)); /* nobody keeps or changes it for the handler */
		if (full)
			CHILD_CHECK(found.info.si_addr == page && found.info.si_code == SEGV_ACCERR && found.context);
		/* Sent by somebody: all of it arrives. */
		memset(&found, 0, sizeof found);
		CHILD_CHECK(sigqueue(getpid(), SIGSEGV, (union sigval){ .sival_int = 4711 }) == 0);
		CHILD_CHECK(found.calls == 1);
		CHILD_CHECK(found.on_alternate == ((flags & SA_ONSTACK) != 0));
		expect_mask(SIGSEGV, flags);
		if (full)
			CHILD_CHECK(found.info.si_code == SI_QUEUE && found.info.si_pid == getpid() && found.info.si_value.sival_int == 4711);
	}
}

static void handlers_run_as_asked(void **state) {
	(void)state;
	in_children(runs_as_asked, NULL, 0);
}

/* A handler without SA_ONSTACK that needs more than the alternate stack has. */
static void needs_much(int signal) {
	volatile char much[ALTERNATE * 2];
	memset((void *)much, 1, sizeof much);
	simple_handler(signal);
}

static void room(void *unused) {
	(void)unused;
	set_up();
	pool_if(BEFORE);
	signal(SIGSEGV, needs_much);
	pool_if(AFTER);
	for (int i = 0; i < 3; i++) fault();
	CHILD_CHECK(found.calls == 3);
}

static void handlers_have_the_stack_they_asked_for(void **state) {
	(void)state;
	in_children(room, NULL, 0);
}

/* ---- SA_RESETHAND ---- */

static void once(void *unused) {
	(void)unused;
	set_up();
	pool_if(BEFORE);
	const struct sigaction action = asked((int)SA_RESETHAND, true);
	struct sigaction shown;
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	pool_if(AFTER);
	fault();
	CHILD_CHECK(found.calls == 1);
	CHILD_CHECK(sigaction(SIGSEGV, NULL, &shown) == 0 && shown.sa_handler == SIG_DFL);
	CHILD_CHECK((shown.sa_flags & (int)SA_RESETHAND) != 0);
	fault(); /* the end */
	CHILD_CHECK(false);
}

static _Atomic int told;

static void tell(int signal) {
	(void)signal;
	told++;
	usleep(100000); /* so that the other thread is in the middle of its fault */
	_exit(told == 1 ? 0 : 1);
}

static void *fault_in_thread(void *gate) {
	pthread_barrier_wait(gate);
	*(volatile char *)hidden(16) = 1;
	return NULL;
}

/* One of the threads gets the handler; the other's fault ends the process, if the handler does not do so before. */
static void once_of_all_threads(void *unused) {
	(void)unused;
	pthread_t threads[2];
	pthread_barrier_t gate;
	pool_if(BEFORE);
	sysv_signal(SIGSEGV, tell);
	pool_if(AFTER);
	pthread_barrier_init(&gate, NULL, 2);
	for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, fault_in_thread, &gate);
	for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}

static void reset_handlers_run_once(void **state) {
	(void)state;
	in_children(once, NULL, 128 + SIGSEGV);
	for (int i = 0; i < 10; i++) {
		moment = i % 2 ? BEFORE : AFTER;
		const int status = plain_child(once_of_all_threads, NULL);
		assert_true(status == 0 || status == 128 + SIGSEGV);
	}
}

/* ---- no handler ---- */

static void die_by_fault(void *unused) {
	(void)unused;
	set_up();
	pool_if(BEFORE);
	pool_if(AFTER);
	fault();
}

static void die_by_kill(void *signal) {
	pool_if(BEFORE);
	pool_if(AFTER);
	kill(getpid(), *(int *)signal);
	pause();
}

static void die_by_bus(void *unused) {
	(void)unused;
	pool_if(BEFORE);
	pool_if(AFTER);
	const int file = memfd_create("short", 0);
	volatile char *beyond = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
	beyond[0];
}

static void die_ignoring(void *unused) {
	signal(SIGSEGV, SIG_IGN);
	die_by_fault(unused);
}

static void program_dies_of_the_signal(void **state) {
	(void)state;
	in_children(die_by_fault, NULL, 128 + SIGSEGV);
	in_children(die_by_kill, &segv, 128 + SIGSEGV);
	in_children(die_by_kill, &bus, 128 + SIGBUS);
	in_children(die_by_bus, NULL, 128 + SIGBUS);
	in_children(die_ignoring, NULL, 128 + SIGSEGV);
}

/* What a core, or a debugger, learns: whoever stops the child at each of its signals sees the same each time, until it has died. */
static void debugger_sees_who_sent_it(void **state) {
	(void)state;
	for (moment = BEFORE; moment <= AFTER; moment++) {
		const pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			signal(SIGSEGV, SIG_DFL);
			make_pool();
			if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
				_exit(77);
			raise(SIGSTOP);
			if (moment == AFTER)
				*(volatile char *)hidden(24) = 1;
			for (;;) pause();
		}
		int status, stops = 0;
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			SKIP("nobody may trace here");
		assert_true(WIFSTOPPED(status));
		assert_int_equal(ptrace(PTRACE_CONT, child, NULL, NULL), 0);
		if (moment == BEFORE)
			assert_int_equal(sigqueue(child, SIGSEGV, (union sigval){ .sival_int = 815 }), 0);
		while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
			siginfo_t info;
			assert_int_equal(WSTOPSIG(status), SIGSEGV);
			assert_int_equal(ptrace(PTRACE_GETSIGINFO, child, NULL, &info), 0);
			if (moment == BEFORE) {
				assert_int_equal(info.si_code, SI_QUEUE);
				assert_int_equal(info.si_pid, getpid());
				assert_int_equal(info.si_value.sival_int, 815);
			} else {
				assert_int_equal(info.si_code, SEGV_MAPERR);
				assert_ptr_equal(info.si_addr, 24);
			}
			assert_true(++stops <= 2);
			assert_int_equal(ptrace(PTRACE_CONT, child, NULL, (void *)(uintptr_t)SIGSEGV), 0);
		}
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
}

/* An ignored signal does not even end a read early: the kernel has to ignore it. */
static void ignore(void *unused) {
	(void)unused;
	char text[4096];
	pool_if(BEFORE);
	CHILD_CHECK(sigignore(SIGSEGV) == 0);
	pool_if(AFTER);
	const int file = open("/proc/self/status", O_RDONLY);
	const ssize_t length = read(file, text, sizeof text - 1);
	CHILD_CHECK(length > 0);
	text[length] = '\0';
	const char *line = strstr(text, "SigIgn:");
	CHILD_CHECK(line && (strtoull(line + 7, NULL, 16) >> (SIGSEGV - 1) & 1) == 1);
	CHILD_CHECK(raise(SIGSEGV) == 0);
	/* And a handler after that is one again. */
	set_up();
	signal(SIGSEGV, simple_handler);
	fault();
	CHILD_CHECK(found.calls == 1);
}

static void ignored_signals_are_ignored(void **state) {
	(void)state;
	in_children(ignore, NULL, 0);
}

/* ---- ways out of a handler, and chains ---- */

static sigjmp_buf out;

static void jump(int signal) {
	(void)signal;
	found.calls++;
	siglongjmp(out, 1);
}

static void jump_out(void *unused) {
	(void)unused;
	set_up();
	pool_if(BEFORE);
	signal(SIGSEGV, jump);
	pool_if(AFTER);
	for (volatile int i = 0; i < 100; i++)
		if (sigsetjmp(out, 1) == 0)
			fault();
	CHILD_CHECK(found.calls == 100);
}

static struct sigaction earlier;

/* As the Java machine does: whoever was there before has his turn first, and if there was one, that is all. */
static void chain(int signal, siginfo_t *info, void *context) {
	if (earlier.sa_flags & SA_SIGINFO) {
		earlier.sa_sigaction(signal, info, context);
		return;
	}
	if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
		earlier.sa_handler(signal);
		return;
	}
	_exit(42);
}

static void chain_after_nobody(void *signal) {
	set_up();
	pool_if(BEFORE);
	struct sigaction action = { .sa_sigaction = chain, .sa_flags = SA_SIGINFO };
	CHILD_CHECK(sigaction(SIGSEGV, &action, &earlier) == 0);
	pool_if(AFTER);
	if (signal)
		raise(SIGSEGV);
	fault();
}

/* As V8 does: what was there before is put back, and the instruction tried again. */
static void step_aside(int signal, siginfo_t *info, void *context) {
	(void)info, (void)context;
	found.calls++;
	sigaction(signal, &earlier, NULL);
}

static void put_back(void *unused) {
	(void)unused;
	set_up();
	pool_if(BEFORE);
	struct sigaction action = { .sa_sigaction = step_aside, .sa_flags = SA_SIGINFO };
	signal(SIGSEGV, simple_handler);
	CHILD_CHECK(sigaction(SIGSEGV, &action, &earlier) == 0);
	pool_if(AFTER);
	fault();
	CHILD_CHECK(found.calls == 2);
}

/* As crash reporters do: the handler says something, and sends the signal again without itself. */
static void say_and_die(int number) {
	signal(number, SIG_DFL);
	raise(number);
}

static void report_and_die(void *unused) {
	(void)unused;
	set_up();
	pool_if(BEFORE);
	signal(SIGSEGV, say_and_die);
	pool_if(AFTER);
	fault();
	CHILD_CHECK(false);
}

static void handlers_go_where_they_like(void **state) {
	(void)state;
	in_children(jump_out, NULL, 0);
	in_children(chain_after_nobody, NULL, 42);
	in_children(chain_after_nobody, &segv, 42);
	in_children(put_back, NULL, 0);
	in_children(report_and_die, NULL, 128 + SIGSEGV);
}

/* ---- a fault in the pool ---- */

static void use_after_free(void *unused) {
	(void)unused;
	char *blocks[500];
	pool_if(BEFORE);
	const struct sigaction action = asked(SA_ONSTACK, true);
	set_up();
	signal(SIGSEGV, say_and_die);
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	pool_if(AFTER);
	struct sigaction last = { .sa_handler = say_and_die };
	sigaction(SIGSEGV, &last, NULL);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = (char *)hidden((size_t)malloc(5000));
		free(blocks[i]);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++) *(volatile char *)blocks[i];
	_exit(0); /* without a pool */
}

/* The report comes first, whenever the program set a handler, which then has its turn. */
static void faults_in_the_pool_are_reported(void **state) {
	(void)state;
	if (getenv("TEST_WITH_LIBC"))
		SKIP("libc's malloc has no pool");
	const int file = memfd_create("stderr", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	assert_true(file >= 0 && saved >= 0 && dup2(file, STDERR_FILENO) >= 0);
	in_children(use_after_free, NULL, 128 + SIGSEGV);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	static char text[64 * 1024];
	const ssize_t length = pread(file, text, sizeof text - 1, 0);
	close(file);
	text[length > 0 ? length : 0] = '\0';
	const char *first = strstr(text, "arenal: use after free: read of ");
	assert_non_null(first);
	assert_non_null(strstr(first + 1, "arenal: use after free: read of "));
	assert_non_null(strstr(first, "accessed by thread "));
}

/* ---- the older functions ---- */

extern sighandler_t bsd_signal(int signal, sighandler_t handler); /* its header has forgotten it */

static const struct older {
	sighandler_t (*set)(int signal, sighandler_t handler);
} olders[] = { { signal }, { ssignal }, { bsd_signal }, { sysv_signal }, { __sysv_signal }, { sigset } };

/* What they make of a signal that only the kernel knows, they make of this one. */
static void older_functions(void *unused) {
	(void)unused;
	struct sigaction expected, shown;
	pool_if(BEFORE);
	pool_if(AFTER);
	for (int interrupt = 0; interrupt < 2; interrupt++) {
		CHILD_CHECK(siginterrupt(SIGUSR2, interrupt) == 0 && siginterrupt(SIGSEGV, interrupt) == 0);
		for (size_t i = 0; i < COUNT_OF(olders); i++) {
			CHILD_CHECK(olders[i].set(SIGUSR2, simple_handler) == olders[i].set(SIGSEGV, simple_handler) || i == 0);
			CHILD_CHECK(sigaction(SIGUSR2, NULL, &expected) == 0 && sigaction(SIGSEGV, NULL, &shown) == 0);
			/* The signal's own bit. */
			CHILD_CHECK(sigismember(&shown.sa_mask, SIGSEGV) == sigismember(&expected.sa_mask, SIGUSR2));
			sigdelset(&shown.sa_mask, SIGSEGV);
			sigdelset(&expected.sa_mask, SIGUSR2);
			CHILD_CHECK(same(&shown, &expected));
		}
		/* Of an action that is there. */
		struct sigaction action = asked(SA_RESTART, false);
		CHILD_CHECK(sigaction(SIGUSR2, &action, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
		CHILD_CHECK(siginterrupt(SIGUSR2, !interrupt) == 0 && siginterrupt(SIGSEGV, !interrupt) == 0);
		CHILD_CHECK(sigaction(SIGUSR2, NULL, &expected) == 0 && sigaction(SIGSEGV, NULL, &shown) == 0);
		CHILD_CHECK(same(&shown, &expected));
		CHILD_CHECK(siginterrupt(SIGUSR2, interrupt) == 0 && siginterrupt(SIGSEGV, interrupt) == 0);
	}
	CHILD_CHECK(signal(SIGSEGV, SIG_ERR) == SIG_ERR && errno == EINVAL);
	/* SIG_HOLD blocks, and is told of what was blocked. */
	sigset_t blocked;
	CHILD_CHECK(sigset(SIGSEGV, SIG_HOLD) == simple_handler);
	CHILD_CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && sigismember(&blocked, SIGSEGV));
	CHILD_CHECK(sigset(SIGSEGV, SIG_IGN) == SIG_HOLD);
	CHILD_CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && !sigismember(&blocked, SIGSEGV));
	CHILD_CHECK(sigset(SIGSEGV, SIG_DFL) == SIG_IGN);
}

static void older_functions_do_the_same(void **state) {
	(void)state;
	in_children(older_functions, NULL, 0);
}

/* ---- children ---- */

static void handlers_of_children(void *unused) {
	(void)unused;
	struct sigaction shown;
	int status;
	set_up();
	pool_if(BEFORE);
	signal(SIGSEGV, simple_handler);
	pool_if(AFTER);
	/* By vfork: it has this memory, and actions of its own. */
	pid_t child = vfork();
	if (child == 0) {
		const struct sigaction none = { .sa_handler = SIG_DFL };
		sigaction(SIGSEGV, &none, NULL);
		_exit(0);
	}
	CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHILD_CHECK(sigaction(SIGSEGV, NULL, &shown) == 0 && shown.sa_handler == simple_handler);
	fault();
	CHILD_CHECK(found.calls == 1);
	/* By fork. */
	child = fork();
	if (child == 0) {
		fault();
		CHILD_CHECK(found.calls == 2);
		signal(SIGSEGV, jump);
		CHILD_CHECK(sigaction(SIGSEGV, NULL, &shown) == 0 && shown.sa_handler == jump);
		if (sigsetjmp(out, 1) == 0)
			fault();
		CHILD_CHECK(found.calls == 3);
		signal(SIGSEGV, SIG_DFL);
		fault();
	}
	CHILD_CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	fault();
	CHILD_CHECK(found.calls == 2);
	/* Executed programs have none of it. */
	child = fork();
	if (child == 0)
		execl("/proc/self/exe", "signals", "by_default", NULL);
	CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void children_have_their_own(void **state) {
	(void)state;
	in_children(handlers_of_children, NULL, 0);
}

int main(int argc, char **argv) {
	(void)argv;
	if (argc > 1) {
		struct sigaction shown;
		return sigaction(SIGSEGV, NULL, &shown) != 0 || shown.sa_handler != SIG_DFL || shown.sa_flags != 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(actions_are_shown_as_asked),
		cmocka_unit_test(handlers_run_as_asked),
		cmocka_unit_test(handlers_have_the_stack_they_asked_for),
		cmocka_unit_test(reset_handlers_run_once),
		cmocka_unit_test(program_dies_of_the_signal),
		cmocka_unit_test(debugger_sees_who_sent_it),
		cmocka_unit_test(ignored_signals_are_ignored),
		cmocka_unit_test(handlers_go_where_they_like),
		cmocka_unit_test(faults_in_the_pool_are_reported),
		cmocka_unit_test(older_functions_do_the_same),
		cmocka_unit_test(children_have_their_own),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
