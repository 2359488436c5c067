#include "harden/action.h"

#include <errno.h>
#include <stdatomic.h>
#include <ucontext.h>

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

/* Taken with all signals blocked, for handlers call sigaction. */
static struct lock changing;

static _Atomic bool installed;
static bool staying_out; /* written once, at start-up */
static int owner; /* process ID: a child by vfork has this memory, and actions of its own */
static void (*look_at_fault)(siginfo_t *info, void *context);

/* The flags that ours has in its own way. */
#define OWN_FLAGS (SA_SIGINFO | SA_ONSTACK | SA_NODEFER | (int)SA_RESETHAND)

static struct kept *kept_of(int signal) { return signal == SIGSEGV ? &kept_segv : signal == SIGBUS ? &kept_bus : NULL; }

/* ---- the handler ---- */

/* Would the instruction be tried again, and fail again, if the handler returned? Not when somebody sent the signal, nor when the
 * machine tells of broken memory that nobody needs now. */
static bool comes_again(int signal, const siginfo_t *info) {
	return info->si_code > 0 && !(signal == SIGBUS && info->si_code == BUS_MCEERR_AO);
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
		sigaddset(&context->uc_sigmask, signal); /* a sandbox refuses: a fault whose signal is blocked ends the program, too */
	} else {
		os_abort();
	}
}

/* SA_RESETHAND: who gets the handler is the last one. Returns the handler for this fault. A child by vfork takes it from itself alone. */
static NOINLINE uintptr_t take_once(int signal, struct kept *k, uintptr_t handler) {
	if (owner != os_process_id()) {
		set_default(signal);
		return handler;
	}
	return atomic_compare_exchange_strong(&k->handler, &handler, (uintptr_t)SIG_DFL) ? handler : (uintptr_t)SIG_DFL;
}

static void on_fault(int signal, siginfo_t *info, void *context) {
	struct kept *k = signal == SIGSEGV ? &kept_segv : &kept_bus;
	look_at_fault(info, context);
	uintptr_t handler = atomic_load_explicit(&k->handler, memory_order_relaxed);
	if (handler != (uintptr_t)SIG_DFL && handler != (uintptr_t)SIG_IGN && (atomic_load(&k->flags) & (int)SA_RESETHAND) != 0)
		handler = take_once(signal, k, handler);
	if (handler == (uintptr_t)SIG_IGN && !comes_again(signal, info)) return;
	if (handler == (uintptr_t)SIG_DFL || handler == (uintptr_t)SIG_IGN)
		die(signal, info, context);
	else
		((handler_function *)handler)(signal, info, context); /* the kernel gives all three to handlers of one, too */
}

/* ---- changes; all under the lock ---- */

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

/* Gives the kernel our action, and keeps the program's as the kernel would have shown it: what it made of ours tells. */
static bool put(int signal, struct kept *k, const struct sigaction *asked) {
	struct sigaction ours = wrap(asked), shown;
	const uintptr_t handler = atomic_load(&k->handler);
	const int flags = atomic_load(&k->flags);
	/* First, for the handler may run as soon as the kernel has it. */
	atomic_store(&k->flags, asked->sa_flags);
	atomic_store(&k->handler, (uintptr_t)asked->sa_handler);
	if (!os_signal_action(signal, &ours, NULL) || !os_signal_action(signal, NULL, &shown)) {
		atomic_store(&k->handler, handler);
		atomic_store(&k->flags, flags);
		return false;
	}
	atomic_store(&k->flags, (shown.sa_flags & ~OWN_FLAGS) | (asked->sa_flags & OWN_FLAGS));
	k->mask = shown.sa_mask;
	k->restorer = shown.sa_restorer;
	return true;
}

static struct sigaction as_asked(const struct kept *k) {
	return (struct sigaction){ .sa_handler = (__sighandler_t)atomic_load(&k->handler), .sa_flags = atomic_load(&k->flags),
		                       .sa_mask = k->mask, .sa_restorer = k->restorer };
}

/* Does the kernel have what we gave it? */
static bool is_ours(const struct kept *k, const struct sigaction *kernels) {
	return kernels->sa_sigaction == on_fault ||
	       (kernels->sa_handler == SIG_IGN && atomic_load(&k->handler) == (uintptr_t)SIG_IGN);
}

static void install(int signal) {
	struct sigaction asked;
	if (os_signal_action(signal, NULL, &asked)) put(signal, kept_of(signal), &asked);
}

void action_stay_out(void) { staying_out = true; }

void action_install(void (*look)(siginfo_t *info, void *context)) {
	if (staying_out) return;
	const struct critical c = enter();
	look_at_fault = look;
	owner = os_process_id();
	install(SIGSEGV);
	install(SIGBUS);
	atomic_store_explicit(&installed, true, memory_order_release);
	leave(&c);
}

bool action_is_kept(int signal) {
	return kept_of(signal) != NULL && atomic_load_explicit(&installed, memory_order_acquire);
}

int action_change(int signal, const struct sigaction *action, struct sigaction *earlier) {
	struct kept *k = kept_of(signal);
	struct sigaction asked, before;
	if (action != NULL) asked = *action; /* they may be one and the same */
	const struct critical c = enter();
	bool done = os_signal_action(signal, NULL, &before);
	if (done && is_ours(k, &before)) {
		before = as_asked(k);
		if (action != NULL) done = owner == os_process_id() ? put(signal, k, &asked) : os_signal_action(signal, &asked, NULL);
	} else if (done && action != NULL) {
		done = os_signal_action(signal, &asked, NULL);
	}
	leave(&c);
	if (done && earlier != NULL) *earlier = before;
	return done ? 0 : EINVAL;
}

void action_set_restart(int signal, bool restart) {
	struct kept *k = kept_of(signal);
	if (owner != os_process_id()) return;
	const struct critical c = enter();
	const int flags = atomic_load(&k->flags);
	atomic_store(&k->flags, restart ? flags | SA_RESTART : flags & ~SA_RESTART);
	leave(&c);
}

void action_after_fork(void) {
	changing = (struct lock){ 0 }; /* somebody else's, perhaps: who was in the middle of a change has made it, or has not */
	owner = os_process_id();
}
