/* What layers above want to be told, or asked: the cache layer calls functions of theirs by these pointers,
 * and knows nothing else of them. NULL: nobody asks. Set when libc is ready for threads, before which
 * nothing is called, but for what says something else. */
#ifndef CACHE_HOOKS_H
#define CACHE_HOOKS_H

#include <stdatomic.h>

#include "base/base.h"

struct guard_turn;

struct cache_hooks {
	/* The background thread was started, or might have been: the process has threads, and more than a
	 * little memory. */
	void (*_Atomic purger_started)(void);
	/* A slow path of malloc or its like, not of free, without any lock: a moment at which a thread may be
	 * started (purger.h says why). Set only while somebody waits for that. */
	void (*_Atomic slow_moment)(void);
	/* Somebody is to see each free of a large block: another front than plain serves (front_serve), or the
	 * heap profile wants to hear of them (sample_hooks.freed). One word for both, which free looks at. Set
	 * just before that is so, for good. */
	_Atomic bool frees_seen;
	/* Somebody outside wants something: not 0. A process of one thread looks there when it gives blocks
	 * back or its heap grows; another one, while it has no background thread. The tool writes a byte of it
	 * (observe/door.h). */
	_Atomic uint32_t knock;
	void (*_Atomic knocked)(void); /* a slow path, without any lock: it sees to that */
	/* The last thread with a cache ends, and perhaps the process with it. */
	void (*_Atomic last_exit)(void);
	/* From now on, the child of a fork needs our handlers: a thread is about to get a cache while another
	 * one has one, or the first block to be guarded. Before it takes any lock. May allocate. */
	void (*_Atomic second_cache)(void);
	/* This process is a child that no handler of fork hears of (base/process.h). */
	void (*_Atomic new_process)(void);
	/* The allocation whose turn it is to be guarded (cache/guard_turn.h): a block for it, which reads as
	 * zero; or NULL. A slow path, without any lock. */
	void *(*_Atomic guard)(struct guard_turn *turn, size_t size);
	/* The end of what a layer above keeps for a thread (`attached` in struct tcache), which is not NULL:
	 * the thread ends; or it was one of this child's parent, and its cache is given back, under the threads
	 * lock. Set before anything is attached, for good. */
	void (*_Atomic end_attached)(void *attached);
};
extern struct cache_hooks cache_hooks __attribute__((visibility("hidden")));

static inline void cache_hook_call(void (*_Atomic *hook)(void)) {
	void (*function)(void) = atomic_load_explicit(hook, memory_order_acquire);
	if (unlikely(function != NULL)) function();
}

static inline bool cache_hook_waits(void (*_Atomic *hook)(void)) {
	return atomic_load_explicit(hook, memory_order_relaxed) != NULL;
}

/* See frees_seen. */
static inline bool frees_are_seen(void) {
	return atomic_load_explicit(&cache_hooks.frees_seen, memory_order_relaxed);
}
static inline void frees_see(void) {
	atomic_store_explicit(&cache_hooks.frees_seen, true, memory_order_relaxed);
}

#endif
