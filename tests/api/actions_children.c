/* Actions of children, by vfork, fork and clone, and of programs that are started. */
#include "actions.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void exit_with_3(int signal) {
	(void)signal;
	_exit(3);
}

static void say_end(pid_t child) {
	int status;

	CHILD_CHECK(child > 0 && waitpid(child, &status, 0) == child);
	say("child: %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
	    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* The child has the memory, but not the actions. */
void vfork_children(void) {
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

void fork_children(void) {
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

void asked_by_another(void) {
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
void other_programs(void) {
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
