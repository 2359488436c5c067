/* Faults and signals that are not Arenal's, and handlers of the program's beside its own. */
#include "guard.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void exit_with_7(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	_exit(info->si_addr == (void *)8 ? 7 : 8);
}

static void exit_with_9(int signal) {
	_exit(signal == SIGSEGV ? 9 : 8);
}

/* Before the first guarded block. */
static void set_action(struct sigaction action) {
	struct sigaction of_the_library;

	CHILD_CHECK(sigaction(SIGSEGV, NULL, &of_the_library) == 0);
	CHILD_CHECK(of_the_library.sa_handler == SIG_DFL);
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

void own_fault(void *unused) {
	(void)unused;
	set_action((struct sigaction){ .sa_sigaction = exit_with_7, .sa_flags = SA_SIGINFO });
	guarded_block(100, ANY); /* now the library's handler comes before ours */
	write_here((char *)hidden(8));
}

void own_fault_plain(void *unused) {
	(void)unused;
	set_action((struct sigaction){ .sa_handler = exit_with_9 });
	guarded_block(100, ANY);
	write_here((char *)hidden(8));
}

void fault_without_handler(void *unused) {
	(void)unused;
	guarded_block(100, ANY);
	write_here((char *)hidden(8));
}

void sent_signal(void *unused) {
	(void)unused;
	guarded_block(100, ANY);
	raise(SIGSEGV);
}

void ignored_signal(void *unused) {
	(void)unused;
	set_action((struct sigaction){ .sa_handler = SIG_IGN });
	guarded_block(100, ANY);
	raise(SIGSEGV);
	_exit(5);
}

void report_then_own_handler(void *unused) {
	set_action((struct sigaction){ .sa_handler = exit_with_9 });
	read_after_free(unused);
}

/* It does not matter that the library's handler was there first; nor what was asked for in between. */
void report_then_later_handler(void *unused) {
	guarded_block(100, ANY);
	CHILD_CHECK(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
	CHILD_CHECK(signal(SIGSEGV, exit_with_9) == SIG_IGN);
	read_after_free(unused);
}

static void *report_thread(void *unused) {
	report_then_later_handler(unused);
	return unused;
}

void report_in_thread(void *unused) {
	pthread_t thread;

	CHILD_CHECK(pthread_create(&thread, NULL, report_thread, unused) == 0);
	pthread_join(thread, NULL);
}

/* The child of a process with one thread sets a handler of its own. */
void report_in_child(void *unused) {
	guarded_block(100, ANY);
	set_action((struct sigaction){ .sa_handler = SIG_DFL });
	pid_t child = fork();
	CHILD_CHECK(child >= 0);
	if (child == 0) {
		CHILD_CHECK(signal(SIGSEGV, exit_with_9) == SIG_DFL);
		read_after_free(unused);
	}
	int status;
	CHILD_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
	_exit(WEXITSTATUS(status));
}
