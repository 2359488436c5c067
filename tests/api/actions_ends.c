/* How it ends: without a handler, after one that runs once, in chains, and in handlers that fault. */
#include "actions.h"

#include <stdlib.h>
#include <sys/mman.h>

void no_handler(void) {
	make_area();
	set(SIGSEGV, SIG_DFL, SA_RESTART, 0);
	at("first");
	at("later");
	touch(area);
}

void sent_to_nobody(void) {
	at("first");
	at("later");
	kill(getpid(), SIGSEGV);
	say("lives\n");
}

void ignored(void) {
	at("first");
	signal(SIGSEGV, SIG_IGN);
	at("later");
	raise(SIGSEGV);
	ask(SIGSEGV);
	make_area();
	touch(area);
}

void once(void) {
	make_area();
	at("first");
	struct sigaction action = { .sa_handler = say_last, .sa_flags = (int)SA_RESETHAND };
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	at("later");
	raise(SIGSEGV);
	ask(SIGSEGV); /* no handler, but flags and mask as before */
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	touch(area);
}

/* As abseil's: nested faults come at once, and the signal is raised again for the core. */
static void raise_again(int signal) {
	static int depth;
	say("handler %d\n", ++depth);
	ask(signal);
	raise(signal);
	say("lives\n");
}

void once_nested(void) {
	make_area();
	at("first");
	struct sigaction action = { .sa_handler = raise_again,
		                        .sa_flags = (int)SA_RESETHAND | SA_NODEFER | SA_ONSTACK };
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	at("later");
	touch(area);
}

static void fault_again(int signal) {
	say("handler %d\n", signal);
	touch(area);
	say("lives\n");
}

void nested(void) {
	make_area();
	at("first");
	signal(SIGSEGV, fault_again);
	at("later");
	touch(area);
}

/* As backward-cpp's and Python's: a report, then the earlier action, and the fault once more. */
static struct sigaction before;

static void put_back(int signal) {
	say("report\n");
	CHILD_CHECK(sigaction(signal, &before, NULL) == 0);
}

static void put_back_and_raise(int signal) {
	put_back(signal);
	raise(signal);
}

void puts_back(void) {
	make_area();
	at("first");
	struct sigaction action = { .sa_handler = put_back, .sa_flags = SA_ONSTACK | (int)SA_RESETHAND };
	CHILD_CHECK(sigaction(SIGSEGV, &action, &before) == 0);
	at("later");
	touch(area);
}

void puts_back_and_raises(void) {
	make_area();
	at("first");
	struct sigaction action = { .sa_handler = put_back_and_raise, .sa_flags = SA_NODEFER };
	CHILD_CHECK(sigaction(SIGSEGV, &action, &before) == 0);
	at("later");
	touch(area);
}

/* As the JVM's: whoever was there before is called, and if there was nobody, this is the end. */
static void chain(int signal, siginfo_t *info, void *context) {
	say_action("chain", &before);
	if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(signal, info, context);
	else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
		before.sa_handler(signal);
	else
		_exit(6);
}

void chains(void) {
	make_area();
	at("first");
	struct sigaction action = { .sa_sigaction = chain, .sa_flags = SA_SIGINFO };
	set(SIGSEGV, full, SA_SIGINFO, 0);
	CHILD_CHECK(sigaction(SIGSEGV, &action, &before) == 0);
	at("later");
	touch(area);
	signal(SIGSEGV, SIG_DFL);
	CHILD_CHECK(mprotect(area, area_size, PROT_NONE) == 0);
	CHILD_CHECK(sigaction(SIGSEGV, &action, &before) == 0);
	touch(area);
}
