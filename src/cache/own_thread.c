#include "cache/own_thread.h"

#include <errno.h>
#include <signal.h>

#include "base/sandbox.h"

/* Room for the handlers of exit, which the last thread of a process runs. */
#define STACK (512 * KIB)

struct cache_hooks cache_hooks;

static bool start(void *(*body)(void *), pthread_t *joinable) {
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t all, before;
	if (pthread_attr_init(&attributes) != 0) return false;
	if (joinable == NULL) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&thread, &attributes, body, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error == 0 && joinable != NULL) *joinable = thread;
	return error == 0;
}

bool own_thread_start(void *(*body)(void *), pthread_t *joinable) {
	if (sandbox_is_on()) return false;
	int saved = errno;
	bool started = start(body, joinable);
	errno = saved;
	return started;
}

void own_thread_join(pthread_t thread) {
	int cancelable;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancelable, NULL);
}

void own_thread_name(const char *name) { pthread_setname_np(pthread_self(), name); }
