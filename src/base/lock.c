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

static bool spin(struct lock *lock) {
	for (int i = 0; i < SPINS; i++) {
		uint32_t open = 0;
		if (atomic_load_explicit(&lock->state, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_weak_explicit(&lock->state, &open, 1, memory_order_acquire,
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
	while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0)
		os_futex_wait((uint32_t *)&lock->state, 2);
	atomic_fetch_add_explicit(&lock_waits.count, 1, memory_order_relaxed);
	os_stopwatch_ends(begin, &lock_waits.times);
}

#ifndef NDEBUG
/* One bit per rank that this thread holds. fork takes several locks of RANK_BIN, so a rank may be taken again
 * while it is the highest one; the count of RANK_BIN locks says when the bit goes. */
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
	lock_note(rank);
	lock_hold_begins(rank);
	return true;
}
