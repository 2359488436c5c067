#include "base/lock.h"

/* A critical section takes well under a microsecond: a short spin saves most system calls on several cores.
 * Longer spinning starves the owner when there are more threads than cores. */
#define SPINS 60

static inline void relax(void) {
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

_Atomic(void *) lock_ignored_by;

void lock_ignore_from_now_on(void) {
	atomic_store_explicit(&lock_ignored_by, __builtin_thread_pointer(), memory_order_relaxed);
}

void lock_heed_in_child(void) {
	if (!lock_is_ignored()) atomic_store_explicit(&lock_ignored_by, NULL, memory_order_relaxed);
}

static bool spin(struct lock *lock) {
	for (int i = 0; i < SPINS; i++) {
		uint32_t open = 0;
		if (atomic_load_explicit(&lock->state, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_weak_explicit(&lock->state, &open, 1, memory_order_seq_cst,
		                                          memory_order_relaxed))
			return true;
		relax();
	}
	return false;
}

struct lock_waits lock_waits;

void lock_wait(struct lock *lock) {
	if (lock_is_ignored() || spin(lock)) return;
	const uint64_t begin = os_stopwatch();
	while (atomic_exchange_explicit(&lock->state, 2, memory_order_seq_cst) != 0)
		os_futex_wait((uint32_t *)&lock->state, 2);
	atomic_fetch_add_explicit(&lock_waits.count, 1, memory_order_relaxed);
	os_stopwatch_ends(begin, &lock_waits.times);
}

/* ---- closed ranks ---- */

#define SOMEBODY_SLEEPS (1u << 31)
static_assert(RANKS < 31, "each rank has a bit");

_Atomic uint32_t lock_closed;

void lock_close(enum lock_rank rank) {
	atomic_fetch_or_explicit(&lock_closed, 1u << rank, memory_order_seq_cst);
}

void lock_open_all(void) {
	if (atomic_exchange_explicit(&lock_closed, 0, memory_order_release) & SOMEBODY_SLEEPS)
		os_futex_wake_all((uint32_t *)&lock_closed);
}

void lock_open_all_in_child(void) { atomic_store_explicit(&lock_closed, 0, memory_order_relaxed); }

void lock_wait_for_holder(struct lock *lock) {
	if (lock_is_ignored()) return;
	lock_wait(lock);
	lock_release(lock);
}

static void sleep_until_open(enum lock_rank rank) {
	uint32_t now;
	while ((now = atomic_load_explicit(&lock_closed, memory_order_acquire)) >> rank & 1) {
		const uint32_t marked = now | SOMEBODY_SLEEPS;
		if (now == marked || atomic_compare_exchange_strong(&lock_closed, &now, marked))
			os_futex_wait((uint32_t *)&lock_closed, marked);
	}
}

/* For who got a lock of a closed rank, and is in nobody's way while he waits. */
COLD void lock_back_off(struct lock *lock, enum lock_rank rank) {
	if (lock_is_ignored()) return;
	do {
		lock_release(lock);
		sleep_until_open(rank);
		if (!spin(lock)) lock_wait(lock);
	} while (lock_is_closed(rank));
}

#ifndef NDEBUG
/* One bit per rank that this thread holds. A rank may be taken again while it is the highest one; the
 * count of its locks says when the bit goes. */
static __thread __attribute__((tls_model("initial-exec"))) struct {
	uint32_t held;
	uint32_t count[RANKS];
} order;

static void lock_note(enum lock_rank rank) {
	order.held |= 1u << rank;
	order.count[rank]++;
}

void lock_check_order(enum lock_rank rank, bool take) {
	if (lock_is_ignored()) return;
	if (take) {
		assert((order.held >> rank) <= 1 && "a lock of a higher rank is held");
		lock_note(rank);
	} else {
		assert(order.count[rank] > 0 && "this lock is not held");
		if (--order.count[rank] == 0) {
			order.held &= ~(1u << rank);
			lock_hold_ends(rank);
		}
	}
}

void lock_check_none(void) {
	assert((lock_is_ignored() || (order.held & ~(1u << RANK_INIT)) == 0) &&
	       "a fork may wait for a lock of those who wait");
}
#else
static void lock_note(enum lock_rank rank) { (void)rank; }
#endif

bool lock_try(struct lock *lock, enum lock_rank rank) {
	if (lock_is_ignored()) return true;
	if (!spin(lock)) return false;
	if (lock_is_closed(rank)) {
		lock_release(lock);
		return false;
	}
	lock_note(rank);
	lock_hold_begins(rank);
	return true;
}
