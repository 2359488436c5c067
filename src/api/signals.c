/* sigaction, signal and their relatives: a program that asks for the action of SIGSEGV or SIGBUS sees its own, and one that sets it gets
 * it, while Arenal's handler is in between (harden/action.h). All other signals, and these as long as there is no guarded pool, are
 * the business of the next definitions: libc's, or those of another preloaded library that looks after signals (libjsig, libsigchain).
 * What libc does inside (posix_spawn, system, abort) does not come here.
 *
 * Part of the shared library only. */
#include <dlfcn.h>
#include <signal.h>

#include "api/api.h"
#include "harden/action.h"

/* The second name that libc has for its own. */
extern int libc_sigaction(int signal, const struct sigaction *action, struct sigaction *earlier) __asm__("__sigaction");

/* Looked up when the library is loaded, or by the first call before that: a handler cannot. */
static struct {
	int (*_Atomic sigaction)(int signal, const struct sigaction *action, struct sigaction *earlier);
	sighandler_t (*_Atomic signal)(int signal, sighandler_t handler);
	sighandler_t (*_Atomic sysv_signal)(int signal, sighandler_t handler);
	sighandler_t (*_Atomic sigset)(int signal, sighandler_t handler);
	int (*_Atomic sigignore)(int signal);
	int (*_Atomic siginterrupt)(int signal, int interrupt);
} next;

#define FIND(name, symbol) *(void *_Atomic *)&next.name = dlsym(RTLD_NEXT, symbol)

static void find_next(void) {
	FIND(signal, "signal");
	FIND(sysv_signal, "__sysv_signal");
	FIND(sigset, "sigset");
	FIND(sigignore, "sigignore");
	FIND(siginterrupt, "siginterrupt");
	FIND(sigaction, "sigaction");
	dlerror(); /* a libc that lacks one: nobody is to hear of that */
}

/* Before blocks are guarded. */
__attribute__((constructor(101))) static void find_at_start(void) {
	find_next();
	if (next.sigaction != NULL && next.sigaction != libc_sigaction) action_stay_out();
}

#define NEXT(name) (likely(next.name != NULL) ? next.name : (find_next(), next.name))

static int failed(int error) {
	errno = error;
	return -1;
}

EXPORT int sigaction(int signal, const struct sigaction *action, struct sigaction *earlier) {
	if (likely(!action_is_kept(signal))) {
		int (*function)(int, const struct sigaction *, struct sigaction *) = next.sigaction;
		return (function != NULL ? function : libc_sigaction)(signal, action, earlier);
	}
	const int error = action_change(signal, action, earlier);
	return error == 0 ? 0 : failed(error);
}

/* The older ones, for signals whose action is kept; what each does is in the manual of glibc. */

static sighandler_t set_handler(int signal, sighandler_t handler, bool block_itself, int flags) {
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags }, earlier;
	if (handler == SIG_ERR) return failed(EINVAL), SIG_ERR;
	if (block_itself) sigaddset(&action.sa_mask, signal);
	return sigaction(signal, &action, &earlier) == 0 ? earlier.sa_handler : SIG_ERR;
}

/* By siginterrupt, for signal. */
static _Atomic bool segv_interrupts, bus_interrupts;
static _Atomic bool *interrupts(int signal) { return signal == SIGSEGV ? &segv_interrupts : &bus_interrupts; }

EXPORT sighandler_t signal(int signal, sighandler_t handler) {
	if (!action_is_kept(signal)) return NEXT(signal)(signal, handler);
	return set_handler(signal, handler, true, *interrupts(signal) ? 0 : SA_RESTART);
}

EXPORT sighandler_t bsd_signal(int signal, sighandler_t handler) __attribute__((alias("signal"), nothrow, leaf));
EXPORT sighandler_t ssignal(int signal, sighandler_t handler) __attribute__((alias("signal"), nothrow, leaf));

EXPORT sighandler_t __sysv_signal(int signal, sighandler_t handler) {
	if (!action_is_kept(signal)) return NEXT(sysv_signal)(signal, handler);
	return set_handler(signal, handler, false, (int)SA_RESETHAND | SA_NODEFER | SA_INTERRUPT);
}

EXPORT sighandler_t sysv_signal(int signal, sighandler_t handler) __attribute__((alias("__sysv_signal"), nothrow, leaf));

EXPORT int sigignore(int signal) {
	if (!action_is_kept(signal)) return NEXT(sigignore)(signal);
	return set_handler(signal, SIG_IGN, false, 0) == SIG_ERR ? -1 : 0;
}

/* SIG_HOLD only blocks the signal; any other handler unblocks it. */
EXPORT sighandler_t sigset(int signal, sighandler_t handler) {
	if (!action_is_kept(signal)) return NEXT(sigset)(signal, handler);
	sigset_t own, before;
	sigemptyset(&own);
	sigaddset(&own, signal);
	struct sigaction earlier;
	if (handler == SIG_HOLD) {
		if (sigprocmask(SIG_BLOCK, &own, &before) != 0 || sigaction(signal, NULL, &earlier) != 0) return SIG_ERR;
	} else {
		earlier.sa_handler = set_handler(signal, handler, false, 0);
		if (earlier.sa_handler == SIG_ERR || sigprocmask(SIG_UNBLOCK, &own, &before) != 0) return SIG_ERR;
	}
	return sigismember(&before, signal) ? SIG_HOLD : earlier.sa_handler;
}

/* libc remembers it for signal, and changes the flags of the kernel's action. */
EXPORT int siginterrupt(int signal, int interrupt) {
	const int result = NEXT(siginterrupt)(signal, interrupt);
	if (result != 0 || (signal != SIGSEGV && signal != SIGBUS)) return result;
	*interrupts(signal) = interrupt != 0;
	if (action_is_kept(signal)) action_set_restart(signal, interrupt == 0);
	return 0;
}
