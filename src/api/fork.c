#include "api/fork.h"

#include <pthread.h>

#include "api/malloc.h"
#include "arena/arena.h"
#include "arena/huge.h"
#include "arena/pressure.h"
#include "arena/zero.h"
#include "base/conf.h"
#include "base/lock_holds.h"
#include "base/meta.h"
#include "base/process.h"
#include "cache/hooks.h"
#include "cache/own_thread.h"
#include "cache/purger.h"
#include "cache/tcache.h"
#include "harden/action.h"
#include "harden/cap_count.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "harden/misuse.h"
#include "observe/profile.h"
#include "observe/trace.h"
#include "observe/trace_end.h"
#include "observe/window.h"

/* Were the locks taken? Written before a fork, read after it by the same thread, in both processes. */
static bool locked;

/* libc's lock of all streams, which fork takes after the handlers, and before its own malloc's locks: others
 * hold it, or a stream, while they wait for malloc. So it comes before ours. Not there in every libc. */
extern void stdio_lock(void) __asm__("_IO_list_lock") __attribute__((weak));
extern void stdio_unlock(void) __asm__("_IO_list_unlock") __attribute__((weak));
extern void stdio_reset(void) __asm__("_IO_list_resetlock") __attribute__((weak));

/* Nobody is in the middle of anything then: neither inside of the gate nor under a lock. Of arenas and
 * caches, no memory is written to. A process with one thread has no need of it, and writes to no page for
 * it. */
static void before_fork(void) {
	if (os_is_single_threaded() || lock_is_ignored()) return;
	if (stdio_lock != NULL) stdio_lock();
	start_lock(); /* who has it comes to the gate, too */
	gate_close();
	tcache_lock_all();
	arena_lock_all();
	huge_lock();
	harden_lock();
	guard_lock();
	profile_lock();
	trace_lock();
	meta_lock();
	lock_holds_leave_out();
	locked = true;
}

/* All but those of the threads and their caches. */
static void unlock(void) {
	locked = false;
	meta_unlock();
	trace_unlock();
	profile_unlock();
	guard_unlock();
	harden_unlock();
	huge_unlock();
	arena_unlock_all();
}

static void after_fork(void) {
	os_after_fork(false);
	if (locked) {
		unlock();
		lock_open_all();
		tcache_unlock_all();
		gate_open();
		start_unlock();
		if (stdio_unlock != NULL) stdio_unlock();
	}
	window_after_fork_in_parent();
}

/* The children of one parent are not to choose alike. */
static void reseed(void) {
	tcache_reseed();
	zero_reseed();
	arena_reseed();
}

static void after_fork_in_child(void) {
	os_after_fork(true);
	if (sandbox_after_fork != NULL) sandbox_after_fork();
	gate_open_in_child(); /* also of one thread: it may get others, and they wait by this process's number */
	if (locked) {
		unlock();
		lock_open_all_in_child();
		arena_after_fork();
		tcache_after_fork();
		cap_after_fork();
		if (stdio_reset != NULL) stdio_reset();
		start_unlock();
	}
	lock_heed_in_child();
	misuse_after_fork();
	fault_after_fork();
	trace_end_after_fork();
	process_after_fork();
	pressure_after_fork();
	own_threads_in_new_process();
	purger_after_fork();
	action_after_fork();
	reseed();
	window_after_fork();
}

/* Whoever comes while it is BUSY is about to register handlers of his own, and must not be first. */
enum { NOT_YET = 1, BUSY, DONE };
static _Atomic uint32_t registered = NOT_YET; /* not 0: every process writes to it, and has a page of such
                                                 variables in memory anyway */

extern void *__dso_handle __attribute__((visibility("hidden")));

void fork_expect(void) {
	if (atomic_load(&registered) != NOT_YET) return;
	/* To look it up takes a lock of the loader: before anybody waits for us. */
	fork_register_function *next = fork_next_register != NULL ? fork_next_register() : NULL;
	uint32_t before = NOT_YET;
	if (!atomic_compare_exchange_strong(&registered, &before, BUSY)) return;
	atomic_store(&cache_hooks.second_cache, NULL);
	gate_start();
	/* May allocate, and so come back here. */
	if (next != NULL)
		next(before_fork, after_fork, after_fork_in_child, &__dso_handle);
	else
		pthread_atfork(before_fork, after_fork, after_fork_in_child);
	atomic_store(&registered, DONE);
	os_futex_wake_all((uint32_t *)&registered);
}

void fork_expect_early(void) {
	if (atomic_load(&registered) == NOT_YET) atomic_store(&cache_hooks.second_cache, fork_expect);
	if (fork_next_register == NULL) fork_expect();
}

void fork_expect_first(void) {
	fork_expect();
	while (atomic_load(&registered) == BUSY) os_futex_wait((uint32_t *)&registered, BUSY);
}
