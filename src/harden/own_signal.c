#include "harden/own_signal.h"

#include <stdatomic.h>

#include "base/os.h"

/* NULL: no signal was given us. */
static own_signal_handler *_Atomic handler;

static bool is_ours(const struct sigaction *action) {
	own_signal_handler *ours = atomic_load_explicit(&handler, memory_order_relaxed);
	return ours != NULL && action->sa_sigaction == ours;
}

/* Ends the process by default, and is sent by nobody but people, tools and timers of the program. */
static bool is_free(int signal) {
	return signal == SIGHUP || signal == SIGUSR1 || signal == SIGUSR2 || signal == SIGTERM ||
	       (signal >= SIGRTMIN && signal <= SIGRTMAX);
}

bool own_signal_take(int signal, own_signal_handler *function) {
	struct sigaction now;
	if (!is_free(signal) || !os_signal_ask(signal, &now) || now.sa_handler != SIG_DFL) return false;
	atomic_store(&handler, function);
	struct sigaction ours = { .sa_sigaction = function, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
	return os_signal_action(signal, &ours, NULL);
}

void own_signal_hide(struct sigaction *shown) {
	if (is_ours(shown)) *shown = (struct sigaction){ .sa_handler = SIG_DFL };
}

void own_signal_let_through(int signal, siginfo_t *info) {
	struct sigaction now;
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	if (os_signal_ask(signal, &now) && is_ours(&now)) os_signal_action(signal, &usual, NULL);
	os_send_again(signal, info);
}
