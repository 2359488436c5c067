/* What the cases of api.actions share. */
#include "actions.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- the first guarded block ---- */

static void guard_a_block(void) {
	int (*set)(const char *, int64_t) = (int (*)(const char *, int64_t))dlsym(RTLD_DEFAULT, "arenal_set");

	if (set == NULL)
		return; /* on libc's malloc */
	CHILD_CHECK(set("guard_sample", 1) == 0);
	for (int i = 0; i < 100; i++)
		free(malloc(40000));
	CHILD_CHECK(set("guard_sample", 0) == 0);
}

static void *guard_in_thread(void *unused) {
	guard_a_block();
	return unused;
}

const char *moment;

void at(const char *where) {
	pthread_t thread;

	if (strcmp(moment, where) == 0)
		guard_a_block();
	if (strcmp(moment, "thread") == 0 && strcmp(where, "later") == 0) {
		CHILD_CHECK(pthread_create(&thread, NULL, guard_in_thread, NULL) == 0);
		CHILD_CHECK(pthread_join(thread, NULL) == 0);
	}
}

/* ---- what is seen ---- */

void one(int signal) { (void)signal; }
void two(int signal) { (void)signal; }

const char *name_of(sighandler_t handler) {
	return handler == SIG_DFL ? "default" : handler == SIG_IGN ? "ignore" : handler == SIG_ERR ? "error" :
	       handler == SIG_HOLD ? "hold" : handler == one ? "one" : handler == two ? "two" : handler == plain ? "plain" :
	       (void *)handler == (void *)full ? "full" : "another";
}

unsigned long bits_of(const sigset_t *set) {
	unsigned long bits = 0;

	for (int i = 1; i <= 64; i++)
		bits |= (unsigned long)(sigismember(set, i) == 1) << (i - 1);
	return bits;
}

void say_action(const char *what, const struct sigaction *action) {
	say("%s: %s, flags %x, mask %lx%s\n", what, name_of(action->sa_handler), action->sa_flags,
	    bits_of(&action->sa_mask), action->sa_restorer ? ", restorer" : "");
}

void ask(int signal) {
	struct sigaction action = { 0 };

	CHILD_CHECK(sigaction(signal, NULL, &action) == 0);
	say_action("asked", &action);
}

void set(int signal, void *handler, int flags, unsigned long mask) {
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags }, earlier = { 0 };

	memcpy(&action.sa_mask, &mask, sizeof mask);
	CHILD_CHECK(sigaction(signal, &action, &earlier) == 0);
	say_action("earlier", &earlier);
	ask(signal);
}

/* ---- how handlers run ---- */

char *area;
size_t area_size = 65536;
static char alternate[65536];
void *restorer;

void make_area(void) {
	area = mmap(NULL, area_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHILD_CHECK(area != MAP_FAILED);
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
	CHILD_CHECK(sigaltstack(&stack, NULL) == 0);
}

NOINLINE void touch(char *address) { *(volatile char *)address = 1; }

/* All that a handler can see of how it was called. The context lies at a fixed distance above the
 * handler's frame: any frame in between would show. */
static void say_call(const char *name, int signal, siginfo_t *info, void *context, char *frame, void *back) {
	sigset_t blocked;
	ucontext_t *interrupted = context;

	CHILD_CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0);
	say("%s: signal %d, %s stack, blocked %lx, before %lx, context at %ld, return %s", name, signal,
	    frame >= alternate && frame < alternate + sizeof alternate ? "alternate" : "same", bits_of(&blocked),
	    bits_of(&interrupted->uc_sigmask), (long)((char *)context - frame),
	    back == restorer ? "to the kernel" : "elsewhere");
	if (info && info->si_code > 0)
		say(", code %d, byte %ld\n", info->si_code, (long)((char *)info->si_addr - area));
	else if (info)
		say(", code %d, from %s\n", info->si_code, info->si_pid == getpid() ? "this process" : "elsewhere");
	else
		say("\n");
	mprotect(area, area_size, PROT_READ | PROT_WRITE);
	errno = 99;
}

void full(int signal, siginfo_t *info, void *context) {
	say_call("full", signal, info, context, __builtin_frame_address(0),
	         __builtin_extract_return_addr(__builtin_return_address(0)));
}

/* What its caller gave it besides the signal is there by chance: on these machines, the same as for the
 * other kind. */
void plain(int signal) {
	say("plain: signal %d, %s stack, return %s\n", signal,
	    (char *)__builtin_frame_address(0) >= alternate &&
	            (char *)__builtin_frame_address(0) < alternate + sizeof alternate ?
	        "alternate" :
	        "same",
	    __builtin_extract_return_addr(__builtin_return_address(0)) == restorer ? "to the kernel" :
	                                                                             "elsewhere");
	mprotect(area, area_size, PROT_READ | PROT_WRITE);
	errno = 99;
}

void say_last(int signal) {
	(void)signal;
	say("last words\n");
}
