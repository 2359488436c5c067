#include "cache/fork.h"

#include <pthread.h>

#include "arena/holes.h"
#include "arena/huge.h"
#include "arena/pressure.h"
#include "base/meta.h"
#include "cache/purger.h"
#include "cache/tcache.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "observe/profile.h"
#include "observe/trace.h"

/* Lock order: threads, bins, heap, huge, hardened large blocks, guard, profile, trace, metadata. The thread that forks holds them all, so nobody is in the middle of
 * anything; it exists in the child too and lets go of them in both processes. Handlers of others that run in between may
 * allocate: for this thread, the locks are open. */
static void before_fork(void) {
	tcache_lock();
	arena_lock_all();
	huge_lock();
	harden_lock();
	guard_lock();
	profile_lock();
	trace_lock();
	meta_lock();
	lock_own_all(true);
}

static void after_fork(void) {
	lock_own_all(false);
	meta_unlock();
	trace_unlock();
	profile_unlock();
	guard_unlock();
	harden_unlock();
	huge_unlock();
	arena_unlock_all();
	tcache_after_fork();
	tcache_unlock();
}

static void after_fork_in_child(void) {
	tcache_forget_others();
	holes_after_fork();
	pressure_after_fork();
	purger_after_fork();
	after_fork();
}

void fork_expect_threads(void) {
	static atomic_flag done = ATOMIC_FLAG_INIT;
	/* Registering may allocate, and so come back here. */
	if (!atomic_flag_test_and_set(&done)) pthread_atfork(before_fork, after_fork, after_fork_in_child);
}
