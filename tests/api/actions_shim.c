/* A library that looks after a program's handlers, as libjsig does: it sees calls, allocates for them, and passes them on. */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

static int (*next_sigaction)(int signal, const struct sigaction *action, struct sigaction *earlier);
static sighandler_t (*next_signal)(int signal, sighandler_t handler);
static atomic_int calls;

/* How many calls it has seen that were to change the action of SIGSEGV. */
int shim_calls(void);
int shim_calls(void) { return atomic_load(&calls); }

__attribute__((constructor)) static void find_next(void) {
	next_sigaction = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
	next_signal = (sighandler_t (*)(int, sighandler_t))dlsym(RTLD_NEXT, "signal");
}

static void note(int signal) {
	if (signal == SIGSEGV)
		atomic_fetch_add(&calls, 1);
}

/* Handlers call it, whatever they have interrupted: it only counts. */
int sigaction(int signal, const struct sigaction *action, struct sigaction *earlier) {
	if (action)
		note(signal);
	return next_sigaction(signal, action, earlier);
}

sighandler_t signal(int signal, sighandler_t handler) {
	void *volatile block = malloc(30000);

	note(signal);
	const sighandler_t before = next_signal(signal, handler);
	free(block);
	return before;
}
