/* Heap profiles that are written while the process runs: each time that so many seconds have passed, so much
 * was allocated, more is in use than ever, a signal has come, or SIGTERM is about to end the process. What
 * was ten minutes before a process was killed is on disk then.
 *
 * A thread of our own writes, "arenal-profile", into files that it opens in a table of descriptors of its
 * own. It is there while one of these tunables is set, and starts and ends as the window does. */
#ifndef OBSERVE_PROFILE_TIME_H
#define OBSERVE_PROFILE_TIME_H

#include <stdatomic.h>

#include "base/base.h"

/* Does a tunable ask for such profiles, and is there a name for their files? */
bool profile_time_is_wanted(void);

/* Once, when libc is ready for threads. */
void profile_time_start(void);

/* The tunables may have changed, or a moment has come at which a thread may be started. */
void profile_time_look(void);

/* What profile_expect said is reached. Without any lock. */
void profile_time_reached(void);

/* The thread ends. Without any lock. */
void profile_time_end(void);

/* In the child of a fork: it has no such thread. Nothing is started in here. */
void profile_time_after_fork(void);

/* ---- for handlers of signals ---- */

/* Lets the thread write now. Returns a number for profile_time_await. */
uint32_t profile_time_ask(void);

/* Waits until it has, but for so many milliseconds at most, and not where there is no such thread. */
void profile_time_await(uint32_t number, uint64_t milliseconds);

/* Installs them, as the tunables say. At the start, before the program can have handlers. */
void profile_signal_start(void);

#endif
