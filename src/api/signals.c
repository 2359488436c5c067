/* sigaction, signal and their relatives: a program that asks for the action of SIGSEGV or SIGBUS sees its own, and one that sets it gets
 * it, while Arenal's handler is in between (harden/action.h). All other signals, and these as long as there is no guarded pool, are
 * the business of the next definitions: libc's, or those of another preloaded library that looks after signals (libjsig, libsigchain).
 * Such a library has to see all calls, and may make one wait for another: where there is one behind Arenal, these two signals are its
 * business as well, and a program that sets a handler then has it in place of ours.
 * What libc does inside (posix_spawn, system, abort) does not come here.
 *
 * Part of the shared library only. */
#include <dlfcn.h>
#include <signal.h>

#include "api/api.h"
#include "harden/action.h"

/* The second name that libc has for its own. */
extern int libc_sigaction(int signal, const struct sigaction *action, struct sigaction *earlier) __asm__("__sigaction");

/* No header has it any more, but libc has the function, for old programs. */
struct sigvec {
	sighandler_t handler;
	int mask; /* of the first 32 signals */
	int flags;
};
enum { SIGVEC_ONSTACK = 1, SIGVEC_INTERRUPT = 2, SIGVEC_RESETHAND = 4 };

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

__attribute__((constructor)) static void find_next(void) {
	FIND(signal, "signal");
	FIND(sysv_signal, "__sysv_signal");
	FIND(sigset, "sigset");
	FIND(sigignore, "sigignore");
	FIND(siginterrupt, "siginterrupt");
	FIND(sigaction, "sigaction");
}

#define NEXT(name) (likely(next.name != NULL) ? next.name : (find_next(), next.name))

static bool is_kept(int signal) {
	if (likely(!action_is_kept(signal))) return false;
	int (*function)(int, const struct sigaction *, struct sigaction *) = next.sigaction;
	return function == NULL || function == libc_sigaction;
}

static int failed(int error) {
	errno = error;
	return -1;
}

EXPORT int sigaction(int signal, const struct sigaction *action, struct sigaction *earlier) {
	if (unlikely(is_kept(signal))) {
		const int error = action_change(signal, action, earlier);
		return error == 0 ? 0 : failed(error);
	}
	int (*function)(int, const struct sigaction *, struct sigaction *) = next.sigaction;
	const int result = (function != NULL ? function : libc_sigaction)(signal, action, earlier);
	if (result == 0 && earlier != NULL) action_hide(signal, earlier);
	return result;
}

/* ---- the older ones, for signals whose action is kept; what each does is in the manual of glibc ---- */

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
	if (!is_kept(signal)) return action_hide_handler(signal, NEXT(signal)(signal, handler));
	return set_handler(signal, handler, true, *interrupts(signal) ? 0 : SA_RESTART);
}

EXPORT sighandler_t bsd_signal(int signal, sighandler_t handler) __attribute__((alias("signal"), nothrow, leaf));
EXPORT sighandler_t ssignal(int signal, sighandler_t handler) __attribute__((alias("signal"), nothrow, leaf));

EXPORT sighandler_t __sysv_signal(int signal, sighandler_t handler) {
	if (!is_kept(signal)) return action_hide_handler(signal, NEXT(sysv_signal)(signal, handler));
	return set_handler(signal, handler, false, (int)SA_RESETHAND | SA_NODEFER | SA_INTERRUPT);
}

EXPORT sighandler_t sysv_signal(int signal, sighandler_t handler) __attribute__((alias("__sysv_signal"), nothrow, leaf));

EXPORT int sigignore(int signal) {
	if (!is_kept(signal)) return NEXT(sigignore)(signal);
	return set_handler(signal, SIG_IGN, false, 0) == SIG_ERR ? -1 : 0;
}

/* SIG_HOLD only blocks the signal; any other handler unblocks it. */
EXPORT sighandler_t sigset(int signal, sighandler_t handler) {
	if (!is_kept(signal)) return action_hide_handler(signal, NEXT(sigset)(signal, handler));
	sigset_t own, before;
	sigemptyset(&own);
	sigaddset(&own, signal);
	struct sigaction earlier;
	if (handler == SIG_HOLD) {
		if (sigprocmask(SIG_BLOCK, &own, &before) != 0 || sigaction(signal, NULL, &earlier) != 0) return SIG_ERR;
	} else {
		struct sigaction action = { .sa_handler = handler };
		if (sigaction(signal, &action, &earlier) != 0 || sigprocmask(SIG_UNBLOCK, &own, &before) != 0) return SIG_ERR;
	}
	return sigismember(&before, signal) ? SIG_HOLD : earlier.sa_handler;
}

/* It counts for the next call of signal, too. */
EXPORT int siginterrupt(int signal, int interrupt) {
	const bool kept = is_kept(signal);
	struct sigaction action;
	if (signal == SIGSEGV || signal == SIGBUS) *interrupts(signal) = interrupt != 0;
	if (!kept) return NEXT(siginterrupt)(signal, interrupt);
	if (sigaction(signal, NULL, &action) != 0) return -1;
	action.sa_flags = interrupt ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
	return sigaction(signal, &action, NULL);
}

/* For any signal: libc's can only be asked for by the version of the symbol, which each machine has another one of. */
EXPORT int sigvec(int signal, const struct sigvec *vector, struct sigvec *earlier) {
	struct sigaction action = { 0 }, before;
	if (vector != NULL) {
		action.sa_handler = vector->handler;
		action.sa_mask.__val[0] = (unsigned)vector->mask;
		action.sa_flags = (vector->flags & SIGVEC_ONSTACK ? SA_ONSTACK : 0) | (vector->flags & SIGVEC_INTERRUPT ? 0 : SA_RESTART) |
		                  (vector->flags & SIGVEC_RESETHAND ? (int)SA_RESETHAND : 0);
	}
	if (sigaction(signal, vector != NULL ? &action : NULL, &before) != 0) return -1;
	if (earlier == NULL) return 0;
	earlier->handler = before.sa_handler;
	earlier->mask = (int)before.sa_mask.__val[0];
	earlier->flags = (before.sa_flags & SA_ONSTACK ? SIGVEC_ONSTACK : 0) | (before.sa_flags & SA_RESTART ? 0 : SIGVEC_INTERRUPT) |
	                 (before.sa_flags & (int)SA_RESETHAND ? SIGVEC_RESETHAND : 0);
	return 0;
}
