/* Programs that lock themselves in: a filter ends them at any system call but those that glibc's malloc makes, and those that they need
 * for what they do themselves. sandbox: the tests. sandbox locked WAY STATE: the program, which says so by libc's prctl ("noticed") or
 * by system calls that nobody hears of ("told": then the variable is set). STATE: "fresh", "guarded" (it has guarded blocks by then),
 * "threads" (it has threads by then, also Arenal's, starts more, and forks). */
#include "support.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arenal/arenal.h"

#define MIB ((size_t)1 << 20)

/* ---- the program ---- */

static const int of_malloc[] = { SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_futex };
static const int of_the_program[] = { SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigreturn };
static const int of_threads[] = { SYS_clone, SYS_clone3, SYS_rt_sigprocmask, SYS_set_robust_list, SYS_rseq, SYS_wait4 };

static void tell(int number, siginfo_t *info, void *context) {
	char text[64];
	int length = snprintf(text, sizeof text, "call %d", info->si_syscall);

	(void)number, (void)context;
	if (write(STDERR_FILENO, text, (size_t)length) < 0)
		_exit(8);
	_exit(9);
}

static void let(struct sock_filter *filter, size_t *at, const int *calls, size_t count) {
	for (size_t i = 0; i < count; i++) {
		filter[(*at)++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		filter[(*at)++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
}

static void lock_in(bool noticed, bool with_threads) {
	const struct sigaction action = { .sa_sigaction = tell, .sa_flags = SA_SIGINFO };
	struct sock_filter filter[64] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	size_t count = 1;

	let(filter, &count, of_malloc, COUNT_OF(of_malloc));
	let(filter, &count, of_the_program, COUNT_OF(of_the_program));
	if (with_threads)
		let(filter, &count, of_threads, COUNT_OF(of_threads));
	filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	struct sock_fprog program = { (unsigned short)count, filter };
	CHILD_CHECK(sigaction(SIGSYS, &action, NULL) == 0);
	if (noticed)
		CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	else
		CHILD_CHECK(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	/* For all threads, Arenal's too. */
	CHILD_CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

/* Blocks of all kinds, so many that limits are looked at, that some are guarded and that memory goes back. */
static void *work(void *unused) {
	static const size_t sizes[] = { 0, 16, 100, 1000, 5000, 30000, 100000, 400000, 2000000 };
	enum { COUNT = 3000 };
	static __thread void *blocks[COUNT];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT; i++) {
			size_t size = sizes[i % (i % 100 == 0 ? COUNT_OF(sizes) : COUNT_OF(sizes) - 4)];
			blocks[i] = i % 4 == 0 ? calloc(1, size) : malloc(size);
			CHILD_CHECK(blocks[i]);
			memset(blocks[i], 1, size);
		}
		for (size_t i = 0; i < COUNT; i += 3)
			CHILD_CHECK(blocks[i] = realloc(blocks[i], malloc_usable_size(blocks[i]) * 3 / 2 + 1));
		for (size_t i = 0; i < COUNT; i++)
			free(blocks[i]);
		malloc_trim(0);
	}
	return unused;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

/* A thread that has memory in its cache, and sleeps. */
static void *sleep_for_ever(void *unused) {
	static __thread void *blocks[20000];

	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		CHILD_CHECK(blocks[i] = malloc(1000));
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
	pthread_mutex_lock(&mutex);
	for (;;)
		pthread_cond_wait(&never, &mutex);
	return unused;
}

static bool has_purger(void) {
	DIR *tasks = opendir("/proc/self/task");
	bool found = false;

	CHILD_CHECK(tasks);
	for (struct dirent *task; !found && (task = readdir(tasks));) {
		char name[300], text[32] = "";
		snprintf(name, sizeof name, "/proc/self/task/%s/comm", task->d_name);
		FILE *file = fopen(name, "r");
		if (!file)
			continue;
		found = fgets(text, sizeof text, file) && strcmp(text, "arenal\n") == 0;
		fclose(file);
	}
	closedir(tasks);
	return found;
}

static uint64_t purged(void) {
	struct arenal_stats stats;

	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats.purged_total;
}

/* By futex, which is among the calls. */
static void wait_a_moment(void) {
	pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t nobody = PTHREAD_COND_INITIALIZER;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 20 * 1000 * 1000;
	if (until.tv_nsec >= 1000000000)
		until.tv_sec++, until.tv_nsec -= 1000000000;
	pthread_mutex_lock(&own);
	pthread_cond_timedwait(&nobody, &own, &until);
}

static int program(const char *way, const char *state) {
	const bool with_threads = strcmp(state, "threads") == 0, noticed = strcmp(way, "noticed") == 0;
	pthread_t thread;

	CHILD_CHECK(require_arenal(NULL) == 0);
	if (strcmp(state, "guarded") == 0)
		work(NULL);
	if (with_threads) {
		for (int i = 0; i < 2; i++)
			CHILD_CHECK(pthread_create(&thread, NULL, sleep_for_ever, NULL) == 0);
		work(NULL);
		/* Who is told from the start has none. */
		for (int i = 0; noticed && i < 1000 && !has_purger(); i++) {
			work(NULL);
			usleep(10000);
		}
		CHILD_CHECK(has_purger() == noticed);
	}
	lock_in(noticed, with_threads);
	work(NULL);
	if (!with_threads)
		_exit(0);
	for (int i = 0; i < 3; i++) {
		CHILD_CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
		CHILD_CHECK(pthread_join(thread, NULL) == 0);
	}
	pid_t child = fork();
	CHILD_CHECK(child >= 0);
	if (child == 0) {
		work(NULL);
		_exit(0);
	}
	int status;
	CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
	/* The purger that was there goes on. */
	for (int i = 0; noticed && i < 2000; i++) {
		void *blocks[64];
		const uint64_t before = purged();
		for (size_t j = 0; j < COUNT_OF(blocks); j++)
			CHILD_CHECK(blocks[j] = memset(malloc(300000), 1, 300000));
		for (size_t j = 0; j < COUNT_OF(blocks); j++)
			free(blocks[j]);
		for (int j = 0; j < 25 && purged() == before; j++)
			wait_a_moment();
		if (purged() != before)
			_exit(0);
	}
	_exit(noticed);
}

/* ---- the tests ---- */

static const char *self;

static void run(const char *way, const char *state) {
	static struct outcome outcome;
	const bool told = strcmp(way, "told") == 0;

	run_program(&outcome, (const char *[]){ self, "locked", way, state, NULL },
	            (const char *[]){ "ARENAL_GUARD_SAMPLE=20", told ? "ARENAL_SANDBOX=1" : "ARENAL_SANDBOX", NULL }, NULL);
	if (outcome.status != 0)
		fail_msg("%s, %s: status %d, %s", way, state, outcome.status, outcome.err);
}

static void a_process_that_says_so(void **state) {
	(void)state;
	run("noticed", "fresh");
	run("noticed", "guarded");
}

static void a_process_with_threads_that_says_so(void **state) {
	(void)state;
	run("noticed", "threads");
}

static void a_process_with_the_variable(void **state) {
	(void)state;
	run("told", "fresh");
	run("told", "guarded");
	run("told", "threads");
}

/* The variable also says that nothing is to be noticed. */
static void not_when_told_so(void **state) {
	static struct outcome outcome;

	(void)state;
	run_program(&outcome, (const char *[]){ self, "locked", "noticed", "fresh", NULL },
	            (const char *[]){ "ARENAL_GUARD_SAMPLE=20", "ARENAL_SANDBOX=0", NULL }, NULL);
	assert_int_equal(outcome.status, 9);
}

static void prctl_is_passed_on(void **state) {
	char name[16] = "";

	(void)state;
	assert_int_equal(prctl(PR_SET_NAME, "renamed", 0, 0, 0), 0);
	assert_int_equal(prctl(PR_GET_NAME, name, 0, 0, 0), 0);
	assert_string_equal(name, "renamed");
	errno = 0;
	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

int main(int argc, char **argv) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_that_says_so),
		cmocka_unit_test(a_process_with_threads_that_says_so),
		cmocka_unit_test(a_process_with_the_variable),
		cmocka_unit_test(not_when_told_so),
		cmocka_unit_test(prctl_is_passed_on),
	};

	self = argv[0];
	if (argc == 4)
		return program(argv[2], argv[3]);
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
