#include "harden/action.h"

#include <stdatomic.h>
#include <ucontext.h>

#include "base/lock.h"
#include "base/os.h"
#include "harden/own_signal.h"

typedef void handler_function(int signal, siginfo_t *info, void *context);

/* What the program asked for: handler and flags are read by our handler, at any moment; what one thread sees
 * of a change that another one makes may be half of it, as with the kernel one may be early or late. Written
 * under the lock. */
static struct kept {
	_Atomic uintptr_t handler;
	_Atomic int flags; /* as the kernel shows them */
	sigset_t mask;     /* as the kernel shows it. Owner: lock, as of the rest */
	void (*restorer)(void);
	unsigned changes; /* threads that are changing it */
	bool lifted;      /* for them, the kernel's was taken away and is to be put back */
} kept_segv, kept_bus;

/* Taken with all signals blocked, for handlers ask for actions. fork does not take it: the child repairs what
 * it finds. */
static struct lock changing;

static _Atomic bool installed;
static void (*_Atomic look_at_fault)(siginfo_t *info, void *context);
static bool (*_Atomic mend_fault)(const siginfo_t *info);

/* A child by vfork has this memory, and actions of its own: nothing of what it asks for is kept. Nor is it in
 * a child by clone or _Fork, which cannot be told from one. */
static _Atomic int owner; /* process ID */
static bool is_owner(void) { return atomic_load_explicit(&owner, memory_order_relaxed) == os_process_id(); }

static struct kept *kept_of(int signal) {
	return signal == SIGSEGV ? &kept_segv : signal == SIGBUS ? &kept_bus : NULL;
}

static struct sigaction as_asked(const struct kept *k) {
	return (struct sigaction){ .sa_handler = (sighandler_t)atomic_load(&k->handler),
		                       .sa_flags = atomic_load(&k->flags),
		                       .sa_mask = k->mask,
		                       .sa_restorer = k->restorer };
}

/* ---- the handler ---- */

/* linux/signal.h has it, which cannot be included beside libc's. */
#ifndef SEGV_MTEAERR
#define SEGV_MTEAERR 8
#endif

/* Would the instruction be tried again, and fail again, if the handler returned? Not when somebody sent the
 * signal, nor when the machine tells late of a wrong tag, or early of broken memory. */
static bool comes_again(int signal, const siginfo_t *info) {
	return info->si_code > 0 && info->si_code != (signal == SIGBUS ? BUS_MCEERR_AO : SEGV_MTEAERR);
}

static bool set_default(int signal) {
	const struct sigaction action = { .sa_handler = SIG_DFL };
	return os_signal_action(signal, &action, NULL);
}

/* The program ends as without us, and the core tells who sent the signal, or which instruction failed. */
static COLD void die(int signal, siginfo_t *info, ucontext_t *context) {
	const bool again = comes_again(signal, info);
	if (set_default(signal)) {
		if (!again) os_send_again(signal, info);
	} else if (again) {
		sigaddset(&context->uc_sigmask, signal); /* a sandbox refuses: a fault whose signal is blocked ends
		                                            the program, too */
	} else {
		os_abort();
	}
}

/* SA_RESETHAND: who gets the handler is the last one. Returns the handler for this fault. */
static NOINLINE uintptr_t take_once(int signal, struct kept *k, uintptr_t handler) {
	if (!is_owner()) {
		struct sigaction action = as_asked(k);
		action.sa_handler = SIG_DFL;
		os_signal_restore(signal, &action);
		return handler;
	}
	return atomic_compare_exchange_strong(&k->handler, &handler, (uintptr_t)SIG_DFL) ? handler
	                                                                                 : (uintptr_t)SIG_DFL;
}

/* Goes on by a jump also where that is not what the compiler does anyway (in debug builds), so that the
 * program's handler returns to where the kernel wanted it to. */
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("optimize-sibling-calls")))
#endif
static void
on_fault(int signal, siginfo_t *info, void *context) {
	struct kept *k = signal == SIGSEGV ? &kept_segv : &kept_bus;
	bool (*mend)(const siginfo_t *) = mend_fault;
	if (unlikely(mend != NULL) && mend(info)) return;
	void (*look)(siginfo_t *, void *) = look_at_fault;
	if (likely(look != NULL)) look(info, context);
	uintptr_t handler = atomic_load_explicit(&k->handler, memory_order_relaxed);
	if (handler != (uintptr_t)SIG_DFL && handler != (uintptr_t)SIG_IGN &&
	    (atomic_load(&k->flags) & (int)SA_RESETHAND) != 0)
		handler = take_once(signal, k, handler);
	if (handler == (uintptr_t)SIG_IGN && !comes_again(signal, info)) return;
	if (handler == (uintptr_t)SIG_DFL || handler == (uintptr_t)SIG_IGN)
		die(signal, info, context);
	else /* the kernel gives all three to handlers of one argument, too */
		((handler_function *)handler)(signal, info, context);
}

static bool is_on_fault(const struct sigaction *action) { return action->sa_sigaction == on_fault; }

/* ---- changes ---- */

static void enter(sigset_t *mask) {
	sigset_t all;
	sigfillset(&all);
	os_signal_mask(SIG_SETMASK, &all, mask);
	lock_take(&changing, RANK_SIGNAL);
}

static void leave(const sigset_t *mask) {
	lock_drop(&changing, RANK_SIGNAL);
	os_signal_mask(SIG_SETMASK, mask, NULL);
}

/* The kernel's action for what the program asked for. */
static struct sigaction wrap(const struct sigaction *asked) {
	struct sigaction ours = *asked;
	ours.sa_sigaction = on_fault;
	ours.sa_flags = (asked->sa_flags & ~(int)SA_RESETHAND) | SA_SIGINFO;
	/* Room to report a fault that left none; and what is sent again must wait until the handler is
	 * through. */
	if (asked->sa_handler == SIG_DFL) ours.sa_flags = (ours.sa_flags | SA_ONSTACK) & ~SA_NODEFER;
	return ours;
}

/* Keeps the action, and gives the kernel ours. First the one, for our handler may run as soon as the kernel
 * has it. */
static bool put(int signal, struct kept *k, const struct sigaction *asked, struct sigaction *replaced) {
	const struct sigaction ours = wrap(asked);
	k->mask = asked->sa_mask;
	k->restorer = asked->sa_restorer;
	atomic_store(&k->flags, asked->sa_flags);
	atomic_store(&k->handler, (uintptr_t)asked->sa_handler);
	/* An ignored signal interrupts nobody: the kernel has to ignore it, and does. */
	if (asked->sa_handler == SIG_IGN) return *replaced = *asked, true;
	return os_signal_action(signal, &ours, replaced);
}

/* Does the kernel have what we gave it? */
static bool is_ours(const struct kept *k, const struct sigaction *kernels) {
	return is_on_fault(kernels) ||
	       (kernels->sa_handler == SIG_IGN && atomic_load(&k->handler) == (uintptr_t)SIG_IGN);
}

/* Puts our action over the kernel's. Somebody may be talking to the kernel without us: what was asked for
 * last is not lost. */
static void install(int signal, struct kept *k) {
	struct sigaction asked, replaced;
	if (!os_signal_ask(signal, &asked)) return;
	while (!is_on_fault(&asked) && put(signal, k, &asked, &replaced)) {
		if (replaced.sa_handler == asked.sa_handler && replaced.sa_flags == asked.sa_flags) return;
		asked = replaced;
	}
}

static void install_both(void) {
	sigset_t mask;
	enter(&mask);
	atomic_store(&owner, os_process_id());
	if (!atomic_load(&installed)) {
		install(SIGSEGV, &kept_segv);
		install(SIGBUS, &kept_bus);
	}
	atomic_store_explicit(&installed, true, memory_order_release);
	leave(&mask);
}

void action_install(void (*look)(siginfo_t *info, void *context)) {
	look_at_fault = look;
	install_both();
}

void action_install_mending(bool (*mend)(const siginfo_t *info)) {
	mend_fault = mend;
	install_both();
}

bool action_is_kept(int signal) {
	return kept_of(signal) != NULL && atomic_load_explicit(&installed, memory_order_acquire);
}

/* Gives the kernel the program's action instead of ours. False when it has none of ours. */
static bool lift(int signal, const struct kept *k) {
	struct sigaction kernels;
	if (!os_signal_ask(signal, &kernels) || !is_ours(k, &kernels)) return false;
	const struct sigaction asked = as_asked(k);
	return os_signal_restore(signal, &asked);
}

/* A child by vfork takes no lock, which it would leave behind if it were killed. */
void action_open(int signal, struct action_change *change) {
	struct kept *k = kept_of(signal);
	if (is_owner()) {
		enter(&change->mask);
		if (k->changes++ == 0) k->lifted = lift(signal, k);
		lock_drop(&changing, RANK_SIGNAL);
	} else {
		lift(signal, k);
		os_signal_mask(SIG_BLOCK, NULL, &change->mask);
	}
}

void action_close(int signal, const struct action_change *change) {
	struct kept *k = kept_of(signal);
	if (is_owner()) {
		lock_take(&changing, RANK_SIGNAL);
		if (--k->changes == 0 && k->lifted) install(signal, k);
		lock_drop(&changing, RANK_SIGNAL);
	}
	os_signal_mask(SIG_SETMASK, &change->mask, NULL);
}

void action_hide(int signal, struct sigaction *shown) {
	const struct kept *k = kept_of(signal);
	sigset_t mask;
	own_signal_hide(shown);
	if (k == NULL || !is_on_fault(shown)) return;
	const bool own = is_owner();
	if (own) enter(&mask);
	*shown = as_asked(k);
	if (own) leave(&mask);
}

sighandler_t action_hide_handler(int signal, sighandler_t shown) {
	struct sigaction action = { .sa_handler = shown };
	action_hide(signal, &action);
	return action.sa_handler;
}

/* Who was in the middle of a change is not there any more. */
static void repair(int signal, struct kept *k) {
	if (k->changes > 0 && k->lifted) install(signal, k);
	k->changes = 0;
}

void action_after_fork(void) {
	changing = (struct lock){ 0 };
	atomic_store(&owner, os_process_id());
	if (!atomic_load(&installed)) return;
	repair(SIGSEGV, &kept_segv);
	repair(SIGBUS, &kept_bus);
}
