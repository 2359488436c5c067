/* A signal that the operator has given us: its action was the default one, and ours is in its place until the
 * program, or a library of it, sets another one, which is then the only one. Who asks sees the default one
 * (in the shared library, as api/signals.c does it). */
#ifndef HARDEN_OWN_SIGNAL_H
#define HARDEN_OWN_SIGNAL_H

#include <signal.h>

#include "base/base.h"

typedef void own_signal_handler(int signal, siginfo_t *info, void *context);

/* False: it has another action than the default one, or is none that programs may use as they like. One
 * handler for all signals. */
bool own_signal_take(int signal, own_signal_handler *handler);

/* What the kernel told of a signal's action becomes the default one, where it is ours. */
void own_signal_hide(struct sigaction *shown);

/* In the handler: the signal has its usual end when that returns, unless the program has set another action
 * by now, which it gets then. */
void own_signal_let_through(int signal, siginfo_t *info);

#endif
