#include "base/gate.h"

#include "base/lock.h"

/* The word: is it closed, does anybody wait for it to open, and how many are inside. */
#define CLOSED 1u
#define AWAITED 2u
#define ONE_INSIDE 4u

/* Milliseconds: who has waited so long asks whether he waits for threads that are not there. Less would do
 * harm in the child of a vfork, which has another number, and its parent's memory. */
#define PATIENCE 1000

static _Atomic uint32_t word;
/* whose threads are counted: a child by clone, which no handler hears of, has none of them */
static _Atomic int process; /* 0: not known */
/* how often the thread has entered */
static __thread __attribute__((tls_model("initial-exec"))) uint32_t depth;

bool gate_try_enter(void) {
	/* First, so that a signal's handler that forks in between does not wait for its own thread. */
	if (depth++ > 0) return true;
	uint32_t now = atomic_load_explicit(&word, memory_order_relaxed);
	while ((now & CLOSED) == 0)
		if (atomic_compare_exchange_weak_explicit(&word, &now, now + ONE_INSIDE, memory_order_acquire,
		                                          memory_order_relaxed))
			return true;
	depth--;
	return false;
}

void gate_leave(void) {
	if (depth > 1) {
		depth--;
		return;
	}
	if (atomic_fetch_sub_explicit(&word, ONE_INSIDE, memory_order_release) & CLOSED)
		os_futex_wake_all((uint32_t *)&word);
	depth = 0;
}

/* Sleeps until the word is another one; not for ever in a process whose threads it does not count. */
static void wait(uint32_t seen) {
	os_futex_wait_for((uint32_t *)&word, seen, PATIENCE);
	const int own = os_process_id();
	if (atomic_load(&word) != seen || atomic_load(&process) == own) return;
	atomic_store(&process, own);
	atomic_store(&word, depth > 0 ? ONE_INSIDE : 0);
}

/* Waits for the one who has closed it. */
static void await_opening(uint32_t seen) {
	if ((seen & AWAITED) == 0 && !atomic_compare_exchange_strong(&word, &seen, seen | AWAITED)) return;
	wait(seen | AWAITED);
}

void gate_enter(void) {
	lock_check_none();
	while (!gate_try_enter()) {
		if (unlikely(lock_is_ignored())) {
			depth = 1;
			atomic_fetch_add(&word, ONE_INSIDE);
			return;
		}
		const uint32_t now = atomic_load(&word);
		if (now & CLOSED) await_opening(now);
	}
}

void gate_close(void) {
	const uint32_t own = depth > 0;
	uint32_t now = atomic_load(&word);
	for (;;) {
		if (now & CLOSED)
			await_opening(now);
		else if (atomic_compare_exchange_strong(&word, &now, now | CLOSED))
			break;
		now = atomic_load(&word);
	}
	while ((now = atomic_load_explicit(&word, memory_order_acquire)) / ONE_INSIDE > own) {
		wait(now);
		/* What it counted were threads of another process. */
		if ((atomic_load(&word) & CLOSED) == 0) atomic_fetch_or(&word, CLOSED);
	}
}

void gate_open(void) {
	if (atomic_fetch_and_explicit(&word, ~(CLOSED | AWAITED), memory_order_release) & AWAITED)
		os_futex_wake_all((uint32_t *)&word);
}

void gate_open_in_child(void) {
	atomic_store(&process, os_process_id());
	atomic_store(&word, depth > 0 ? ONE_INSIDE : 0);
}

void gate_start(void) { atomic_store(&process, os_process_id()); }
