#include "base/lock_holds.h"

#include "base/print.h"

#ifndef NDEBUG
#define STEPS 5 /* of time: below 1 us, 10 us, 100 us, 1 ms, and the rest */

/* All locks of a rank; any thread adds to them. */
static struct {
	_Atomic uint64_t holds[STEPS];
	_Atomic uint64_t longest; /* ns */
} ranks[RANKS];

/* When this thread took its first lock of the rank, in ns; 0: it holds none that counts. */
static __thread __attribute__((tls_model("initial-exec"))) uint64_t since[RANKS];

static const char names[RANKS][8] = {
	[RANK_INIT] = "start",    [RANK_THREADS] = "threads", [RANK_CACHE] = "cache",
	[RANK_BIN] = "bin",       [RANK_HEAP] = "heap",       [RANK_HUGE] = "huge",
	[RANK_REPORT] = "report", [RANK_GUARD] = "guard",     [RANK_PROFILE] = "profile",
	[RANK_TRACE] = "trace",   [RANK_META] = "meta",       [RANK_SIGNAL] = "signal",
};

void lock_hold_begins(enum lock_rank rank) { since[rank] = os_nanoseconds(); }

void lock_hold_ends(enum lock_rank rank) {
	if (since[rank] == 0) return;
	const uint64_t took = os_nanoseconds() - since[rank];
	since[rank] = 0;
	unsigned step = 0;
	for (uint64_t limit = 1000; step < STEPS - 1 && took >= limit; limit *= 10) step++;
	atomic_fetch_add_explicit(&ranks[rank].holds[step], 1, memory_order_relaxed);
	uint64_t longest = atomic_load_explicit(&ranks[rank].longest, memory_order_relaxed);
	while (took > longest &&
	       !atomic_compare_exchange_weak_explicit(&ranks[rank].longest, &longest, took, memory_order_relaxed,
	                                              memory_order_relaxed)) {
	}
}

void lock_holds_leave_out(void) {
	for (unsigned rank = 0; rank < RANKS; rank++) since[rank] = 0;
}

bool lock_holds_line(enum lock_rank rank, char *text, size_t size) {
	if (rank == RANKS) {
		print_text(text, size,
		           "lock held    below 1 us       10 us      100 us        1 ms      longer  longest, us");
		return true;
	}
	unsigned long n[STEPS], all = 0;
	for (unsigned i = 0; i < STEPS; i++)
		all += n[i] = (unsigned long)atomic_load_explicit(&ranks[rank].holds[i], memory_order_relaxed);
	const unsigned long longest =
	    (unsigned long)atomic_load_explicit(&ranks[rank].longest, memory_order_relaxed);
	print_text(text, size, "%-9s %13lu %11lu %11lu %11lu %11lu %12lu", names[rank], n[0], n[1], n[2], n[3],
	           n[4], longest / 1000);
	return all > 0;
}
#endif
