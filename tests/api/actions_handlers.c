/* How handlers run: their stack, mask, flags and interrupted calls; and in several threads. */
#include "actions.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

void handlers(void) {
	static const int flags[] = { 0, SA_ONSTACK, SA_NODEFER, SA_RESTART,
		                         SA_ONSTACK | SA_NODEFER | SA_RESTART };
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

void buses(void) {
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

void big_handler(void) {
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
void system_calls(void) {
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

void jumps(void) {
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
void once_of_many(void) {
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
		struct sigaction action = { .sa_sigaction = open_page,
			                        .sa_flags = SA_SIGINFO | (i % 2 ? SA_RESTART : 0) },
						 earlier;
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
void all_at_once(void) {
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
