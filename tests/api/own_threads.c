/* Calls that count threads, or do the same in all of them: they see what they would see without Arenal's
 * own threads, and these are there again later. Run with ARENAL_WINDOW=1: a process without threads has
 * one of Arenal's then. */
#include "own_threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
	all_users,          a_user,     an_effective_user, two_users,          all_groups, a_group,
	an_effective_group, two_groups, other_groups,      groups_of_somebody,
};

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
	for (size_t i = 0; i < COUNT_OF(changes); i++)
		assert_int_equal(run_in_child(keeps_capabilities, (void *)&changes[i]), 0);
}

/* With capset and no more: the window's thread is another one in the end, which has not what the program
 * gave away. */
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

/* While nobody has rights of his own, the threads take part like all others, and stay: some programs
 * change their effective user each time that they open a file. */
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
	for (int i = 0; i < 10; i++)
		CHILD_CHECK(capset(&header, own) == 0 && (setns(network, 0) == 0 || errno == EPERM));
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
	const char *const arguments[] = { "/usr/bin/setpriv", "--reuid=65534", "--regid=65534",
		                              "--clear-groups",   "/bin/true",     NULL };
	const char *const libc[] = { "LD_PRELOAD", NULL };
	if (!is_root() || access(arguments[0], X_OK) != 0)
		SKIP("only root can become another user, and it takes setpriv");
	run_program(&with, arguments, NULL, NULL);
	run_program(&without, arguments, libc, NULL);
	assert_int_equal(with.status, without.status);
	assert_string_equal(with.err, without.err);
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
	CHILD_CHECK(setresuid(-1, -1, -1) == 0 && setreuid(-1, -1) == 0 && setresgid(-1, -1, -1) == 0 &&
	            setregid(-1, -1) == 0);
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

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users_change_with_capabilities_kept),
		cmocka_unit_test(no_thread_keeps_rights),
		cmocka_unit_test(ordinary_changes_end_no_thread),
		cmocka_unit_test(setpriv_runs),
		cmocka_unit_test(none_outlives_a_filter_of_calls),
		cmocka_unit_test(results_are_right),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
