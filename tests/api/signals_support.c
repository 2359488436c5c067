/* What the tests of signals share. */
#include "signals.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- the pool, and the two moments ---- */

enum moment moment;

void make_pool(void) {
	int (*set)(const char *, int64_t) = (int (*)(const char *, int64_t))dlsym(RTLD_DEFAULT, "arenal_set");
	int (*get)(struct arenal_stats *, size_t) =
		(int (*)(struct arenal_stats *, size_t))dlsym(RTLD_DEFAULT, "arenal_stats_get");
	struct arenal_stats stats = { 0 };
	if (!set)
		return;
	CHILD_CHECK(set("guard_sample", 1) == 0);
	for (int i = 0; i < 100000 && stats.guarded_total == 0; i++) {
		free(unknown(malloc(100 + (size_t)i % 5000)));
		CHILD_CHECK(get(&stats, sizeof stats) == 0);
	}
	CHILD_CHECK(stats.guarded_total > 0);
}

void pool_if(enum moment now) {
	if (now == moment)
		make_pool();
}

/* Without the handlers of cmocka. */
int plain_child(void (*body)(void *), void *argument) {
	const struct sigaction none = { .sa_handler = SIG_DFL };
	struct sigaction segv, bus;
	sigaction(SIGSEGV, &none, &segv);
	sigaction(SIGBUS, &none, &bus);
	const int status = run_in_child(body, argument);
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return status;
}

void in_children(void (*body)(void *), void *argument, int status) {
	for (moment = BEFORE; moment <= AFTER; moment++) {
		const int ended = plain_child(body, argument);
		if (ended != status)
			fail_msg("with the pool %s, the child ended with %d, not %d",
			         moment == BEFORE ? "before" : "after", ended, status);
	}
}

/* ---- what the handler finds ---- */

struct found found;

static char *alternate; /* the alternate stack */
char *page;

static bool on_alternate(void) {
	const char *here = __builtin_frame_address(0);
	return here >= alternate && here < alternate + ALTERNATE;
}

void note(void) {
	found.calls++;
	found.on_alternate = on_alternate();
	sigprocmask(SIG_BLOCK, NULL, &found.blocked);
	mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

void simple_handler(int signal) {
	(void)signal;
	note();
}

void full_handler(int signal, siginfo_t *info, void *context) {
	(void)signal;
	found.info = *info;
	found.context = context;
	errno = EXDEV;
	note();
}

void set_up(void) {
	alternate = mmap(NULL, ALTERNATE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHILD_CHECK(alternate != MAP_FAILED && page != MAP_FAILED);
	stack_t stack = { .ss_sp = alternate, .ss_size = ALTERNATE };
	CHILD_CHECK(sigaltstack(&stack, NULL) == 0);
}

void fault(void) {
	mprotect(page, PAGE, PROT_READ);
	*(volatile char *)page = 1;
}

/* ---- what is asked for ---- */

const int all_flags[FLAGS] = {
	0,
	SA_ONSTACK,
	SA_NODEFER,
	SA_RESTART,
	SA_ONSTACK | SA_NODEFER,
	SA_ONSTACK | SA_NODEFER | SA_RESTART,
	SA_NOCLDSTOP,
	SA_NOCLDWAIT,
};

struct sigaction asked(int flags, bool full) {
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

bool same(const struct sigaction *a, const struct sigaction *b) {
	return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags && a->sa_restorer == b->sa_restorer &&
	       memcmp(&a->sa_mask, &b->sa_mask, 8) == 0;
}
