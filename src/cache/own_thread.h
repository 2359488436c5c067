/* Threads of our own, in the program's process. They get no signals, which are for the program's own threads, have small
 * stacks, and never allocate: none has a cache.
 *
 * A thread that is not detached must have been joined before the last thread of the program ends: whoever ends last runs
 * the handlers of exit. */
#ifndef CACHE_OWN_THREAD_H
#define CACHE_OWN_THREAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/base.h"

/* Starts one. `joinable`: where its handle goes; NULL: it is detached. False when the system refuses. errno is left alone;
 * starting a thread allocates. */
bool own_thread_start(void *(*body)(void *), pthread_t *joinable);

/* Waits for its end; for threads that were not detached. Is no cancellation point. */
void own_thread_join(pthread_t thread);

/* Said by the thread itself: others name it through a file of /proc, which needs a descriptor, and a /proc. */
void own_thread_name(const char *name);

/* What layers above want to be told. Set when libc is ready for threads, before which nothing is; NULL: nobody asks. */
struct cache_hooks {
	/* The background thread was started: the process has threads, and more than a little memory. */
	void (*_Atomic purger_started)(void);
	/* A slow path, without any lock: a moment at which a thread may be started. Set only while somebody waits for that. */
	void (*_Atomic slow_moment)(void);
	/* The last thread with a cache ends, and perhaps the process with it. */
	void (*_Atomic last_exit)(void);
	/* From now on, the child of a fork needs our handlers: a thread is about to get a cache while another one has one, or the first
	 * block to be guarded. Before it takes any lock. May allocate. */
	void (*_Atomic second_cache)(void);
	/* This process is a child that no handler of fork hears of (base/process.h). */
	void (*_Atomic new_process)(void);
};
extern struct cache_hooks cache_hooks;

static inline void cache_hook_call(void (*_Atomic *hook)(void)) {
	void (*function)(void) = atomic_load_explicit(hook, memory_order_acquire);
	if (unlikely(function != NULL)) function();
}

#endif
