/* The program's handlers of SIGSEGV and SIGBUS: it sees what it asked for, and gets it, whether the pool
 * of guarded blocks, with Arenal's own handler, comes before it asks or later. Each test runs in children,
 * which make the pool at one of two moments. Without Arenal (TEST_WITH_LIBC=1) there is no pool, and all
 * must hold the same. What handlers make of a signal, and who dies of it, is in signals_ends.c. */
#include "signals.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

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
	CHILD_CHECK(sigaction(signal, &ignored, NULL) == 0 && sigaction(signal, NULL, &shown) == 0 &&
	            same(&shown, &ignored));
	/* In and out may be one and the same. */
	CHILD_CHECK(sigaction(signal, &action, (struct sigaction *)hidden((size_t)&action)) == 0 &&
	            same(&action, &ignored));
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
			CHILD_CHECK(found.info.si_code == SI_QUEUE && found.info.si_pid == getpid() &&
			            found.info.si_value.sival_int == 4711);
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

/* One of the threads gets the handler; the other's fault ends the process, if the handler does not do so
 * before. */
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
			CHILD_CHECK(olders[i].set(SIGUSR2, simple_handler) == olders[i].set(SIGSEGV, simple_handler) ||
			            i == 0);
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

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(actions_are_shown_as_asked),
		cmocka_unit_test(handlers_run_as_asked),
		cmocka_unit_test(handlers_have_the_stack_they_asked_for),
		cmocka_unit_test(reset_handlers_run_once),
		cmocka_unit_test(older_functions_do_the_same),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
