/* The gate: between fork, and those who have taken something out of the records to work on it without a lock:
 * slices that go back to the kernel, a mapping that is resized. Such work is done inside of the gate. fork
 * closes it, and waits until nobody is inside, before it takes the first lock: so a child finds everything in
 * the records.
 *
 * It is entered beside system calls only: all others keep their locks until they are done. Who may hold locks
 * must not wait for the gate, since those inside may want these locks: they try, and put the work off. A
 * thread that is inside may enter again.
 *
 * A handler of a signal that forks in the middle of such work does not wait for itself; its child may have
 * lost what it was. */
#ifndef BASE_GATE_H
#define BASE_GATE_H

#include "base/base.h"

/* Without any lock but that of start-up. Waits while a fork is under way. */
void gate_enter(void);

/* Does not wait: false while a fork is under way. */
bool gate_try_enter(void);

void gate_leave(void);

/* Around fork, before all locks are taken and after all were dropped: one at a time. gate_open_in_child:
 * nobody else is there. */
void gate_close(void);
void gate_open(void);
void gate_open_in_child(void);

/* Once, early: remembers the process. */
void gate_start(void);

#endif
