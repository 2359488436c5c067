/* The actions of SIGSEGV and SIGBUS: what the program asked for, and what the kernel has instead, once there is a guarded pool.
 *
 * A program sees what it asked for, and gets it. The kernel's action is ours from the first guarded block on, with the
 * program's mask and flags, so that its handler runs where, and with what is blocked, as it wants; what it asked for is
 * kept here. Our handler looks whether the fault is in the pool, and goes on to the program's by a jump: no frame, no lock, no
 * system call is in between. A program without a handler dies of the signal as always, with its core.
 *
 * The program's calls of sigaction and its relatives come here from api/signals.c. Who calls the kernel directly (Go does) replaces
 * our action by theirs: from then on, nothing is done here. */
#ifndef HARDEN_ACTION_H
#define HARDEN_ACTION_H

#include <signal.h>

#include "base/base.h"

/* Puts our action over the program's, with this function for faults that may concern the pool: it returns when the program is to
 * have its turn. Once, under the guard lock. */
void action_install(void (*look)(siginfo_t *info, void *context));

/* Is the signal's action kept here? False: the program's own is with the kernel. */
bool action_is_kept(int signal);

/* sigaction for such a signal: sets the action unless NULL, tells the earlier one unless NULL. Returns 0 or the errno. */
int action_change(int signal, const struct sigaction *action, struct sigaction *earlier);

/* What others told of a signal's action, by asking the kernel, becomes what the program asked for where it is ours: the whole of it,
 * or the handler alone. */
void action_hide(int signal, struct sigaction *shown);
__sighandler_t action_hide_handler(int signal, __sighandler_t shown);

/* In the child of a fork, which has one thread. */
void action_after_fork(void);

#endif
