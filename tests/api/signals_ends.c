/* Where SIGSEGV and SIGBUS end: at nobody, so that the program dies of them, or in handlers that jump,
 * chain, step aside or report; after a report of Arenal's own; in children. As in signals.c, each test
 * runs in children, with the pool at one of two moments. */
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static int segv = SIGSEGV, bus = SIGBUS;

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

/* What a core, or a debugger, learns: whoever stops the child at each of its signals sees the same each
 * time, until it has died. */
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

/* As the Java machine does: whoever was there before has his turn first, and if there was one, that is
 * all. */
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
		blocks[i] = unknown(malloc(5000));
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
		cmocka_unit_test(program_dies_of_the_signal),
		cmocka_unit_test(debugger_sees_who_sent_it),
		cmocka_unit_test(ignored_signals_are_ignored),
		cmocka_unit_test(handlers_go_where_they_like),
		cmocka_unit_test(faults_in_the_pool_are_reported),
		cmocka_unit_test(children_have_their_own),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
