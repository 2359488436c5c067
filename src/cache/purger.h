/* The background thread that gives memory of idle programs back.
 *
 * It is started when a process has threads and more than a little memory, at the first slow moment of a
 * malloc after somebody freed or the heap grew, looks four times in conf.decay while there is something
 * to look at, sleeps without a timer's tick when there is nothing, and ends when that lasts. In a process
 * without threads, and where it cannot be started, those who free do what can be done (holes.h,
 * heap_decay.c). */
#ifndef CACHE_PURGER_H
#define CACHE_PURGER_H

#include <stdatomic.h>

#include "arena/heap.h"
#include "base/process.h"

enum purger_state {
	PURGER_OFF,    /* no thread */
	PURGER_ASLEEP, /* waits for somebody to free something */
	PURGER_AWAKE,
};
extern _Atomic uint32_t purger_state;

/* Wakes the thread, if that is due; or has it started at the next slow moment. Also sees to what its process
 * inherited: see tcache_adopt_in_time.
 *
 * Nothing is started in a call of free: libc calls free under a lock which the start of a thread takes (that
 * of the stacks that it keeps, when there are more than 40 MiB of them). */
void purger_wake(void);

/* The same, and starts it at once. For slow moments, and where a thread ends. */
void purger_start(void);

/* Is this process a child that no handler of fork hears of? Then it has not its parent's thread, and others
 * neither. For slow paths, without any lock. */
void purger_look_at_process(void);

/* Called by the slow paths, without any lock, after they gave blocks back. Where nobody purges in the
 * background, they purge a piece of it themselves. */
static inline void purger_poke(void) {
	const uint32_t state = atomic_load_explicit(&purger_state, memory_order_relaxed);
	if (unlikely(state != PURGER_AWAKE || process_may_be_new() ||
	             atomic_load_explicit(&heap_purge_is_due, memory_order_relaxed)))
		purger_wake();
}

/* Once, at start-up: from now on, growth starts the thread as well. */
void purger_expect(void);

/* The last thread with a cache ends, and perhaps the process with it: the handlers of exit, which the last
 * thread runs, want the program's descriptors. Returns when the thread has ended. */
void purger_end(void);

/* In the child of a fork, which has one thread. */
void purger_after_fork(void);

#endif
