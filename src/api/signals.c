/* sigaction, signal and their relatives: a program that asks for the action of SIGSEGV or SIGBUS sees its
 * own, and one that sets it gets it, although Arenal's handler is in between (harden/action.h). What is to be
 * done is always left to the next definitions: libc's, or those of another preloaded library that looks after
 * signals (libjsig, libsigchain). As long as there is no guarded pool, and for all other signals, nothing
 * else happens here. What libc does inside (posix_spawn, system, abort) does not come here.
 *
 * Part of the shared library only. */
#include <signal.h>

#include "api/api.h"
#include "base/libc.h"
#include "harden/action.h"

/* Looked up when the library is loaded, or by the first call before that: a handler cannot. */
static struct {
	int (*_Atomic sigaction)(int signal, const struct sigaction *action, struct sigaction *earlier);
	sighandler_t (*_Atomic signal)(int signal, sighandler_t handler);
	sighandler_t (*_Atomic sysv_signal)(int signal, sighandler_t handler);
	sighandler_t (*_Atomic sigset)(int signal, sighandler_t handler);
	int (*_Atomic sigignore)(int signal);
	int (*_Atomic siginterrupt)(int signal, int interrupt);
} next;

#define FIND(name, symbol) *(void *_Atomic *)&next.name = libc_next(symbol)

__attribute__((constructor(101))) static void find_next(void) { /* before blocks are guarded */
	FIND(signal, "signal");
	FIND(sysv_signal, "__sysv_signal");
	FIND(sigset, "sigset");
	FIND(sigignore, "sigignore");
	FIND(siginterrupt, "siginterrupt");
	FIND(sigaction, "sigaction");
}

#define NEXT(name) (likely(next.name != NULL) ? next.name : (find_next(), next.name))

static int next_sigaction(int signal, const struct sigaction *action, struct sigaction *earlier) {
	int (*function)(int, const struct sigaction *, struct sigaction *) = next.sigaction;
	if (likely(function != NULL)) return function(signal, action, earlier);
	libc_find();
	return libc.sigaction(signal, action, earlier);
}

/* The addresses may be none: they are touched where the program's own handler can say so, and not in the
 * middle of a change. */
static NOINLINE int change_action(int signal, const struct sigaction *action, struct sigaction *earlier) {
	const struct sigaction asked = *action;
	struct sigaction before;
	struct action_change change;
	action_open(signal, &change);
	const int result = next_sigaction(signal, &asked, &before);
	action_close(signal, &change);
	if (result == 0 && earlier != NULL) *earlier = before;
	return result;
}

EXPORT int sigaction(int signal, const struct sigaction *action, struct sigaction *earlier) {
	if (unlikely(action != NULL && action_is_kept(signal))) return change_action(signal, action, earlier);
	const int result = next_sigaction(signal, action, earlier);
	if (result == 0 && earlier != NULL) action_hide(signal, earlier);
	return result;
}

/* Calls the function of the same kind with the program's action in place. */
static sighandler_t change_handler(sighandler_t (*function)(int signal, sighandler_t handler), int signal,
                                   sighandler_t handler) {
	struct action_change change;
	if (!action_is_kept(signal)) return action_hide_handler(signal, function(signal, handler));
	action_open(signal, &change);
	const sighandler_t earlier = function(signal, handler);
	action_close(signal, &change);
	return earlier;
}

EXPORT sighandler_t signal(int signal, sighandler_t handler) {
	return change_handler(NEXT(signal), signal, handler);
}
EXPORT sighandler_t bsd_signal(int signal, sighandler_t handler)
    __attribute__((alias("signal"), nothrow, leaf));
EXPORT sighandler_t ssignal(int signal, sighandler_t handler) __attribute__((alias("signal"), nothrow, leaf));

EXPORT sighandler_t __sysv_signal(int signal, sighandler_t handler) {
	return change_handler(NEXT(sysv_signal), signal, handler);
}
EXPORT sighandler_t sysv_signal(int signal, sighandler_t handler)
    __attribute__((alias("__sysv_signal"), nothrow, leaf));

/* It changes what the thread blocks as well, which nothing may undo. SIG_HOLD only blocks the signal; any
 * other handler unblocks it. */
EXPORT sighandler_t sigset(int signal, sighandler_t handler) {
	if (!action_is_kept(signal)) return action_hide_handler(signal, NEXT(sigset)(signal, handler));
	sigset_t own, before;
	struct sigaction action = { .sa_handler = handler }, earlier;
	const bool hold = handler == SIG_HOLD;
	sigemptyset(&own);
	sigaddset(&own, signal);
	if (hold && sigprocmask(SIG_BLOCK, &own, &before) != 0) return SIG_ERR;
	if (sigaction(signal, hold ? NULL : &action, &earlier) != 0) return SIG_ERR;
	if (!hold && sigprocmask(SIG_UNBLOCK, &own, &before) != 0) return SIG_ERR;
	return sigismember(&before, signal) ? SIG_HOLD : earlier.sa_handler;
}

static int change_in_another_way(int (*function)(int signal, int interrupt), int (*ignore)(int signal),
                                 int signal, int interrupt) {
	const bool kept = action_is_kept(signal);
	struct action_change change;
	if (kept) action_open(signal, &change);
	const int result = function != NULL ? function(signal, interrupt) : ignore(signal);
	if (kept) action_close(signal, &change);
	return result;
}

EXPORT int sigignore(int signal) { return change_in_another_way(NULL, NEXT(sigignore), signal, 0); }
EXPORT int siginterrupt(int signal, int interrupt) {
	return change_in_another_way(NEXT(siginterrupt), NULL, signal, interrupt);
}

#ifdef __GLIBC__
/* No header has it any more, but libc has the function, for old programs; it can only be asked for by the
 * version of the symbol, which each machine has another one of. */
struct sigvec {
	sighandler_t handler;
	int mask; /* of the first 32 signals */
	int flags;
};
enum { SIGVEC_ONSTACK = 1, SIGVEC_INTERRUPT = 2, SIGVEC_RESETHAND = 4 };

EXPORT int sigvec(int signal, const struct sigvec *vector, struct sigvec *earlier) {
	struct sigaction action = { 0 }, before;
	if (vector != NULL) {
		action.sa_handler = vector->handler;
		action.sa_mask.__val[0] = (unsigned)vector->mask;
		action.sa_flags = (vector->flags & SIGVEC_ONSTACK ? SA_ONSTACK : 0) |
		                  (vector->flags & SIGVEC_INTERRUPT ? 0 : SA_RESTART) |
		                  (vector->flags & SIGVEC_RESETHAND ? (int)SA_RESETHAND : 0);
	}
	if (sigaction(signal, vector != NULL ? &action : NULL, &before) != 0) return -1;
	if (earlier == NULL) return 0;
	earlier->handler = before.sa_handler;
	earlier->mask = (int)before.sa_mask.__val[0];
	earlier->flags = (before.sa_flags & SA_ONSTACK ? SIGVEC_ONSTACK : 0) |
	                 (before.sa_flags & SA_RESTART ? 0 : SIGVEC_INTERRUPT) |
	                 (before.sa_flags & (int)SA_RESETHAND ? SIGVEC_RESETHAND : 0);
	return 0;
}
#endif
