/* A library that registers handlers of fork in its constructor, before anything was allocated: they do what the program wants. */
#include "fork_handlers.h"

#include <pthread.h>
#include <stddef.h>

void (*fork_handler)(enum moment moment);

static void run(enum moment moment) {
	if (fork_handler)
		fork_handler(moment);
}

static void before(void) {
	run(BEFORE);
}

static void after(void) {
	run(AFTER);
}

static void after_in_child(void) {
	run(AFTER_IN_CHILD);
}

void register_fork_handlers(void) {
	pthread_atfork(before, after, after_in_child);
}

__attribute__((constructor)) static void constructor(void) {
	register_fork_handlers();
}
