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

/* Another library looks after the actions of signals (libjsig, libsigchain) and is to see all calls: nothing is installed then, so that
 * faults in the pool end the program without a report. Before the first guarded block. */
void action_stay_out(void);

/* Is the signal's action kept here? False: the program's own is with the kernel. */
bool action_is_kept(int signal);

/* sigaction for such a signal: sets the action unless NULL, tells the earlier one unless NULL. Returns 0 or the errno. */
int action_change(int signal, const struct sigaction *action, struct sigaction *earlier);

/* siginterrupt was called for such a signal: whether system calls go on after its handler. */
void action_set_restart(int signal, bool restart);

/* In the child of a fork, which has one thread. */
void action_after_fork(void);

#endif
