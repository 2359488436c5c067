/* All other threads of the process stand still, and what they have in their registers is known: for who looks
 * through its memory at the end. Each gets a signal whose action is the default one, and waits in its
 * handler. Threads that block it, or wait for signals themselves, get none: they go on, and are counted.
 * A thread whose system call would fail afterwards, because it was interrupted, stands until the process has
 * ended: it would have slept on.
 *
 * Once in a process, just before it ends: the handler stays, for a thread may let the signal through later.
 * Nobody who holds a lock may be waited for meanwhile: so no lock is taken, but what was taken before. */
#ifndef OBSERVE_STANDSTILL_H
#define OBSERVE_STANDSTILL_H

#include "harden/unwind.h"

/* More threads go on. */
#define STANDSTILL_MAX 4096

struct standing_thread {
	uintptr_t thread_pointer; /* on a stack that libc made, it lies above the frames */
	uintptr_t registers[UNWIND_REGISTERS];
};

struct standstill {
	size_t count, missing; /* threads that stand; that go on */
	const struct standing_thread *threads;
};

/* False: it cannot be done here. Waits for those who come late, but not long. */
bool standstill_begin(struct standstill *all);
void standstill_end(void);

#endif
