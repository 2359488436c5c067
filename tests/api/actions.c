/* A program's handlers of SIGSEGV and SIGBUS run as it asked for, and it sees its own actions, although Arenal has a handler of its own
 * from the first guarded block on.
 *
 * Each case is a run of this program by itself that writes down what it sees: once on libc's malloc, and then with the library, where the
 * first guarded block comes before everything, or after the case has set its handlers, in this or in another thread, or never; alone, and
 * with another library that stands between programs and sigaction, on either side. All must write the same and end alike. */
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

/* Past stdio: handlers write, too. */
#define say(...) dprintf(STDOUT_FILENO, __VA_ARGS__)

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

/* Cases say where they are: "first", "later". */
static const char *moment;

static void at(const char *where) {
	pthread_t thread;

	if (strcmp(moment, where) == 0)
		guard_a_block();
	if (strcmp(moment, "thread") == 0 && strcmp(where, "later") == 0) {
		CHILD_CHECK(pthread_create(&thread, NULL, guard_in_thread, NULL) == 0);
		CHILD_CHECK(pthread_join(thread, NULL) == 0);
	}
}

/* ---- what is seen ---- */

static void one(int signal) { (void)signal; }
static void two(int signal) { (void)signal; }
static void full(int signal, siginfo_t *info, void *context);
static void plain(int signal);

static const char *name_of(sighandler_t handler) {
	return handler == SIG_DFL ? "default" : handler == SIG_IGN ? "ignore" : handler == SIG_ERR ? "error" :
	       handler == SIG_HOLD ? "hold" : handler == one ? "one" : handler == two ? "two" : handler == plain ? "plain" :
	       (void *)handler == (void *)full ? "full" : "another";
}

static unsigned long bits_of(const sigset_t *set) {
	unsigned long bits = 0;

	for (int i = 1; i <= 64; i++)
		bits |= (unsigned long)(sigismember(set, i) == 1) << (i - 1);
	return bits;
}

static void say_action(const char *what, const struct sigaction *action) {
	say("%s: %s, flags %x, mask %lx%s\n", what, name_of(action->sa_handler), action->sa_flags, bits_of(&action->sa_mask),
	    action->sa_restorer ? ", restorer" : "");
}

static void ask(int signal) {
	struct sigaction action = { 0 };

	CHILD_CHECK(sigaction(signal, NULL, &action) == 0);
	say_action("asked", &action);
}

static void set(int signal, void *handler, int flags, unsigned long mask) {
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags }, earlier = { 0 };

	memcpy(&action.sa_mask, &mask, sizeof mask);
	CHILD_CHECK(sigaction(signal, &action, &earlier) == 0);
	say_action("earlier", &earlier);
	ask(signal);
}

/* ---- cases: what a program sees ---- */

#define UNKNOWN_FLAGS 0x15570460 /* and SA_UNSUPPORTED, by which a program finds out what the kernel knows */

static void actions(void) {
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

/* What programs of today get warnings for. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
sighandler_t bsd_signal(int signal, sighandler_t handler);

struct vector {
	sighandler_t handler;
	int mask, flags;
};

static void older_functions(void) {
	static const int signals[] = { SIGSEGV, SIGBUS, SIGUSR2 };
	sighandler_t (*old_sysv)(int, sighandler_t) = (sighandler_t (*)(int, sighandler_t))dlsym(RTLD_DEFAULT, "__sysv_signal");
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

/* ---- cases: how handlers run ---- */

static char *area; /* not accessible until a handler makes it so */
static size_t area_size = 65536;
static char alternate[65536];
static void *restorer;

static void make_area(void) {
	area = mmap(NULL, area_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHILD_CHECK(area != MAP_FAILED);
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
	CHILD_CHECK(sigaltstack(&stack, NULL) == 0);
}

NOINLINE static void touch(char *address) { *(volatile char *)address = 1; }

/* All that a handler can see of how it was called. The context lies at a fixed distance above the handler's frame: any frame in between
 * would show. */
static void say_call(const char *name, int signal, siginfo_t *info, void *context, char *frame, void *back) {
	sigset_t blocked;
	ucontext_t *interrupted = context;

	CHILD_CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0);
	say("%s: signal %d, %s stack, blocked %lx, before %lx, context at %ld, return %s", name, signal,
	    frame >= alternate && frame < alternate + sizeof alternate ? "alternate" : "same", bits_of(&blocked),
	    bits_of(&interrupted->uc_sigmask), (long)((char *)context - frame), back == restorer ? "to the kernel" : "elsewhere");
	if (info && info->si_code > 0)
		say(", code %d, byte %ld\n", info->si_code, (long)((char *)info->si_addr - area));
	else if (info)
		say(", code %d, from %s\n", info->si_code, info->si_pid == getpid() ? "this process" : "elsewhere");
	else
		say("\n");
	mprotect(area, area_size, PROT_READ | PROT_WRITE);
	errno = 99;
}

static void full(int signal, siginfo_t *info, void *context) {
	say_call("full", signal, info, context, __builtin_frame_address(0), __builtin_extract_return_addr(__builtin_return_address(0)));
}

/* What its caller gave it besides the signal is there by chance: on these machines, the same as for the other kind. */
static void plain(int signal) {
	say("plain: signal %d, %s stack, return %s\n", signal,
	    (char *)__builtin_frame_address(0) >= alternate && (char *)__builtin_frame_address(0) < alternate + sizeof alternate
	        ? "alternate" : "same",
	    __builtin_extract_return_addr(__builtin_return_address(0)) == restorer ? "to the kernel" : "elsewhere");
	mprotect(area, area_size, PROT_READ | PROT_WRITE);
	errno = 99;
}

static void handlers(void) {
	static const int flags[] = { 0, SA_ONSTACK, SA_NODEFER, SA_RESTART, SA_ONSTACK | SA_NODEFER | SA_RESTART };
	sigset_t usr1;
	struct sigaction action;

	make_area();
	at("first");
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHILD_CHECK(sigprocmask(SIG_BLOCK, &usr1, NULL) == 0);
	for (size_t i = 0; i < 2 * COUNT_OF(flags); i++) {
		const int f = flags[i / 2];
		set(SIGSEGV, i % 2 ? (void *)full : (void *)plain, i % 2 ? f | SA_SIGINFO : f, i << 1);
		CHILD_CHECK(sigaction(SIGSEGV, NULL, &action) == 0);
		restorer = (void *)action.sa_restorer;
		at("later");
		CHILD_CHECK(mprotect(area, area_size, PROT_NONE) == 0);
		touch(area + i);
		say("errno as the handler left it: %d\n", errno == 99);
		raise(SIGSEGV);
		kill(getpid(), SIGSEGV);
		ask(SIGSEGV);
	}
	/* An address that the processor does not tell. */
	CHILD_CHECK(mprotect(area, area_size, PROT_NONE) == 0);
	sigqueue(getpid(), SIGSEGV, (union sigval){ .sival_int = 5 });
}

static void buses(void) {
	FILE *file = tmpfile();
	struct sigaction action;

	at("first");
	set(SIGBUS, full, SA_SIGINFO | SA_ONSTACK, 0);
	at("later");
	CHILD_CHECK(sigaction(SIGBUS, NULL, &action) == 0);
	restorer = (void *)action.sa_restorer;
	raise(SIGBUS);
	signal(SIGBUS, SIG_DFL);
	char *end = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
	CHILD_CHECK(end != MAP_FAILED);
	touch(end); /* there is no such page in the file */
}

/* The stack of a handler without SA_ONSTACK is the thread's, with all its room. */
static void use_much(int signal, siginfo_t *info, void *context) {
	volatile char big[100000];
	(void)signal, (void)info, (void)context;

	memset((void *)big, 1, sizeof big);
	mprotect(area, area_size, PROT_READ | PROT_WRITE);
}

static void big_handler(void) {
	at("first");
	make_area();
	set(SIGSEGV, use_much, SA_SIGINFO, 0);
	at("later");
	touch(area);
	say("%d\n", area[0]);
}

static int waits[2];

static void *interrupt(void *thread) {
	char state = 0, path[64], text[512];

	/* Until it sleeps in the read. */
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
	while (state != 'S') {
		FILE *file = fopen(path, "r");
		CHILD_CHECK(file && fgets(text, sizeof text, file));
		fclose(file);
		state = strrchr(text, ')')[2];
		sched_yield();
	}
	pthread_kill(*(pthread_t *)thread, SIGSEGV);
	/* Who goes on, reads this. Who was interrupted, is not there any more. */
	while (atomic_load((atomic_int *)&waits[1]) == 0)
		sched_yield();
	return NULL;
}

static int reads[2];

static void interrupted(int signal) {
	(void)signal;
	say("interrupted\n");
	CHILD_CHECK(write(reads[1], "x", 1) == 1);
	atomic_store((atomic_int *)&waits[1], 1);
}

/* SA_RESTART, and siginterrupt. */
static void system_calls(void) {
	char byte;
	pthread_t own = pthread_self(), other;

	CHILD_CHECK(pipe(reads) == 0);
	at("first");
	for (int i = 0; i < 4; i++) {
		waits[1] = 0;
		signal(SIGSEGV, i == 3 ? SIG_IGN : interrupted);
		at("later");
		siginterrupt(SIGSEGV, i % 2);
		if (i == 3)
			CHILD_CHECK(signal(SIGSEGV, interrupted) == SIG_IGN);
		CHILD_CHECK(pthread_create(&other, NULL, interrupt, &own) == 0);
		errno = 0;
		ssize_t got = read(reads[0], &byte, 1);
		say("%zd %d\n", got, errno);
		if (got != 1)
			CHILD_CHECK(read(reads[0], &byte, 1) == 1);
		CHILD_CHECK(pthread_join(other, NULL) == 0);
	}
}

static sigjmp_buf back;

static void jump(int signal) { siglongjmp(back, signal); }

static void jumps(void) {
	volatile int count = 0;

	make_area();
	at("first");
	for (volatile int i = 0; i < 100; i++) {
		struct sigaction action = { .sa_handler = jump, .sa_flags = i % 3 ? SA_ONSTACK : SA_NODEFER };
		CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
		if (i == 50)
			at("later");
		if (sigsetjmp(back, 1) == 0)
			touch(area);
		else
			count++;
	}
	say("%d\n", count);
	/* Also out of sigaction. */
	if (sigsetjmp(back, 1) == 0)
		sigaction(SIGSEGV, (struct sigaction *)area, NULL);
	else
		say("no address\n");
	if (sigsetjmp(back, 1) == 0)
		sigaction(SIGSEGV, NULL, (struct sigaction *)area);
	else
		say("no address\n");
	ask(SIGSEGV);
	set(SIGSEGV, one, 0, 0);
}

/* ---- cases: the end ---- */

static void no_handler(void) {
	make_area();
	set(SIGSEGV, SIG_DFL, SA_RESTART, 0);
	at("first");
	at("later");
	touch(area);
}

static void sent_to_nobody(void) {
	at("first");
	at("later");
	kill(getpid(), SIGSEGV);
	say("lives\n");
}

static void ignored(void) {
	at("first");
	signal(SIGSEGV, SIG_IGN);
	at("later");
	raise(SIGSEGV);
	ask(SIGSEGV);
	make_area();
	touch(area);
}

static void say_last(int signal) {
	(void)signal;
	say("last words\n");
}

static void once(void) {
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

static void once_nested(void) {
	make_area();
	at("first");
	struct sigaction action = { .sa_handler = raise_again, .sa_flags = (int)SA_RESETHAND | SA_NODEFER | SA_ONSTACK };
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	at("later");
	touch(area);
}

static void fault_again(int signal) {
	say("handler %d\n", signal);
	touch(area);
	say("lives\n");
}

static void nested(void) {
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

static void puts_back(void) {
	make_area();
	at("first");
	struct sigaction action = { .sa_handler = put_back, .sa_flags = SA_ONSTACK | (int)SA_RESETHAND };
	CHILD_CHECK(sigaction(SIGSEGV, &action, &before) == 0);
	at("later");
	touch(area);
}

static void puts_back_and_raises(void) {
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

static void chains(void) {
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

/* ---- cases: several threads ---- */

static atomic_int *calls; /* shared with children */

static void count_call(int signal) {
	(void)signal;
	atomic_fetch_add(calls, 1);
	usleep(1000);
	_exit(0);
}

static pthread_barrier_t together;

static void *fault_together(void *unused) {
	pthread_barrier_wait(&together);
	touch(area);
	return unused;
}

/* A handler that is to run once does, whichever of the threads it is. */
static void once_of_many(void) {
	make_area();
	calls = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	at("first");
	int most = 0;
	for (int round = 0; round < 30; round++) {
		atomic_store(calls, 0);
		pid_t child = fork();
		CHILD_CHECK(child >= 0);
		if (child == 0) {
			pthread_t threads[3];
			struct sigaction action = { .sa_handler = count_call, .sa_flags = (int)SA_RESETHAND };
			CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
			at("later");
			CHILD_CHECK(pthread_barrier_init(&together, NULL, COUNT_OF(threads)) == 0);
			for (size_t i = 0; i < COUNT_OF(threads); i++)
				CHILD_CHECK(pthread_create(&threads[i], NULL, fault_together, NULL) == 0);
			for (;;)
				pause();
		}
		int status;
		CHILD_CHECK(waitpid(child, &status, 0) == child);
		most = atomic_load(calls) > most ? atomic_load(calls) : most;
	}
	say("%d\n", most);
}

static atomic_bool stop;

static void open_page(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	mprotect((void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095), 4096, PROT_READ | PROT_WRITE);
}

static void *change_actions(void *unused) {
	for (int i = 0; !atomic_load(&stop); i++) {
		struct sigaction action = { .sa_sigaction = open_page, .sa_flags = SA_SIGINFO | (i % 2 ? SA_RESTART : 0) }, earlier;
		CHILD_CHECK(sigaction(SIGSEGV, i % 3 ? &action : NULL, &earlier) == 0);
		CHILD_CHECK(earlier.sa_sigaction == open_page);
	}
	return unused;
}

static void ask_in_handler(int signal) {
	struct sigaction action;

	(void)signal;
	CHILD_CHECK(sigaction(SIGSEGV, NULL, &action) == 0 && action.sa_sigaction == open_page);
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

static void *send(void *thread) {
	while (!atomic_load(&stop)) {
		pthread_kill(*(pthread_t *)thread, SIGUSR1);
		usleep(200);
	}
	return NULL;
}

/* Actions are set while others fault, by handlers that come at any moment, and while others fork. */
static void all_at_once(void) {
	enum { PAGES = 2000, PAGE = 4096 };
	pthread_t own = pthread_self(), changer, sender;

	area_size = (size_t)PAGES * PAGE;
	make_area();
	at("first");
	struct sigaction action = { .sa_sigaction = open_page, .sa_flags = SA_SIGINFO };
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	signal(SIGUSR1, ask_in_handler);
	at("later");
	CHILD_CHECK(pthread_create(&changer, NULL, change_actions, NULL) == 0);
	CHILD_CHECK(pthread_create(&sender, NULL, send, &own) == 0);
	for (int i = 0; i < PAGES; i++) {
		touch(area + (size_t)i * PAGE);
		CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
		free(malloc((size_t)i * 50));
		if (i % 200 != 0)
			continue;
		pid_t child = fork();
		CHILD_CHECK(child >= 0);
		if (child == 0) {
			CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
			mprotect(area, PAGE, PROT_NONE);
			touch(area);
			_exit(0);
		}
		int status;
		CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	atomic_store(&stop, true);
	CHILD_CHECK(pthread_join(changer, NULL) == 0 && pthread_join(sender, NULL) == 0);
	say("done\n");
}

/* ---- cases: children ---- */

static void exit_with_3(int signal) {
	(void)signal;
	_exit(3);
}

static void say_end(pid_t child) {
	int status;

	CHILD_CHECK(child > 0 && waitpid(child, &status, 0) == child);
	say("child: %s %d\n", WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* The child has the memory, but not the actions. */
static void vfork_children(void) {
	make_area();
	at("first");
	set(SIGSEGV, say_last, 0, 4);
	at("later");
	pid_t child = vfork();
	if (child == 0) {
		struct sigaction action = { .sa_handler = exit_with_3 }, earlier;
		if (sigaction(SIGSEGV, NULL, &earlier) != 0 || earlier.sa_handler != say_last)
			_exit(5);
		sigaction(SIGSEGV, &action, NULL);
		touch(area);
		_exit(4);
	}
	say_end(child);
	ask(SIGSEGV);
	child = vfork();
	if (child == 0) {
		if (signal(SIGSEGV, SIG_DFL) != say_last)
			_exit(5);
		touch(area);
		_exit(4);
	}
	say_end(child);
	ask(SIGSEGV);
	/* Its handler is used up there, not here. */
	set(SIGSEGV, exit_with_3, (int)SA_RESETHAND, 4);
	child = vfork();
	if (child == 0) {
		touch(area);
		_exit(4);
	}
	say_end(child);
	ask(SIGSEGV);
	touch(area);
}

static pid_t fork_by_clone(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static pid_t fork_without_handlers(void) { return _Fork(); }

static void fork_children(void) {
	static pid_t (*const ways[])(void) = { fork, fork_without_handlers, fork_by_clone };

	make_area();
	at("first");
	set(SIGSEGV, say_last, (int)SA_RESETHAND, 4);
	at("later");
	for (size_t i = 0; i < 3 * COUNT_OF(ways); i++) {
		pid_t child = ways[i / 3]();
		if (child == 0) {
			ask(SIGSEGV);
			if (i % 3 == 1)
				set(SIGSEGV, exit_with_3, 0, 0);
			if (i % 3 == 2)
				signal(SIGSEGV, SIG_DFL), kill(getpid(), SIGSEGV);
			touch(area);
			_exit(4);
		}
		say_end(child);
		ask(SIGSEGV);
	}
	touch(area);
}

static void asked_by_another(void) {
	ask(SIGSEGV);
	ask(SIGBUS);
}

extern char **environ;

static void say_spawned(const posix_spawnattr_t *attributes) {
	pid_t child;
	char *arguments[] = { "actions", "asked_by_another", "never", NULL };

	CHILD_CHECK(posix_spawn(&child, "/proc/self/exe", NULL, attributes, arguments, environ) == 0);
	say_end(child);
}

/* What is ignored stays ignored in programs that are started. */
static void other_programs(void) {
	posix_spawnattr_t attributes;
	sigset_t both;

	at("first");
	signal(SIGSEGV, SIG_IGN);
	signal(SIGBUS, one);
	at("later");
	say_spawned(NULL);
	sigemptyset(&both);
	sigaddset(&both, SIGSEGV);
	sigaddset(&both, SIGBUS);
	CHILD_CHECK(posix_spawnattr_init(&attributes) == 0);
	CHILD_CHECK(posix_spawnattr_setsigdefault(&attributes, &both) == 0);
	CHILD_CHECK(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF) == 0);
	say_spawned(&attributes);
	signal(SIGSEGV, SIG_DFL);
	say_spawned(NULL);
	say("%d\n", system("exit 3"));
	signal(SIGSEGV, SIG_IGN);
	execl("/proc/self/exe", "actions", "asked_by_another", "never", NULL);
}

/* ---- cases: who talks to the kernel directly ---- */

struct kernel_action {
	void *handler;
	unsigned long flags;
	void *restorer;
	unsigned long mask;
};

static void direct_calls(void) {
	struct sigaction own;
	struct kernel_action action, earlier;

	make_area();
	at("first");
	set(SIGSEGV, one, 0, 0);
	at("later");
	/* Its restorer is libc's: any has to be one. */
	CHILD_CHECK(sigaction(SIGSEGV, NULL, &own) == 0);
	action = (struct kernel_action){ (void *)full, SA_SIGINFO | (unsigned)own.sa_flags, (void *)own.sa_restorer, 0x10 };
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
static void others_see_changes(void) {
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

/* ---- running them ---- */

#define CASE(name) { #name, name }
static const struct {
	const char *name;
	void (*body)(void);
} cases[] = {
	CASE(actions), CASE(older_functions), CASE(handlers), CASE(buses), CASE(big_handler), CASE(system_calls), CASE(jumps),
	CASE(no_handler), CASE(sent_to_nobody), CASE(ignored), CASE(once), CASE(once_nested), CASE(nested), CASE(puts_back),
	CASE(puts_back_and_raises), CASE(chains), CASE(once_of_many), CASE(all_at_once), CASE(vfork_children), CASE(fork_children),
	CASE(asked_by_another), CASE(other_programs), CASE(direct_calls), CASE(others_see_changes),
};

static int run_case(const char *name) {
	for (size_t i = 0; i < COUNT_OF(cases); i++)
		if (strcmp(cases[i].name, name) == 0) {
			cases[i].body();
			return 0;
		}
	return 1;
}

static const char *const moments[] = { "first", "later", "thread", "never" };

/* On libc's malloc, the preloaded library is taken out of the environment. */
static const char *const on_libc[] = { "LD_PRELOAD", NULL };

static void run(struct outcome *outcome, const char *name, const char *when, const char *const changes[]) {
	run_program(outcome, (const char *const[]){ "/proc/self/exe", name, when, NULL }, changes, NULL);
	assert_string_equal(outcome->err, "");
}

static struct outcome expected, outcome;

static void expect_the_same(const char *name, const char *const changes[]) {
	for (size_t i = 0; i < COUNT_OF(moments); i++) {
		run(&outcome, name, moments[i], changes);
		if (outcome.status != expected.status || strcmp(outcome.out, expected.out) != 0)
			fail_msg("%s, guarded block %s, %s: ended with %d instead of %d and wrote:\n%s\ninstead of:\n%s", name, moments[i],
			         changes ? changes[0] : "alone", outcome.status, expected.status, outcome.out, expected.out);
	}
}

static void same_as_on_libc(void **state) {
	char behind[4096], in_front[4096];
	const char *name = *state, *library = getenv("LD_PRELOAD");

	run(&expected, name, "never", on_libc);
	expect_the_same(name, NULL);
	snprintf(behind, sizeof behind, "LD_PRELOAD=%s:%s", library ? library : "", ACTIONS_SHIM);
	snprintf(in_front, sizeof in_front, "LD_PRELOAD=%s:%s", ACTIONS_SHIM, library ? library : "");
	expect_the_same(name, (const char *const[]){ behind, NULL });
	expect_the_same(name, (const char *const[]){ in_front, NULL });
}

/* What a debugger, and a core, are told last before the process ends. */
static siginfo_t last_signal(const char *name, const char *when, const char *const changes[]) {
	siginfo_t last = { 0 };
	pid_t child = fork();

	if (child == 0) {
		if (changes)
			unsetenv(changes[0]);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execl("/proc/self/exe", "actions", name, when, NULL);
		_exit(127);
	}
	for (int status; waitpid(child, &status, 0) == child && WIFSTOPPED(status);) {
		int signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		if (signal)
			assert_int_equal(ptrace(PTRACE_GETSIGINFO, child, 0, &last), 0);
		assert_int_equal(ptrace(PTRACE_CONT, child, 0, signal), 0);
	}
	if (last.si_code <= 0)
		assert_int_equal(last.si_pid, child); /* it sent it to itself */
	return last;
}

static void debuggers_see_the_same(void **state) {
	static const char *const endings[] = { "no_handler", "sent_to_nobody", "ignored", "once", "once_nested", "buses" };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(endings); i++) {
		const siginfo_t on_its_own = last_signal(endings[i], "never", on_libc);
		for (size_t k = 0; k < COUNT_OF(moments); k++) {
			const siginfo_t info = last_signal(endings[i], moments[k], NULL);
			assert_int_equal(info.si_signo, on_its_own.si_signo);
			assert_int_equal(info.si_code, on_its_own.si_code);
			assert_int_equal((uintptr_t)info.si_addr % 4096, info.si_code > 0 ? (uintptr_t)on_its_own.si_addr % 4096 :
			                                                                    (uintptr_t)info.si_addr % 4096);
		}
	}
}

static int run_without_changes(const char *name) {
	moment = "never";
	return run_case(name);
}

int main(int count, char **arguments) {
	if (count == 2)
		return run_without_changes(arguments[1]);
	if (count == 3) {
		moment = arguments[2];
		return run_case(arguments[1]);
	}
	struct CMUnitTest tests[COUNT_OF(cases) + 1];
	for (size_t i = 0; i < COUNT_OF(cases); i++)
		tests[i] = (struct CMUnitTest){ .name = cases[i].name, .test_func = same_as_on_libc, .initial_state = (void *)cases[i].name };
	tests[COUNT_OF(cases)] = (struct CMUnitTest)cmocka_unit_test(debuggers_see_the_same);
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
