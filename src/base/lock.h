/* A 4-byte lock: spins briefly, then sleeps in the kernel. Zero-initialised memory is an open lock.
 *
 * libc's mutexes are not used, because the allocator must not call what might allocate or be interposed.
 * In debug builds every thread checks that it takes locks in the order of enum lock_rank (see
 * src/README.md).
 *
 * A fork must find nobody under a lock of a cache or of a bin, of which there may be ten thousand. To take
 * and drop each would write to as many pages, and both processes would get a copy of each. So these ranks
 * are closed: one word says so, who takes a lock looks at it afterwards, and drops the lock again if it is
 * set. Who forks sets the word, and then only reads the locks: each is open, or is waited for, once. The
 * store of one and the load of the other are sequentially consistent on both sides, so that one of the two
 * sees the other (tests/models/closing.pml). */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <stdatomic.h>

#include "base/os.h"

/* Locks are taken in this order, lowest first; two locks of one rank are never held together, but by fork. */
enum lock_rank {
	RANK_INIT,    /* start-up */
	RANK_THREADS, /* the list of thread caches */
	RANK_CACHE,   /* slow paths of one thread cache */
	RANK_BIN,     /* one size class of one arena */
	RANK_HEAP,    /* slices of all regions, the break */
	RANK_HUGE,    /* the table of direct mappings */
	RANK_REPORT,  /* the report of a guarded slot */
	RANK_GUARD,   /* the pool of guarded slots */
	RANK_PROFILE, /* the heap profile */
	RANK_TRACE,   /* the writers of the trace */
	RANK_META,    /* memory for metadata */
	RANK_SIGNAL,  /* the program's actions for SIGSEGV and SIGBUS: last, for handlers of signals take it,
	                 whatever they interrupt */
	RANKS
};

struct lock {
	_Atomic uint32_t state; /* 0 open, 1 held, 2 held and somebody may sleep */
};

/* The bits of ranks that are closed, and one for those who sleep until that is over. Written by who forks,
 * under the threads lock. */
extern _Atomic uint32_t lock_closed;

/* From now on, nobody gets a lock of this rank for good. Who has one keeps it: lock_await, for each of
 * them. */
void lock_close(enum lock_rank rank);

/* Of a rank that is closed: returns when nobody has the lock that had it before. Writes to it only if it
 * has to wait. */
static inline void lock_await(struct lock *lock);

/* All ranks are open again. */
void lock_open_all(void);

/* The same in the child of a fork, which has no other thread. Then lock_found for all locks of these ranks,
 * since its own forks wait for each: a thread of its parent's may have been about to drop one again, when it
 * saw that it was closed. Writes to it only then. */
void lock_open_all_in_child(void);
static inline void lock_found(struct lock *lock) {
	if (unlikely(atomic_load_explicit(&lock->state, memory_order_relaxed) != 0))
		atomic_store_explicit(&lock->state, 0, memory_order_relaxed);
}

/* lock_check_none: the thread holds no lock but that of start-up. lock_hold_begins: it has just got one
 * (lock_holds.h). */
#ifdef NDEBUG
static inline void lock_check_order(enum lock_rank rank, bool take) { (void)rank, (void)take; }
static inline void lock_check_none(void) {}
static inline void lock_hold_begins(enum lock_rank rank) { (void)rank; }
#else
void lock_check_order(enum lock_rank rank, bool take);
void lock_check_none(void);
void lock_hold_begins(enum lock_rank rank);
void lock_hold_ends(enum lock_rank rank);
#endif

void lock_wait(struct lock *lock);
void lock_wait_for_holder(struct lock *lock);
/* The lock, which the caller has, is dropped, and is his again when its rank is open. */
void lock_back_off(struct lock *lock, enum lock_rank rank);

static inline bool lock_is_closed(enum lock_rank rank) {
	return (rank == RANK_CACHE || rank == RANK_BIN) &&
	       unlikely(atomic_load_explicit(&lock_closed, memory_order_seq_cst) >> rank & 1);
}

static inline void lock_await(struct lock *lock) {
	if (unlikely(atomic_load_explicit(&lock->state, memory_order_seq_cst) != 0)) lock_wait_for_holder(lock);
}

/* Of all threads since the start: waits that spinning was not enough for, and how long they took. `times` has
 * none of those that there was no clock for (os_stopwatch). */
extern struct lock_waits {
	_Atomic uint64_t count;
	struct times times;
} lock_waits;

/* Said by a thread that ends the program, with whatever locks it holds: from now on it waits for none, and
 * drops none, so that it can report, and handlers of SIGABRT can allocate. There is no way back. */
void lock_ignore_from_now_on(void);

/* In the child of a fork: that thread is not there, unless it is the one that forked. The next one that
 * starts may get its stack, and so its thread pointer. */
void lock_heed_in_child(void);

/* The thread that does, as its thread pointer; NULL when none does. */
extern _Atomic(void *) lock_ignored_by;

static inline bool lock_is_ignored(void) {
	void *thread = atomic_load_explicit(&lock_ignored_by, memory_order_relaxed);
	return unlikely(thread != NULL) && thread == __builtin_thread_pointer();
}

static inline void lock_take(struct lock *lock, enum lock_rank rank) {
	lock_check_order(rank, true);
	uint32_t open = 0;
	if (!atomic_compare_exchange_strong_explicit(&lock->state, &open, 1, memory_order_seq_cst,
	                                             memory_order_relaxed))
		lock_wait(lock); /* not at all, when the thread ends the program */
	if (lock_is_closed(rank)) lock_back_off(lock, rank);
	lock_hold_begins(rank);
}

/* Takes the lock unless it is held, or does not become free soon: for what may be called by the handler of a
 * signal that came while this very thread held it. Needs no order, for it never waits. */
bool lock_try(struct lock *lock, enum lock_rank rank);

/* The lock's own part of lock_drop. */
static inline void lock_release(struct lock *lock) {
	if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)
		os_futex_wake((uint32_t *)&lock->state);
}

static inline void lock_drop(struct lock *lock, enum lock_rank rank) {
	lock_check_order(rank, false);
	if (lock_is_ignored()) return;
	lock_release(lock);
}

#endif
