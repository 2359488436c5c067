/* Start-up and fork: the two moments that concern every layer. */
#include <pthread.h>

#include "api/api.h"
#include "arena/huge.h"
#include "base/conf.h"
#include "base/meta.h"

_Atomic bool started;

static struct lock start_lock;
static bool conf_loaded;

/* Lock order: threads, bins, heap, huge, metadata. The thread that forks holds them all, so nobody is in the middle of
 * anything; it exists in the child too and lets go of them in both processes. */
static void before_fork(void) {
	tcache_lock();
	arena_lock_all();
	huge_lock();
	meta_lock();
}

static void after_fork(void) {
	meta_unlock();
	huge_unlock();
	arena_unlock_all();
	tcache_unlock();
}

static void after_fork_in_child(void) {
	tcache_forget_others();
	after_fork();
}

void start(void) {
	lock_take(&start_lock, RANK_INIT);
	bool first = !atomic_load_explicit(&started, memory_order_relaxed);
	if (first) {
		os_init();
		conf_loaded = conf_load();
		page_map_init();
		arena_init();
		tcache_init();
		atomic_store_explicit(&started, true, memory_order_release);
	}
	lock_drop(&start_lock, RANK_INIT);
	/* Registered by the first allocation of the process, so before anybody else's handlers: ours then run last before a
	 * fork and first after it, and the others' may allocate. Registering allocates itself. */
	if (first) pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

/* A program that has allocated before libc knew the environment gets its tunables now. */
__attribute__((constructor)) static void late_start(void) {
	ensure_started();
	if (!conf_loaded) conf_loaded = conf_load();
}
