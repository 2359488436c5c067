#include "harden/action.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/os.h"

typedef void handler_function(int signal, siginfo_t *info, void *context);

/* What the program asked for: handler and flags are read by our handler, at any moment; what one thread sees of a change that another
 * one makes may be half of it, as with the kernel one may be early or late. Written under the lock. */
static struct kept {
	_Atomic uintptr_t handler;
	_Atomic int flags; /* as the kernel would show them */
	sigset_t mask;     /* likewise. Owner: lock */
	void (*restorer)(void);
} kept_segv, kept_bus;

/* Taken with all signals blocked, for handlers call sigaction. fork does not take it: the child repairs. */
static struct lock changing;

static _Atomic bool installed;
static void (*look_at_fault)(siginfo_t *info, void *context);

/* A child by vfork has this memory, and actions of its own: nothing of what it asks for is kept. Nor is it in a child by clone
 * or _Fork, which cannot be told from one. */
static _Atomic int owner; /* process ID */
static bool is_owner(void) { return atomic_load_explicit(&owner, memory_order_relaxed) == os_process_id(); }

/* The flags that ours has in its own way. */
#define OWN_FLAGS (SA_SIGINFO | SA_ONSTACK | SA_NODEFER | (int)SA_RESETHAND)

static struct kept *kept_of(int signal) { return signal == SIGSEGV ? &kept_segv : signal == SIGBUS ? &kept_bus : NULL; }

static struct sigaction as_asked(const struct kept *k) {
	return (struct sigaction){ .sa_handler = (__sighandler_t)atomic_load(&k->handler), .sa_flags = atomic_load(&k->flags),
		                       .sa_mask = k->mask, .sa_restorer = k->restorer };
}

/* ---- the handler ---- */

/* linux/signal.h has it, which cannot be included beside libc's. */
#ifndef SEGV_MTEAERR
#define SEGV_MTEAERR 8
#endif

/* Would the instruction be tried again, and fail again, if the handler returned? Not when somebody sent the signal, nor when the
 * machine tells late of a wrong tag, or early of broken memory. */
static bool comes_again(int signal, const siginfo_t *info) {
	return info->si_code > 0 && info->si_code != (signal == SIGBUS ? BUS_MCEERR_AO : SEGV_MTEAERR);
}

/* The program ends as without us, and the core tells who sent the signal, or which instruction failed. */
static COLD void die(int signal, siginfo_t *info) {
	struct sigaction action = { .sa_handler = SIG_DFL };
	os_signal_action(signal, &action, NULL);
	if (!comes_again(signal, info)) os_send_again(signal, info);
}

/* SA_RESETHAND: who gets the handler is the last one. Returns the handler for this fault. */
static NOINLINE uintptr_t take_once(int signal, struct kept *k, uintptr_t handler) {
	if (!is_owner()) {
		struct sigaction action = as_asked(k);
		action.sa_handler = SIG_DFL;
		os_signal_action(signal, &action, NULL);
		return handler;
	}
	return atomic_compare_exchange_strong(&k->handler, &handler, (uintptr_t)SIG_DFL) ? handler : (uintptr_t)SIG_DFL;
}

/* Goes on by a jump also where that is not what the compiler does anyway (in debug builds), so that the program's handler returns to
 * where the kernel wanted it to. */
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("optimize-sibling-calls")))
#endif
static void on_fault(int signal, siginfo_t *info, void *context) {
	struct kept *k = signal == SIGSEGV ? &kept_segv : &kept_bus;
	look_at_fault(info, context);
	uintptr_t handler = atomic_load_explicit(&k->handler, memory_order_relaxed);
	if (handler != (uintptr_t)SIG_DFL && handler != (uintptr_t)SIG_IGN && (atomic_load(&k->flags) & (int)SA_RESETHAND) != 0)
		handler = take_once(signal, k, handler);
	if (handler == (uintptr_t)SIG_IGN && !comes_again(signal, info)) return;
	if (handler == (uintptr_t)SIG_DFL || handler == (uintptr_t)SIG_IGN)
		die(signal, info);
	else
		((handler_function *)handler)(signal, info, context); /* the kernel gives all three to handlers of one, too */
}

static bool is_on_fault(const struct sigaction *action) { return action->sa_sigaction == on_fault; }

/* ---- changes ---- */

struct critical {
	sigset_t before;
};

static struct critical enter(void) {
	struct critical c;
	sigset_t all;
	sigfillset(&all);
	os_signal_mask(SIG_SETMASK, &all, &c.before);
	lock_take(&changing, RANK_SIGNAL);
	return c;
}

static void leave(const struct critical *c) {
	lock_drop(&changing, RANK_SIGNAL);
	os_signal_mask(SIG_SETMASK, &c->before, NULL);
}

/* The kernel's action for what the program asked for. An ignored signal interrupts nobody: the kernel has to ignore it. */
static struct sigaction wrap(const struct sigaction *asked) {
	struct sigaction ours = *asked;
	if (asked->sa_handler == SIG_IGN) return ours;
	ours.sa_sigaction = on_fault;
	ours.sa_flags = (asked->sa_flags & ~(int)SA_RESETHAND) | SA_SIGINFO;
	/* Room to report a fault that left none; and what is sent again must wait until the handler is through. */
	if (asked->sa_handler == SIG_DFL) ours.sa_flags = (ours.sa_flags | SA_ONSTACK) & ~SA_NODEFER;
	return ours;
}

static void keep(struct kept *k, const struct sigaction *asked) {
	k->mask = asked->sa_mask;
	k->restorer = asked->sa_restorer;
	atomic_store(&k->flags, asked->sa_flags);
	atomic_store(&k->handler, (uintptr_t)asked->sa_handler);
}

/* Keeps the action, and gives the kernel ours. First the one, for our handler may run as soon as the kernel has it. `replaced`: what the
 * kernel had. Under the lock. */
static bool put(int signal, struct kept *k, const struct sigaction *asked, struct sigaction *replaced) {
	const struct sigaction ours = wrap(asked), before = as_asked(k);
	keep(k, asked);
	const bool done = os_signal_action(signal, &ours, replaced);
	if (!done) keep(k, &before);
	return done;
}

/* The same for what the program asks for. It is kept as the kernel would show it: what the kernel made of ours tells. */
static bool set(int signal, struct kept *k, const struct sigaction *asked) {
	struct sigaction shown;
	if (!put(signal, k, asked, NULL)) return false;
	if (!os_signal_action(signal, NULL, &shown)) return true;
	k->mask = shown.sa_mask;
	k->restorer = shown.sa_restorer;
	atomic_store(&k->flags, (shown.sa_flags & ~OWN_FLAGS) | (asked->sa_flags & OWN_FLAGS));
	return true;
}

/* Does the kernel have what we gave it? */
static bool is_ours(const struct kept *k, const struct sigaction *kernels) {
	return is_on_fault(kernels) || (kernels->sa_handler == SIG_IGN && atomic_load(&k->handler) == (uintptr_t)SIG_IGN);
}

/* Until now the program's threads talk to the kernel without us: what one of them asked for last is not lost. */
static void install(int signal) {
	struct sigaction asked, replaced;
	struct kept *k = kept_of(signal);
	if (!os_signal_action(signal, NULL, &asked) || !put(signal, k, &asked, &replaced)) return;
	while (!is_ours(k, &replaced) && (replaced.sa_handler != asked.sa_handler || replaced.sa_flags != asked.sa_flags)) {
		asked = replaced;
		if (!put(signal, k, &asked, &replaced)) return;
	}
}

void action_install(void (*look)(siginfo_t *info, void *context)) {
	const struct critical c = enter();
	look_at_fault = look;
	atomic_store(&owner, os_process_id());
	install(SIGSEGV);
	install(SIGBUS);
	atomic_store_explicit(&installed, true, memory_order_release);
	leave(&c);
}

bool action_is_kept(int signal) {
	return kept_of(signal) != NULL && atomic_load_explicit(&installed, memory_order_acquire);
}

/* In the owner under the lock; a child by vfork has one thread, and must not leave a lock held if it is killed. */
static bool change(int signal, struct kept *k, const struct sigaction *action, struct sigaction *before, bool own) {
	if (!os_signal_action(signal, NULL, before)) return false;
	const bool ours = is_ours(k, before);
	if (ours) *before = as_asked(k);
	if (action == NULL) return true;
	/* Ours, given back by somebody who had it from the kernel himself: as if it had never been away. */
	const bool back = is_on_fault(action);
	const struct sigaction asked = back ? as_asked(k) : *action;
	return own && (ours || back) ? set(signal, k, &asked) : os_signal_action(signal, &asked, NULL);
}

int action_change(int signal, const struct sigaction *action, struct sigaction *earlier) {
	struct sigaction asked, before;
	const bool own = is_owner();
	if (action != NULL) asked = *action; /* not under the lock: it may be no address. And both may be the same */
	const struct critical c = own ? enter() : (struct critical){ 0 };
	const bool done = change(signal, kept_of(signal), action != NULL ? &asked : NULL, &before, own);
	if (own) leave(&c);
	if (done && earlier != NULL) *earlier = before;
	return done ? 0 : EINVAL;
}

void action_hide(int signal, struct sigaction *shown) {
	const struct kept *k = kept_of(signal);
	if (k != NULL && is_on_fault(shown)) *shown = as_asked(k);
}

__sighandler_t action_hide_handler(int signal, __sighandler_t shown) {
	struct sigaction action = { .sa_handler = shown };
	action_hide(signal, &action);
	return action.sa_handler;
}

/* Who was in the middle of a change has made it: if it is kept, the kernel gets it. */
static void repair(int signal) {
	struct sigaction kernels;
	struct kept *k = kept_of(signal);
	if (!os_signal_action(signal, NULL, &kernels) || !is_ours(k, &kernels)) return;
	const struct sigaction asked = as_asked(k);
	put(signal, k, &asked, NULL);
}

void action_after_fork(void) {
	const bool amid = atomic_load(&changing.state) != 0;
	changing = (struct lock){ 0 };
	atomic_store(&owner, os_process_id());
	if (amid && atomic_load(&installed)) {
		repair(SIGSEGV);
		repair(SIGBUS);
	}
}
