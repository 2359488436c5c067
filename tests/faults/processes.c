/* Processes: the ways to start one, to load a library, to end; and systems that forbid calls. */
#include "all_kinds.h"
#include "stamp.h"
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static int exit_status(pid_t child) {
	int status;

	CHILD_CHECK(waitpid(child, &status, 0) == child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *const shell[] = { "/bin/sh", "-c", "exit 7", NULL };
extern char **environ;

static atomic_bool started_all;

static void *start_programs(void *unused) {
	for (int i = 0; i < 20; i++) {
		pid_t child = vfork();
		if (child == 0) {
			execv(shell[0], shell);
			_exit(127);
		}
		CHILD_CHECK(child > 0 && exit_status(child) == 7);
		CHILD_CHECK(posix_spawn(&child, shell[0], NULL, NULL, shell, environ) == 0);
		CHILD_CHECK(exit_status(child) == 7);
	}
	atomic_store(&started_all, true);
	return unused;
}

/* The child of a vfork shares the memory, and its thread-local storage, with a parent that waits. */
static void start_beside_allocation(void *unused) {
	pthread_t thread;

	(void)unused;
	CHILD_CHECK(pthread_create(&thread, NULL, start_programs, NULL) == 0);
	while (!atomic_load(&started_all))
		work(3);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void vfork_and_posix_spawn(void **state) {
	(void)state;
	assert_int_equal(run_in_child(start_beside_allocation, NULL), 0);
}

static int work_in_clone(void *unused) {
	(void)unused;
	work_in_two_threads();
	_exit(7); /* returning would end this thread only: others may be there, such as the one that purges */
}

/* A process that no handler of fork hears of: with its own memory, and on its parent's. */
static void clone_processes(void *unused) {
	static const int flags[] = { SIGCHLD, SIGCHLD | CLONE_VM | CLONE_VFORK,
		                         SIGCHLD | CLONE_VFORK | CLONE_FILES };
	char *stack = malloc(MIB);

	(void)unused;
	CHILD_CHECK(stack);
	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		int (*body)(void *) = flags[i] & CLONE_VM ? (int (*)(void *))(void *)getpid : work_in_clone;
		work(4);
		pid_t child = clone(body, stack + MIB, flags[i], NULL);
		CHILD_CHECK(child > 0);
		int status = exit_status(child);
		CHILD_CHECK(flags[i] & CLONE_VM || status == 7);
		work(5);
	}
	free(stack);
}

static void cloned_processes(void **state) {
	(void)state;
	assert_int_equal(run_in_child(clone_processes, NULL), 0);
}

/* daemon() ends the process that calls it, so the daemon says through a pipe that all is well; then it
 * becomes another program. */
static void become_a_daemon(void *pipe_) {
	int *ends = pipe_;
	char *inherited = malloc(40000);

	stamp_block(inherited, 40000, 6);
	work_in_two_threads();
	CHILD_CHECK(daemon(1, 1) == 0);
	CHILD_CHECK(stamp_intact(inherited, 40000, 6));
	free(inherited);
	work_in_two_threads();
	CHILD_CHECK(dup2(ends[1], STDOUT_FILENO) >= 0);
	execl("/bin/sh", "sh", "-c", "printf well", NULL);
	_exit(127);
}

static void daemons_and_exec(void **state) {
	(void)state;
	int ends[2];
	char text[8] = "";
	size_t length = 0;

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(run_in_child(become_a_daemon, ends), 0);
	close(ends[1]);
	for (ssize_t n; length < 4 && (n = read(ends[0], text + length, 4 - length)) > 0;)
		length += (size_t)n;
	close(ends[0]);
	assert_string_equal(text, "well");
}

static void load_and_unload(void *unused) {
	(void)unused;
	for (int i = 0; i < 30; i++) {
		void *library = dlopen(CONSTRUCTORS, RTLD_NOW);
		CHILD_CHECK(library);
		work(7);
		CHILD_CHECK(dlclose(library) == 0);
		CHILD_CHECK(!dlopen(CONSTRUCTORS, RTLD_NOW | RTLD_NOLOAD));
	}
}

static void *load_in_thread(void *unused) {
	load_and_unload(NULL);
	return unused;
}

static void load_in_two_threads(void *unused) {
	pthread_t thread;

	CHILD_CHECK(pthread_create(&thread, NULL, work_in_thread, (void *)8) == 0);
	load_in_thread(unused);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void libraries_that_allocate_as_they_come_and_go(void **state) {
	(void)state;
	assert_int_equal(run_in_child(load_in_two_threads, NULL), 0);
}

static char *until_the_end;

static void at_the_end(void) {
	work(9);
	CHILD_CHECK(stamp_intact(until_the_end, 5000, 9));
	free(until_the_end);
	_exit(23);
}

static void end_quickly(void *unused) {
	pthread_t thread;

	(void)unused;
	until_the_end = malloc(5000);
	stamp_block(until_the_end, 5000, 9);
	CHILD_CHECK(at_quick_exit(at_the_end) == 0);
	CHILD_CHECK(pthread_create(&thread, NULL, work_in_thread, (void *)10) == 0);
	quick_exit(1);
}

static void quick_exit_runs_handlers_that_allocate(void **state) {
	(void)state;
	assert_int_equal(run_in_child(end_quickly, NULL), 23);
}

/* ---- forbidden system calls ---- */

static pthread_barrier_t barrier;

/* Both threads from before the filter, for there will be no more: also not the one that purges. */
static void *work_under_filter(void *key) {
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 10; i++) {
		void *blocks[60];
		for (size_t n = 0; n < COUNT_OF(blocks); n++) {
			blocks[n] = malloc(700 * KIB);
			CHILD_CHECK(blocks[n]);
			stamp_block(blocks[n], 700 * KIB, (uintptr_t)key);
		}
		for (size_t n = 0; n < COUNT_OF(blocks); n++) {
			CHILD_CHECK(stamp_intact(blocks[n], 700 * KIB, (uintptr_t)key));
			free(blocks[n]);
		}
		work((uintptr_t)key);
	}
	return NULL;
}

static void forbid_madvise_and_clone(void *unused) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = { COUNT_OF(filter), filter };
	pthread_t thread, refused;

	(void)unused;
	CHILD_CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
	CHILD_CHECK(pthread_create(&thread, NULL, work_under_filter, (void *)11) == 0);
	pthread_barrier_wait(&barrier);
	CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHILD_CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
	CHILD_CHECK(pthread_create(&refused, NULL, work_in_thread, NULL) != 0);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 10; i++)
		work(12);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void madvise_and_clone_may_be_forbidden(void **state) {
	(void)state;
	assert_int_equal(run_in_child(forbid_madvise_and_clone, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vfork_and_posix_spawn),
		cmocka_unit_test(cloned_processes),
		cmocka_unit_test(daemons_and_exec),
		cmocka_unit_test(libraries_that_allocate_as_they_come_and_go),
		cmocka_unit_test(quick_exit_runs_handlers_that_allocate),
		cmocka_unit_test(madvise_and_clone_may_be_forbidden),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
