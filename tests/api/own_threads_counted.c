/* Calls that the kernel refuses a process with several threads: namespaces that are made and joined.
 * Beside threads of Arenal's own they succeed; in children by vfork, in processes that had threads, and
 * while others work. */
#include "own_threads.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- namespaces ---- */

/* In a child of which libc and Arenal know nothing, and that has one thread: the errno. */
static int without_threads(long call, long a, long b) {
	int status;
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0) {
		syscall(SYS_exit_group, syscall(call, a, b) == 0 ? 0 : errno);
		abort();
	}
	CHILD_CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int error_of(int result) { return result == 0 ? 0 : errno; }

static void unshares(void *flags) {
	alarm(60);
	CHILD_WAIT_FOR(has_window());
	const int expected = without_threads(SYS_unshare, *(int *)flags, 0);
	CHILD_CHECK(error_of(unshare(*(int *)flags)) == expected);
	/* In a new namespace of processes, only the children may have threads. */
	if ((*(int *)flags & CLONE_NEWPID) == 0) answers();
}

static void namespaces_are_made(void **state) {
	(void)state;
	static int flags[] = { CLONE_NEWUSER,
		                   CLONE_NEWUSER | CLONE_NEWNS,
		                   CLONE_NEWUSER | CLONE_NEWPID,
		                   CLONE_NEWNS,
		                   CLONE_THREAD,
		                   CLONE_VM,
		                   CLONE_FILES,
		                   CLONE_FS,
		                   0,
		                   1,
		                   -1 };
	for (size_t i = 0; i < COUNT_OF(flags); i++) assert_int_equal(run_in_child(unshares, &flags[i]), 0);
}

static void unshares_at_once(void *unused) {
	(void)unused;
	alarm(60);
	CHILD_WAIT_FOR(has_window());
	CHILD_CHECK(unshare(CLONE_THREAD) == 0); /* the kernel has no other use for this flag but to count */
}

static void the_kernel_counts_one_thread_each_time(void **state) {
	(void)state;
	for (int i = 0; i < 200; i++) assert_int_equal(run_in_child(unshares_at_once, NULL), 0);
}

static pid_t keeper_of_namespaces(int *made) {
	int ends[2], error;
	CHILD_CHECK(pipe(ends) == 0);
	pid_t child = fork();
	if (child == 0) {
		error = syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS) == 0 ? 0 : errno;
		CHILD_CHECK(write(ends[1], &error, sizeof error) == sizeof error);
		for (;;) pause();
	}
	CHILD_CHECK(child > 0 && read(ends[0], made, sizeof *made) == sizeof *made);
	return child;
}

static void joins_a_namespace(void *kind) {
	char path[64];
	int error;
	alarm(60);
	const pid_t keeper = keeper_of_namespaces(&error);
	snprintf(path, sizeof path, "/proc/%d/ns/%s", keeper, (char *)kind);
	const int file = open(path, O_RDONLY);
	if (error == 0 && file >= 0) {
		CHILD_WAIT_FOR(has_window());
		const int expected = without_threads(SYS_setns, file, 0);
		CHILD_CHECK(error_of(setns(file, 0)) == expected);
		answers();
	}
	kill(keeper, SIGKILL);
}

static void namespaces_are_joined(void **state) {
	(void)state;
	static char user[] = "user", files[] = "mnt";
	assert_int_equal(run_in_child(joins_a_namespace, user), 0);
	assert_int_equal(run_in_child(joins_a_namespace, files), 0);
}

/* It has its parent's memory, and no thread. The parent's are let be. */
__attribute__((noinline)) static int change_in_child(void) {
	int status;
	pid_t child = vfork();
	if (child == 0) {
		if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) _exit(1);
		if (setresuid(-1, -1, -1) != 0 || setresgid(-1, -1, -1) != 0) _exit(2);
		_exit(unshare(CLONE_THREAD) == 0 ? 0 : 3);
	}
	CHILD_CHECK(child > 0 && waitpid(child, &status, 0) == child);
	return status;
}

static void by_vfork(void *unused) {
	(void)unused;
	alarm(60);
	CHILD_WAIT_FOR(has_window());
	const int thread = window_thread(getpid());
	CHILD_CHECK(change_in_child() == 0);
	CHILD_CHECK(window_thread(getpid()) == thread);
	answers();
}

static void a_child_by_vfork_ends_no_thread_of_its_parent(void **state) {
	(void)state;
	assert_int_equal(run_in_child(by_vfork, NULL), 0);
}

/* ---- processes with threads ---- */

static bool has_purger(void) {
	DIR *tasks = opendir("/proc/self/task");
	bool found = false;
	for (struct dirent *task; tasks != NULL && !found && (task = readdir(tasks)) != NULL;) {
		char path[300];
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
		found = window_text_is(path, "arenal\n");
	}
	if (tasks != NULL) closedir(tasks);
	return found;
}

static pthread_barrier_t enough;

/* More than a thread's cache keeps, from two threads: that starts the purger. */
static void *burst(void *unused) {
	enum { BLOCKS = 12000 };
	void **blocks = malloc(BLOCKS * sizeof *blocks);
	for (int i = 0; i < BLOCKS; i++) blocks[i] = memset(malloc(2000), 1, 2000);
	for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
	free(blocks);
	pthread_barrier_wait(&enough);
	return unused;
}

/* There is a purger, and the program's threads have ended. */
static void had_threads(void) {
	do {
		pthread_t threads[2];
		pthread_barrier_init(&enough, NULL, 3);
		for (int i = 0; i < 2; i++) CHILD_CHECK(pthread_create(&threads[i], NULL, burst, NULL) == 0);
		pthread_barrier_wait(&enough);
		for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
	} while (!has_purger());
}

static void was_threaded(void *unused) {
	(void)unused;
	alarm(60);
	had_threads();
	CHILD_CHECK(unshare(CLONE_THREAD) == 0);
	had_threads(); /* there is another one */
	if (!is_root()) return;
	CHILD_CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
	CHILD_CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	set_capabilities(true);
	CHILD_CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0);
	answers();
}

static void the_purger_stands_back_too(void **state) {
	(void)state;
	for (int i = 0; i < 5; i++) assert_int_equal(run_in_child(was_threaded, NULL), 0);
}

/* All at once: threads that start the purger, change users, and fork children that do. */
static _Atomic bool over;

static void *allocate_until_over(void *unused) {
	enum { BLOCKS = 40 };
	while (!over) {
		void *blocks[BLOCKS];
		for (int i = 0; i < BLOCKS; i++) blocks[i] = memset(malloc(600000), 1, 600000);
		for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
	}
	return unused;
}

static void *change_again_and_again(void *unused) {
	for (int i = 0; i < 60; i++) {
		CHILD_CHECK(setresgid(-1, -1, -1) == 0);
		CHILD_CHECK(unshare(CLONE_NEWUSER) == -1 && errno == EINVAL); /* there are threads */
	}
	return unused;
}

static void *fork_again_and_again(void *unused) {
	for (int i = 0; i < 30; i++) {
		int status;
		pid_t child = fork();
		if (child == 0) _exit(allocate() && setresuid(-1, -1, -1) == 0 && unshare(CLONE_THREAD) == 0 ? 0 : 1);
		CHILD_CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
	}
	return unused;
}

static void all_at_once(void *unused) {
	(void)unused;
	pthread_t threads[6];
	void *(*const bodies[])(void *) = { allocate_until_over, allocate_until_over, change_again_and_again,
		                                change_again_and_again, fork_again_and_again };
	alarm(120);
	CHILD_CHECK(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0); /* from now on, they stand back each time */
	for (size_t i = 0; i < COUNT_OF(bodies); i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, bodies[i], NULL) == 0);
	for (size_t i = 2; i < COUNT_OF(bodies); i++) pthread_join(threads[i], NULL);
	CHILD_WAIT_FOR(has_purger()); /* it is there again */
	answers();
	over = true;
	for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}

static void they_come_and_go_while_others_work(void **state) {
	(void)state;
	assert_int_equal(run_in_child(all_at_once, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(namespaces_are_made),
		cmocka_unit_test(the_kernel_counts_one_thread_each_time),
		cmocka_unit_test(namespaces_are_joined),
		cmocka_unit_test(a_child_by_vfork_ends_no_thread_of_its_parent),
		cmocka_unit_test(the_purger_stands_back_too),
		cmocka_unit_test(they_come_and_go_while_others_work),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
