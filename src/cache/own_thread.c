#include "cache/own_thread.h"

#include <errno.h>
#include <signal.h>

#include "base/cpus.h"
#include "base/libc.h"
#include "base/os.h"
#include "base/process.h"
#include "base/sandbox.h"

/* Room for the handlers of exit, which the last thread of a process runs. */
#define STACK (512 * KIB)
#define STACK_MOST (16 * MIB)

/* Milliseconds after which a thread that shall end is woken again: it may have been just about to fall
 * asleep. */
#define IMPATIENCE 5

/* Milliseconds that a call waits for all of them at most: the caller may be the handler of a signal that
 * came while its thread held a lock which they want. */
#define PATIENCE 2000

/* Milliseconds without them after such a call: a program that makes one after the other is not to end a
 * thread each time. */
#define PAUSE 100

enum state {
	ABSENT,
	STARTING,
	PRESENT = OWN_PRESENT,
	LEFT,    /* it ended by itself, and is about to be gone */
	TOLD,    /* it shall end, and somebody has to join it */
	JOINING, /* and somebody does */
};

static struct own_thread *_Atomic all;
static _Atomic int home;               /* process ID: a child by vfork has our memory, but not our threads */
static _Atomic uint32_t standing_back; /* calls that want to see no thread of ours */
static _Atomic bool for_ever;
static _Atomic uint64_t not_before; /* milliseconds */
static _Atomic bool ended_one;      /* since the last time that somebody let them return */
/* A thread of the program asked for securebits of its own, which others cannot see. */
static _Atomic bool may_differ;

/* The calling thread, if it is one of ours. */
static __thread struct own_thread *own __attribute__((tls_model("initial-exec")));

static bool change(struct own_thread *t, uint32_t from, uint32_t to) {
	return atomic_compare_exchange_strong(&t->state, &from, to);
}

static void settle(struct own_thread *t, uint32_t state) {
	atomic_store(&t->state, state);
	os_futex_wake_all((uint32_t *)&t->state);
}

static void *run(void *thread) {
	struct own_thread *t = own = thread;
	atomic_store(&t->id, os_thread_id());
	os_thread_rename(t->name);
	os_schedule_as_process();
	cpus_use_all();
	while (atomic_load(&t->state) == STARTING) os_futex_wait((uint32_t *)&t->state, STARTING);
	t->body();
	atomic_store(&t->left_at, os_milliseconds());
	if (change(t, PRESENT, LEFT)) {
		libc.pthread_detach(pthread_self());
	} else {
		atomic_store(&t->over, 1);
		os_futex_wake_all((uint32_t *)&t->over);
	}
	return NULL;
}

static bool create(struct own_thread *t) {
	pthread_attr_t attributes;
	if (libc.pthread_attr_init(&attributes) != 0) return false;
	libc.pthread_attr_setstacksize(&attributes, STACK);
	int error = libc.pthread_create(&t->handle, &attributes, run, t);
	/* Thread-local variables of the program's libraries may not fit. */
	if (error == EINVAL && libc.pthread_attr_setstacksize(&attributes, STACK_MOST) == 0)
		error = libc.pthread_create(&t->handle, &attributes, run, t);
	libc.pthread_attr_destroy(&attributes);
	return error == 0;
}

static void list(struct own_thread *t) {
	if (atomic_exchange(&t->listed, true)) return;
	t->next = atomic_load(&all);
	while (!atomic_compare_exchange_weak(&all, &t->next, t)) {
	}
}

/* Did it leave, and has left the kernel as well? Some time later, its number may be another thread's. */
static bool has_gone(const struct own_thread *t) {
	return os_milliseconds() >= atomic_load(&t->left_at) + PATIENCE || !os_has_thread(atomic_load(&t->id));
}

static enum own_start start(struct own_thread *t) {
	const uint32_t before = atomic_load(&t->state);
	if (before == LEFT ? !has_gone(t) : before != ABSENT) return OWN_NOT_NOW;
	if (!change(t, before, STARTING)) return OWN_NOT_NOW;
	/* In this order: who stands back says so first, and waits then for those who are starting one. */
	if (atomic_load(&standing_back) > 0 || atomic_load(&for_ever)) {
		settle(t, ABSENT);
		return OWN_NOT_NOW;
	}
	atomic_store(&t->over, 0);
	atomic_store(&t->id, 0);
	const bool created = create(t);
	settle(t, created ? PRESENT : ABSENT);
	return created ? OWN_STARTED : OWN_REFUSED;
}

/* No handler of a signal comes in between, that could want to see no thread of ours and wait for its own
 * one; nor is anything in here a cancellation point to the program. */
struct quiet {
	sigset_t signals;
	int error, cancelable;
};

static void be_quiet(struct quiet *before) {
	sigset_t all_signals;
	before->error = errno;
	sigfillset(&all_signals);
	os_signal_mask(SIG_SETMASK, &all_signals, &before->signals);
	libc.pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before->cancelable);
}

static void be_as_before(const struct quiet *before) {
	libc.pthread_setcancelstate(before->cancelable, NULL);
	os_signal_mask(SIG_SETMASK, &before->signals, NULL);
	errno = before->error;
}

enum own_start own_thread_start(struct own_thread *t) {
	if (sandbox_is_on() || !libc_has_threads()) return OWN_REFUSED;
	const int process = os_process_id();
	struct quiet before;
	/* Where one was started before, a child finds out that it is one; or it is one by vfork. */
	if (process != atomic_load(&home) && atomic_load(&all) != NULL) return OWN_NOT_NOW;
	atomic_store(&home, process);
	be_quiet(&before);
	list(t);
	const enum own_start started = start(t);
	be_as_before(&before);
	return started;
}

bool own_threads_know_process(void) { return os_process_id() == atomic_load(&home); }

bool own_threads_may_start(void) {
	return !sandbox_is_on() && atomic_load(&standing_back) == 0 && !atomic_load(&for_ever) &&
	       os_milliseconds() >= atomic_load(&not_before);
}

/* Joined, or left: the kernel takes some time more. */
static void await_gone(const struct own_thread *t, uint64_t until) {
	for (unsigned tries = 0; os_has_thread(atomic_load(&t->id)) && os_milliseconds() < until; tries++)
		os_pause(tries < 20 ? 0 : 50);
	os_pass_thread_list();
}

/* Waits until body has returned, and joins. The thread takes no lock any more by then. */
static bool join(struct own_thread *t, uint64_t until) {
	while (atomic_load(&t->over) == 0) {
		if (os_milliseconds() >= until) return false;
		if (t->wake != NULL) t->wake();
		os_futex_wait_for((uint32_t *)&t->over, 0, IMPATIENCE);
	}
	libc.pthread_join(t->handle, NULL);
	await_gone(t, until);
	return true;
}

/* Returns when it is gone, or the time is over. */
static void end(struct own_thread *t, uint64_t until) {
	while (t != own && os_milliseconds() < until) {
		const uint32_t state = atomic_load(&t->state);
		if (state == ABSENT) return;
		if (state == LEFT) {
			const uint64_t latest = atomic_load(&t->left_at) + PATIENCE;
			await_gone(t, latest < until ? latest : until);
			change(t, LEFT, ABSENT);
		} else if (state == PRESENT) {
			if (change(t, PRESENT, TOLD)) os_futex_wake_all((uint32_t *)&t->state);
		} else if (state == TOLD && change(t, TOLD, JOINING)) {
			const bool joined = join(t, until);
			atomic_store(&ended_one, true);
			if (joined && t->ended != NULL) t->ended();
			settle(t, joined ? ABSENT : TOLD);
		} else {
			os_futex_wait_for((uint32_t *)&t->state, state, IMPATIENCE);
		}
	}
}

void own_thread_end(struct own_thread *t) {
	struct quiet before;
	if (os_process_id() != atomic_load(&home)) return;
	be_quiet(&before);
	end(t, UINT64_MAX);
	be_as_before(&before);
}

bool own_threads_stand_back(void) {
	struct quiet before;
	const bool none = atomic_load(&all) == NULL;
	/* A child by vfork has our memory; one by clone may even have our number, in a namespace of its own,
	 * and has a word that was wiped. */
	if (os_process_id() != atomic_load(&home) || process_was_wiped()) return false;
	atomic_fetch_add(&standing_back, 1);
	/* Looked at again: who starts one lists it before it looks here. */
	if (none && atomic_load(&all) == NULL) return true;
	be_quiet(&before);
	const uint64_t until = os_milliseconds() + PATIENCE;
	for (struct own_thread *t = atomic_load(&all); t != NULL; t = t->next) end(t, until);
	be_as_before(&before);
	return true;
}

void own_threads_return(bool for_good) {
	uint32_t count = atomic_load(&standing_back);
	/* For good: a filter may end the process for the question what time it is. */
	if (for_good)
		atomic_store(&for_ever, true);
	else if (atomic_exchange(&ended_one, false)) /* who ends none does not hold up the next one either */
		atomic_store(&not_before, os_milliseconds() + PAUSE);
	/* It is 0 already in the child of a fork that was made meanwhile. */
	while (count > 0 && !atomic_compare_exchange_weak(&standing_back, &count, count - 1)) {
	}
}

void own_threads_may_differ(void) { atomic_store(&may_differ, true); }

bool own_threads_differ(void) {
	if (atomic_load(&may_differ)) return true;
	for (const struct own_thread *t = atomic_load(&all); t != NULL; t = t->next) {
		const uint32_t state = atomic_load(&t->state);
		const int id = atomic_load(&t->id);
		if (state != ABSENT && (state != PRESENT || id == 0 || !os_has_same_rights(id))) return true;
	}
	return false;
}

void own_threads_in_new_process(void) {
	for (struct own_thread *t = atomic_load(&all); t != NULL; t = t->next) atomic_store(&t->state, ABSENT);
	atomic_store(&standing_back, 0);
	atomic_store(&home, os_process_id());
}
