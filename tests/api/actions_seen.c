/* What a program sees of its own actions: by each of libc's functions, by the kernel's call, beside other
 * libraries. */
#include "actions.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* ---- cases: what a program sees ---- */

#define UNKNOWN_FLAGS 0x15570460 /* and SA_UNSUPPORTED, by which a program finds out what the kernel knows */

void actions(void) {
	static const int signals[] = { SIGSEGV, SIGBUS, SIGUSR1 };

	at("first");
	for (size_t i = 0; i < COUNT_OF(signals); i++) {
		int s = signals[i];
		ask(s);
		set(s, one, 0, 0);
		set(s, two, SA_SIGINFO | SA_RESTART, 0x5a5a5a5a);
		at("later");
		ask(s);
		set(s, two, SA_ONSTACK | SA_NODEFER, ~0ul);
		set(s, SIG_IGN, SA_RESTART | SA_ONSTACK, 1);
		set(s, one, (int)(SA_RESETHAND | SA_NODEFER | SA_ONSTACK | SA_SIGINFO), 0x100);
		set(s, one, UNKNOWN_FLAGS, 0);
		set(s, SIG_DFL, SA_NODEFER | SA_RESTART, 2);
		set(s, SIG_DFL, 0, 0);
		struct sigaction both = { .sa_handler = two, .sa_flags = SA_RESTART };
		CHILD_CHECK(sigaction(s, &both, (struct sigaction *)hidden((size_t)&both)) == 0);
		say_action("both", &both);
		ask(s);
		CHILD_CHECK(sigaction(s, NULL, NULL) == 0);
	}
	errno = 0;
	say("%d %d %d\n", sigaction(0, NULL, NULL), sigaction(65, NULL, NULL), errno);
	errno = 0;
	struct sigaction any = { .sa_handler = one };
	say("%d %d\n", sigaction(SIGKILL, &any, NULL), errno);
}

/* Its header has forgotten it. */
sighandler_t bsd_signal(int signal, sighandler_t handler);

struct vector {
	sighandler_t handler;
	int mask, flags;
};

void older_functions(void) {
	static const int signals[] = { SIGSEGV, SIGBUS, SIGUSR2 };
	sighandler_t (*old_sysv)(int, sighandler_t) =
		(sighandler_t(*)(int, sighandler_t))dlsym(RTLD_DEFAULT, "__sysv_signal");
	int (*old_sigvec)(int, const struct vector *, struct vector *) =
		(int (*)(int, const struct vector *, struct vector *))dlvsym(RTLD_NEXT, "sigvec", "GLIBC_2.2.5");

	if (dlsym(RTLD_DEFAULT, "arenal_version") && old_sigvec) /* where libc has it for old programs only, ours is by name */
		old_sigvec = (int (*)(int, const struct vector *, struct vector *))dlsym(RTLD_DEFAULT, "sigvec");
	at("first");
	for (size_t i = 0; i < COUNT_OF(signals); i++) {
		int s = signals[i];
		sigset_t blocked;
		say("signal %s\n", name_of(signal(s, one))), ask(s);
		at("later");
		say("signal %s\n", name_of(signal(s, two))), ask(s);
		say("bsd_signal %s\n", name_of(bsd_signal(s, SIG_IGN))), ask(s);
		say("ssignal %s\n", name_of(ssignal(s, one))), ask(s);
		say("sysv_signal %s\n", name_of(sysv_signal(s, two))), ask(s);
		say("__sysv_signal %s\n", name_of(old_sysv(s, one))), ask(s);
		errno = 0;
		say("signal %s %d\n", name_of(signal(s, SIG_ERR)), errno), ask(s);
		say("siginterrupt %d\n", siginterrupt(s, 1)), ask(s);
		say("signal %s\n", name_of(signal(s, two))), ask(s);
		say("siginterrupt %d\n", siginterrupt(s, 0)), ask(s);
		say("signal %s\n", name_of(signal(s, one))), ask(s);
		say("sigset %s\n", name_of(sigset(s, two))), ask(s);
		say("sigset %s\n", name_of(sigset(s, SIG_HOLD))), ask(s);
		CHILD_CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0);
		say("blocked %lx\n", bits_of(&blocked));
		say("sigset %s\n", name_of(sigset(s, SIG_HOLD))), ask(s);
		say("sigset %s\n", name_of(sigset(s, SIG_DFL))), ask(s);
		CHILD_CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0);
		say("blocked %lx\n", bits_of(&blocked));
		say("sigignore %d\n", sigignore(s)), ask(s);
		for (int flags = 0; flags < 8 && old_sigvec; flags++) {
			struct vector vector = { flags % 2 ? one : two, 1 << flags | 1 << 31, flags }, earlier;
			say("sigvec %d", old_sigvec(s, &vector, &earlier));
			say(" %s %x %x\n", name_of(earlier.handler), earlier.mask, earlier.flags), ask(s);
		}
	}
	errno = 0;
	say("%s %d %d\n", name_of(signal(0, one)), sigignore(100), errno);
}

/* ---- cases: who talks to the kernel directly ---- */

struct kernel_action {
	void *handler;
	unsigned long flags;
	void *restorer;
	unsigned long mask;
};

void direct_calls(void) {
	struct sigaction own;
	struct kernel_action action, earlier;

	make_area();
	at("first");
	set(SIGSEGV, one, 0, 0);
	at("later");
	/* Its restorer is libc's: any has to be one. */
	CHILD_CHECK(sigaction(SIGSEGV, NULL, &own) == 0);
	action = (struct kernel_action){ (void *)full, SA_SIGINFO | (unsigned)own.sa_flags,
		                             (void *)own.sa_restorer, 0x10 };
	restorer = action.restorer;
	CHILD_CHECK(syscall(SYS_rt_sigaction, SIGSEGV, &action, &earlier, 8) == 0);
	ask(SIGSEGV);
	touch(area);
	/* One that others set through libc is theirs alone. */
	set(SIGSEGV, two, SA_NODEFER, 0);
	CHILD_CHECK(syscall(SYS_rt_sigaction, SIGSEGV, NULL, &action, 8) == 0);
	say("%s\n", name_of((sighandler_t)action.handler));
	/* And what was there before can be put back, either way. */
	CHILD_CHECK(syscall(SYS_rt_sigaction, SIGSEGV, &earlier, NULL, 8) == 0);
	ask(SIGSEGV);
	own.sa_handler = (sighandler_t)earlier.handler;
	own.sa_flags = (int)earlier.flags;
	CHILD_CHECK(sigaction(SIGSEGV, &own, NULL) == 0);
	raise(SIGSEGV);
	set(SIGSEGV, SIG_DFL, 0, 0);
	touch(area);
}

/* ---- cases: beside other libraries ---- */

/* One that looks after handlers itself has to see each change, once. */
void others_see_changes(void) {
	int (*count)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "shim_calls");
	struct sigaction action = { .sa_handler = one }, earlier;

	at("first");
	const int before_all = count ? count() : 0;
	signal(SIGSEGV, two);
	at("later");
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	CHILD_CHECK(sigaction(SIGSEGV, &action, &earlier) == 0);
	CHILD_CHECK(signal(SIGSEGV, SIG_DFL) == one);
	ask(SIGSEGV);
	say("%d changes\n", count ? count() - before_all : 4);
}
