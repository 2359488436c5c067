/* The actions of SIGSEGV and SIGBUS: what the program asked for, and what the kernel has instead, once there
 * is a guarded pool, or a trace.
 *
 * A program sees what it asked for, and gets it. The kernel's action is ours from the first guarded block on,
 * with the program's mask and flags, so that its handler runs where, and with what is blocked, as it wants;
 * what it asked for is kept here. Our handler looks whether the fault is in the pool, and goes on to the
 * program's by a jump: no frame, no lock, no system call is in between. A program without a handler dies of
 * the signal as always, with its core.
 *
 * While the program changes its action (api/signals.c), the kernel has the program's own: so libc, and
 * whoever else wants to know of such calls, find what they would find without us, and the kernel tells what
 * it made of the change. Meanwhile a fault in the pool is the program's to explain.
 *
 * Who calls the kernel directly replaces our action by his, and from then on nothing is done here. */
#ifndef HARDEN_ACTION_H
#define HARDEN_ACTION_H

#include <signal.h>

#include "base/base.h"

/* Puts our action over the program's, with this function for faults that may concern the pool: it returns
 * when the program is to have its turn. Once, under the guard lock. */
void action_install(void (*look)(siginfo_t *info, void *context));

/* Puts our action over the program's, with a function for faults in what else is ours: if it has mended what
 * is wrong, it says so, and the instruction is tried again. The program never hears of it. Once. */
void action_install_mending(bool (*mend)(const siginfo_t *info));

/* Is the signal's action kept here? False: the program's own is with the kernel. */
bool action_is_kept(int signal);

/* Around a change of such a signal's action: in between, the kernel has the program's own, and the thread
 * gets no signals, so that no handler of one jumps out of it. Several threads may be in between, and no lock
 * is held. */
struct action_change {
	sigset_t mask; /* the thread's, of before */
};
void action_open(int signal, struct action_change *change);
void action_close(int signal, const struct action_change *change);

/* What the kernel told of a signal's action becomes what the program asked for, where it is ours: the whole
 * of it, or the handler alone. */
void action_hide(int signal, struct sigaction *shown);
sighandler_t action_hide_handler(int signal, sighandler_t shown);

/* In the child of a fork, which has one thread. */
void action_after_fork(void);

#endif
