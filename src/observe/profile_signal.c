/* Signals that let a heap profile be written. The handlers do nothing of that themselves: the thread does
 * (profile_time.c). */
#include "base/conf.h"
#include "base/print.h"
#include "harden/own_signal.h"
#include "observe/profile_time.h"

/* Milliseconds that SIGTERM takes longer at most: the disk may be slow, or the thread that got the signal is
 * under the lock of the profile. */
#define PATIENCE 2000

/* SIGTERM is the end. The thread that got it waits, so that the program sees no call of its own fail for a
 * signal that it has no handler for. */
static void on_signal(int signal, siginfo_t *info, void *context) {
	(void)context;
	const uint32_t number = profile_time_ask();
	if (signal != SIGTERM) return;
	profile_time_await(number, PATIENCE);
	own_signal_let_through(signal, info);
}

static void take(int signal) {
	if (!own_signal_take(signal, on_signal))
		print_fd(2, "arenal: signal %d is not free: no heap profile is written for it\n", signal);
}

void profile_signal_start(void) {
	if (conf.profile_signal > 0) take((int)conf.profile_signal);
	if (conf.profile_term && conf.profile_signal != SIGTERM) take(SIGTERM);
}
