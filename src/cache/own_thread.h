/* Threads of our own, in the program's process. They get no signals, which are for the program's own
 * threads, have small stacks, and never allocate: none has a cache. They run where the process could run at
 * its start, and as the process does, whoever started them: a thread of the program may have pinned itself,
 * or be one with a real-time priority.
 *
 * Some calls of the program count threads, or do the same in all of them and end the process if that goes
 * differently in one. For these, threads of our own stand back (api/stand_back.c): they end, and are
 * started again later. */
#ifndef CACHE_OWN_THREAD_H
#define CACHE_OWN_THREAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/base.h"

/* One of them, whether it is there or not. The functions are the owner's, the rest is own_thread.c's. */
struct own_thread {
	const char *name; /* 15 characters at most */
	/* What it does. Returns when it wants to, and soon when own_thread_shall_end says so. */
	void (*body)(void);
	/* It may sleep: called until body returns, from any thread. Or NULL, if it sleeps on `state` only. */
	void (*wake)(void);
	void (*ended)(void);      /* it was told to end, and is gone. Or NULL */
	_Atomic uint32_t state;   /* a futex */
	_Atomic uint32_t over;    /* body has returned. A futex */
	_Atomic int id;           /* the kernel's number */
	_Atomic uint64_t left_at; /* milliseconds: it ended by itself */
	pthread_t handle;
	struct own_thread *next; /* of those that were started once */
	_Atomic bool listed;
};

enum own_start {
	OWN_STARTED,
	OWN_NOT_NOW, /* it is on its way out, or is not to be seen in the process: try again later */
	OWN_REFUSED, /* by the system */
};

/* Starts it. errno is left alone; starting a thread allocates. */
enum own_start own_thread_start(struct own_thread *thread);

/* Would it be OWN_NOT_NOW? A hint, for those who have something to prepare. */
bool own_threads_may_start(void);

/* Is this surely the process that has them, or would have them? Not a child by vfork, nor one by clone that
 * has not shown itself yet. */
bool own_threads_know_process(void);

/* For body: shall it return? Until then, `state` is OWN_PRESENT. */
#define OWN_PRESENT 2
static inline bool own_thread_shall_end(const struct own_thread *thread) {
	return atomic_load_explicit(&thread->state, memory_order_relaxed) != OWN_PRESENT;
}

/* Tells it to end, and waits for that, without any lock. */
void own_thread_end(struct own_thread *thread);

/* From here on, the kernel and libc know of no thread of ours, and none is started until
 * own_threads_return, or for good. Without any lock. Takes two seconds at most, should one of them be held
 * up. False: they are no threads of this process (in a child by vfork), nothing was done, and
 * own_threads_return must not follow. */
bool own_threads_stand_back(void);
void own_threads_return(bool for_good);

/* Has one of them other rights than the calling thread? Perhaps, when one is being started or ended, and
 * once somebody said that a thread of the program may differ from others. */
bool own_threads_differ(void);
void own_threads_may_differ(void);

/* Once when libc is ready for threads, and in each child that is known to be one: it has no thread of its
 * parent's. */
void own_threads_in_new_process(void);

#endif
