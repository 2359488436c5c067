/* Calls that count threads, or do the same in all of them: they see what they would see without Arenal's own threads, and these are
 * there again later. Run with ARENAL_WINDOW=1: a process without threads has one of Arenal's then. */
#include "support.h"
#include "window_client.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534 };

int capset(cap_user_header_t header, const cap_user_data_t data);

static void pause_a_moment(void) { nanosleep(&(struct timespec){ 0, 2000000 }, NULL); }

/* For children: waits until it comes about. */
#define CHILD_WAIT_FOR(condition) \
	do { \
		for (int i = 0; i < 10000 && !(condition); i++) pause_a_moment(); \
		CHILD_CHECK(condition); \
	} while (0)

/* Slow moments, at which threads of Arenal's own are started. */
static bool allocate(void) {
	void *blocks[300];
	for (int i = 0; i < 300; i++) blocks[i] = malloc(700);
	for (int i = 0; i < 300; i++) free(blocks[i]);
	free(malloc(100000));
	return true;
}

static bool has_window(void) { return allocate() && window_thread(getpid()) != 0; }

static void answers(void) {
	struct window window;
	CHILD_WAIT_FOR(allocate() && window_open(&window, getpid()));
	CHILD_CHECK(window_ask(&window, SNAPSHOT, "", 0, NULL) == 0);
	window_close(&window);
}

static bool is_root(void) { return geteuid() == 0; }

/* ---- users and groups ---- */

static int all_users(void) { return setresuid(NOBODY, NOBODY, NOBODY); }
static int a_user(void) { return setuid(NOBODY); }
static int an_effective_user(void) { return seteuid(NOBODY); }
static int two_users(void) { return setreuid(NOBODY, NOBODY); }
static int all_groups(void) { return setresgid(NOBODY, NOBODY, NOBODY); }
static int a_group(void) { return setgid(NOBODY); }
static int an_effective_group(void) { return setegid(NOBODY); }
static int two_groups(void) { return setregid(NOBODY, NOBODY); }
static int other_groups(void) { return setgroups(1, &(gid_t){ NOBODY }); }
static int groups_of_somebody(void) { return initgroups("nobody", NOBODY); }

static int (*const changes[])(void) = {
	all_users, a_user, an_effective_user, two_users, all_groups, a_group, an_effective_group, two_groups, other_groups, groups_of_somebody,
};

/* Capabilities of the calling thread alone: libc knows nothing of it. */
static void set_capabilities(bool raise) {
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2];
	CHILD_CHECK(syscall(SYS_capget, &header, sets) == 0);
	for (int i = 0; i < 2; i++) sets[i].effective = raise ? sets[i].permitted : 0;
	CHILD_CHECK(syscall(SYS_capset, &header, sets) == 0);
}

/* As setpriv does it, and daemons that keep some of root's rights. */
static void keeps_capabilities(void *change) {
	alarm(60);
	CHILD_WAIT_FOR(has_window());
	CHILD_CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
	CHILD_CHECK(setresuid(1, 1, 1) == 0);
	set_capabilities(true);
	CHILD_CHECK((*(int (*const *)(void))change)() == 0);
	answers();
}

static void users_change_with_capabilities_kept(void **state) {
	(void)state;
	if (!is_root()) SKIP("only root can become another user");
	for (size_t i = 0; i < COUNT_OF(changes); i++) assert_int_equal(run_in_child(keeps_capabilities, (void *)&changes[i]), 0);
}

/* With capset and no more: the window's thread is another one in the end, which has not what the program gave away. */
static unsigned long long effective(int thread) {
	char path[64], text[4096] = "";
	snprintf(path, sizeof path, "/proc/self/task/%d/status", thread);
	int file = open(path, O_RDONLY);
	CHILD_CHECK(file >= 0 && read(file, text, sizeof text - 1) > 0);
	close(file);
	const char *line = strstr(text, "\nCapEff:");
	CHILD_CHECK(line != NULL);
	return strtoull(line + 8, NULL, 16);
}

static void gives_rights_away(void *unused) {
	(void)unused;
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { 0 };
	alarm(60);
	CHILD_WAIT_FOR(has_window());
	CHILD_CHECK(effective(window_thread(getpid())) != 0);
	CHILD_CHECK(capset(&header, none) == 0);
	answers();
	CHILD_CHECK(effective(window_thread(getpid())) == 0);
}

static void no_thread_keeps_rights(void **state) {
	(void)state;
	if (!is_root()) SKIP("only root can become another user");
	assert_int_equal(run_in_child(gives_rights_away, NULL), 0);
}

/* While nobody has rights of his own, the threads take part like all others, and stay: some programs change their effective user
 * each time that they open a file. */
static void goes_back_and_forth(void *unused) {
	(void)unused;
	alarm(60);
	CHILD_WAIT_FOR(has_window());
	const int thread = window_thread(getpid());
	for (int i = 0; i < 100; i++) CHILD_CHECK(seteuid(NOBODY) == 0 && seteuid(0) == 0);
	/* Nor do capabilities that change nothing, and namespaces that are joined by a thread alone. */
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct own[2];
	const int network = open("/proc/self/ns/net", O_RDONLY);
	CHILD_CHECK(network >= 0 && syscall(SYS_capget, &header, own) == 0);
	for (int i = 0; i < 10; i++) CHILD_CHECK(capset(&header, own) == 0 && (setns(network, 0) == 0 || errno == EPERM));
	CHILD_CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
	CHILD_CHECK(window_thread(getpid()) == thread);
	CHILD_CHECK(effective(thread) == 0);
}

static void ordinary_changes_end_no_thread(void **state) {
	(void)state;
	if (!is_root()) SKIP("only root can become another user");
	assert_int_equal(run_in_child(goes_back_and_forth, NULL), 0);
}

static void setpriv_runs(void **state) {
	(void)state;
	static struct outcome with, without;
	const char *const arguments[] = { "/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/bin/true", NULL };
	const char *const libc[] = { "LD_PRELOAD", NULL };
	if (!is_root() || access(arguments[0], X_OK) != 0) SKIP("only root can become another user, and it takes setpriv");
	run_program(&with, arguments, NULL, NULL);
	run_program(&without, arguments, libc, NULL);
	assert_int_equal(with.status, without.status);
	assert_string_equal(with.err, without.err);
}

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
	static int flags[] = { CLONE_NEWUSER, CLONE_NEWUSER | CLONE_NEWNS, CLONE_NEWUSER | CLONE_NEWPID, CLONE_NEWNS, CLONE_THREAD, CLONE_VM,
		                   CLONE_FILES, CLONE_FS, 0, 1, -1 };
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

/* ---- filters ---- */

/* Ends the process for what starts a window. */
static void set_filter(void) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};

	filter_calls(filter, COUNT_OF(filter));
}

/* Long enough for one to be started again. */
static bool stays_without(void) {
	for (int i = 0; i < 75; i++) {
		if (has_window()) return false;
		pause_a_moment();
	}
	return true;
}

static void is_filtered(void *unused) {
	(void)unused;
	int status;
	alarm(60);
	CHILD_WAIT_FOR(has_window());
	set_filter();
	CHILD_CHECK(stays_without());
	pid_t child = fork();
	if (child == 0) _exit(stays_without() ? 0 : 1);
	CHILD_CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void none_outlives_a_filter_of_calls(void **state) {
	(void)state;
	assert_int_equal(run_in_child(is_filtered, NULL), 0);
}

/* ---- results ---- */

static void results_are_the_kernels(void *unused) {
	(void)unused;
	alarm(60);
	CHILD_WAIT_FOR(has_window());
	errno = 77;
	CHILD_CHECK(setresuid(-1, -1, -1) == 0 && setreuid(-1, -1) == 0 && setresgid(-1, -1, -1) == 0 && setregid(-1, -1) == 0);
	CHILD_CHECK(unshare(0) == 0 && errno == 77);
	CHILD_CHECK(setuid(-1) == -1 && errno == EINVAL);
	CHILD_CHECK(setgid(-1) == -1 && errno == EINVAL);
	CHILD_CHECK(setns(-1, 0) == -1 && errno == EBADF);
	CHILD_CHECK(capset(NULL, NULL) == -1 && errno == EFAULT);
	CHILD_CHECK(prctl(-1, 0, 0, 0, 0) == -1 && errno == EINVAL);
	CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0) == -1 && errno == EINVAL);
	CHILD_CHECK(prctl(PR_SET_NAME, "a name", 0, 0, 0) == 0);
	char name[16];
	CHILD_CHECK(prctl(PR_GET_NAME, name, 0, 0, 0) == 0 && strcmp(name, "a name") == 0);
	sigset_t blocked;
	CHILD_CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0 && sigisemptyset(&blocked));
	answers();
	/* Here a sandbox begins, most likely: they do not come back. */
	CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHILD_CHECK(!has_window());
}

/* The loader is asked for nothing when such a call is made: it has a message for the program. */
static void leaves_the_loaders_message(void *unused) {
	(void)unused;
	CHILD_CHECK(dlopen("./no-such-library.so", RTLD_NOW) == NULL);
	CHILD_CHECK(setuid(getuid()) == 0 && setgid(getgid()) == 0 && capset(NULL, NULL) == -1);
	CHILD_CHECK(dlerror() != NULL);
}

static void results_are_right(void **state) {
	(void)state;
	assert_int_equal(run_in_child(results_are_the_kernels, NULL), 0);
	assert_int_equal(run_in_child(leaves_the_loaders_message, NULL), 0);
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
	void *(*const bodies[])(void *) = { allocate_until_over, allocate_until_over, change_again_and_again, change_again_and_again,
		                                fork_again_and_again };
	alarm(120);
	CHILD_CHECK(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0); /* from now on, they stand back each time */
	for (size_t i = 0; i < COUNT_OF(bodies); i++) CHILD_CHECK(pthread_create(&threads[i], NULL, bodies[i], NULL) == 0);
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
		cmocka_unit_test(users_change_with_capabilities_kept),
		cmocka_unit_test(no_thread_keeps_rights),
		cmocka_unit_test(ordinary_changes_end_no_thread),
		cmocka_unit_test(setpriv_runs),
		cmocka_unit_test(namespaces_are_made),
		cmocka_unit_test(the_kernel_counts_one_thread_each_time),
		cmocka_unit_test(namespaces_are_joined),
		cmocka_unit_test(none_outlives_a_filter_of_calls),
		cmocka_unit_test(results_are_right),
		cmocka_unit_test(a_child_by_vfork_ends_no_thread_of_its_parent),
		cmocka_unit_test(the_purger_stands_back_too),
		cmocka_unit_test(they_come_and_go_while_others_work),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
