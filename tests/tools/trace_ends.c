/* A program that ends in one way or another, for the tests of the trace:  trace_ends MODE. Each process allocates blocks of a size of its own,
 * so many that it takes several chunks. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT 8000

static char *self;

static void take(size_t size) {
	for (int i = 0; i < COUNT; i++) free(malloc(size));
}

static void await(pid_t child, int status) {
	int found;
	if (waitpid(child, &found, 0) != child || found != status) abort();
}

/* As libc's fork, but nobody hears of it. */
static pid_t clone_child(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

static void not_executed(void) {
	for (int i = 0; i < 3; i++)
		if (execl("/no/such/program", "program", (char *)NULL) != -1 || errno != ENOENT) abort();
}

/* The file may not be as long as it is. */
static void limited(void) {
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 1 << 20, 1 << 20 });
	take(222);
}

/* A child that was not the first to go tries in vain, and goes on when its parent has ended. */
static void outlives_failure(void) {
	if (fork() > 0) _exit(0);
	take(222);
	not_executed();
	while (getppid() == getpgrp()) usleep(1000);
	take(333);
	exit(7);
}

/* What libc writes behind the last function that is called by exit. */
static void killed_after_exit(void) {
	int ends[2];
	if (pipe(ends) != 0) abort();
	dup2(ends[1], STDOUT_FILENO);
	close(ends[0]);
	close(ends[1]);
	signal(SIGPIPE, SIG_DFL);
	printf("nobody reads this");
	exit(0);
}

static void *last(void *main_thread) {
	pthread_join(*(pthread_t *)main_thread, NULL);
	take(222);
	return NULL;
}

static void main_ends_first(void) {
	static pthread_t main_thread;
	pthread_t thread;
	main_thread = pthread_self();
	if (pthread_create(&thread, NULL, last, &main_thread) != 0) abort();
	pthread_exit(NULL);
}

static void by_vfork(void) {
	pid_t child = vfork();
	if (child == 0) _exit(9);
	await(child, 9 << 8);
	child = vfork();
	if (child == 0) {
		execl("/no/such/program", "program", (char *)NULL);
		execl("/bin/sh", "sh", "-c", "exit 8", (char *)NULL);
		_exit(1);
	}
	await(child, 8 << 8);
	char *const words[] = { "sh", "-c", "exit 7", NULL };
	if (posix_spawn(&child, "/bin/sh", NULL, NULL, words, environ) != 0) abort();
	await(child, 7 << 8);
	take(222);
}

/* Children that end in all ways, while their parent lives. */
static void children(void) {
	for (int by_clone = 0; by_clone < 2; by_clone++)
		for (int way = 0; way < 4; way++) {
			const pid_t child = by_clone ? clone_child() : fork();
			if (child > 0) {
				static const int status[] = { SIGKILL, 3 << 8, 4 << 8, 0 };
				await(child, status[way]);
				continue;
			}
			take((size_t)(222 + 4 * by_clone + way));
			if (way == 0) raise(SIGKILL);
			if (way == 1) exit(3);
			if (way == 2) _exit(4);
			execl("/bin/sh", "sh", "-c", ":", (char *)NULL);
		}
	take(333);
}

/* A daemon by two forks, which ends when there is nobody else. */
static void daemon_by_hand(void) {
	if (fork() > 0) _exit(0);
	setsid();
	if (fork() > 0) raise(SIGKILL);
	while (getppid() != 1 && getppid() == getsid(0)) usleep(1000);
	take(222);
}

static void waits(void) {
	setvbuf(stdout, NULL, _IONBF, 0);
	puts("ready");
	while (getchar() == 'x') {
		take(222);
		puts("done");
	}
}

/* The child of a process that has gone. */
static void left(void) {
	if (fork() > 0) _exit(0);
	take(222);
	waits();
}

int main(int count, char **words) {
	const char *mode = count > 1 ? words[1] : "";
	self = words[0];
	take(111);
	if (strcmp(mode, "executed") == 0) puts("executed");
	if (strcmp(mode, "execv") == 0) execv(self, (char *[]){ self, "executed", NULL });
	if (strcmp(mode, "not executed") == 0) not_executed(), take(222);
	if (strcmp(mode, "limited") == 0) limited();
	if (strcmp(mode, "outlives failure") == 0) outlives_failure();
	if (strcmp(mode, "exit") == 0) exit(3);
	if (strcmp(mode, "_exit") == 0) _exit(4);
	if (strcmp(mode, "_Exit") == 0) _Exit(5);
	if (strcmp(mode, "quick_exit") == 0) quick_exit(6);
	if (strcmp(mode, "kill") == 0) raise(SIGKILL);
	if (strcmp(mode, "pthread_exit") == 0) main_ends_first();
	if (strcmp(mode, "vfork") == 0) by_vfork();
	if (strcmp(mode, "children") == 0) children();
	if (strcmp(mode, "by hand") == 0) daemon_by_hand();
	if (strcmp(mode, "waits") == 0) waits();
	if (strcmp(mode, "left") == 0) left();
	if (strcmp(mode, "after exit") == 0) killed_after_exit();
	if (strcmp(mode, "daemon") == 0) {
		if (daemon(1, 1) != 0) abort();
		take(222);
	}
	return 0;
}
