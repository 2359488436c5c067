/* The program's table of descriptors is the program's: Arenal opens nothing in it after the start, whatever it wants to know. descriptors:
 * the tests. descriptors alone|threads|table|last: programs that they run, under a filter that ends them when one of their own threads opens
 * or closes something; Arenal's threads were there before, and are not under it. */
#include "support.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static const char *self;

/* ---- the programs ---- */

static void tell(int number, siginfo_t *info, void *context) {
	(void)number, (void)context;
	dprintf(STDERR_FILENO, "call %d", info->si_syscall);
	_exit(9);
}

static void forbid_files(void) {
	static const int calls[] = {
#ifdef SYS_open
		SYS_open,
#endif
		SYS_openat, SYS_close, SYS_close_range, SYS_memfd_create, SYS_faccessat,
	};
	const struct sigaction action = { .sa_sigaction = tell, .sa_flags = SA_SIGINFO };
	struct sock_filter filter[32] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	size_t count = 1;

	for (size_t i = 0; i < COUNT_OF(calls); i++) {
		filter[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	}
	filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { (unsigned short)count, filter };
	CHILD_CHECK(sigaction(SIGSYS, &action, NULL) == 0);
	/* Not by libc's prctl: nobody is to notice. */
	CHILD_CHECK(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHILD_CHECK(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* Up and down by 30 MB, in blocks of all kinds. */
static void *work(void *unused) {
	static const size_t sizes[] = { 100, 4000, 100000, 3000000 };

	for (int round = 0; round < 4; round++) {
		const size_t size = sizes[round], count = 30 * MIB / size;
		char **blocks = calloc(count, sizeof *blocks);
		CHILD_CHECK(blocks);
		for (size_t i = 0; i < count; i++) {
			CHILD_CHECK(blocks[i] = malloc(size));
			memset(blocks[i], 1, size);
		}
		for (size_t i = 0; i < count; i++)
			free(blocks[i]);
		free(blocks);
	}
	return unused;
}

/* The directory of the purger in /proc, "" when there is none. */
static const char *purger(void) {
	static char path[300];
	DIR *tasks = opendir("/proc/self/task");

	CHILD_CHECK(tasks);
	path[0] = 0;
	for (struct dirent *task; path[0] == 0 && (task = readdir(tasks));) {
		char name[300], text[32] = "";
		snprintf(name, sizeof name, "/proc/self/task/%s/comm", task->d_name);
		FILE *file = fopen(name, "r");
		if (!file)
			continue;
		if (fgets(text, sizeof text, file) && strcmp(text, "arenal\n") == 0)
			snprintf(path, sizeof path, "/proc/self/task/%s", task->d_name);
		fclose(file);
	}
	closedir(tasks);
	return path;
}

static void *work_and_sleep(void *unused) {
	work(unused);
	for (;;)
		pause();
	return unused;
}

static void start_purger(void) {
	pthread_t thread;

	for (int i = 0; i < 2; i++)
		CHILD_CHECK(pthread_create(&thread, NULL, work_and_sleep, NULL) == 0);
	for (int i = 0; i < 500 && purger()[0] == 0; i++) {
		work(NULL);
		usleep(10000);
	}
	CHILD_CHECK(purger()[0] != 0);
}

/* How many descriptors the purger has; -1 when it is not there. */
static int descriptors_of_purger(void) {
	char path[320];
	int count = 0;

	snprintf(path, sizeof path, "%s/fd", purger());
	DIR *files = opendir(path);
	if (!files)
		return -1;
	for (struct dirent *file; (file = readdir(files));)
		count += file->d_name[0] != '.';
	closedir(files);
	return count;
}

static pthread_t first;

/* The process ends with this thread, whose cache is the last one, while the purger is there. */
static void *end_with_purger(void *others) {
	pthread_t *threads = others;

	pthread_join(first, NULL);
	for (int i = 0; i < 500 && purger()[0] == 0; i++) {
		work(NULL);
		usleep(10000);
	}
	CHILD_CHECK(purger()[0] != 0);
	pthread_cancel(threads[0]);
	pthread_join(threads[0], NULL);
	return NULL;
}

static int program(const char *name) {
	static pthread_t threads[2];

	alarm(60);
	CHILD_CHECK(require_arenal(NULL) == 0);
	free(malloc(1)); /* which is the start */
	if (strcmp(name, "alone") == 0) {
		forbid_files();
		work(NULL);
		_exit(0);
	}
	if (strcmp(name, "threads") == 0) {
		start_purger();
		forbid_files();
		for (int i = 0; i < 2; i++)
			CHILD_CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
		for (int i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		_exit(0);
	}
	if (strcmp(name, "table") == 0) {
		start_purger();
		int count = descriptors_of_purger();
		for (int i = 0; i < 200 && count != 0; i++) {
			usleep(10000); /* it has just begun */
			count = descriptors_of_purger();
		}
		printf("%d", count);
		return 0;
	}
	/* "last": the handlers of exit write what is in the buffer. */
	printf("written at the end");
	first = pthread_self();
	CHILD_CHECK(pthread_create(&threads[0], NULL, work_and_sleep, NULL) == 0);
	CHILD_CHECK(pthread_create(&threads[1], NULL, end_with_purger, threads) == 0);
	pthread_exit(NULL);
}

/* ---- the tests ---- */

static struct outcome outcome;

static void run(const char *name, const char *setting) {
	run_program(&outcome, (const char *[]){ self, name, NULL }, (const char *[]){ setting, NULL }, NULL);
	if (outcome.status != 0)
		fail_msg("%s, %s: status %d, %s", name, setting, outcome.status, outcome.err);
}

static void a_thread_alone_opens_nothing(void **state) {
	(void)state;
	run("alone", "ARENAL_MEMORY_LIMIT");
	run("alone", "ARENAL_MEMORY_LIMIT=40M");
	run("alone", "ARENAL_THP=1");
}

static void threads_open_nothing(void **state) {
	(void)state;
	run("threads", "ARENAL_MEMORY_LIMIT");
	run("threads", "ARENAL_MEMORY_LIMIT=40M");
}

static void the_purger_has_a_table_of_its_own(void **state) {
	(void)state;
	run("table", "ARENAL_MEMORY_LIMIT=1000M");
	assert_string_equal(outcome.out, "0");
}

static void handlers_of_exit_have_the_programs(void **state) {
	(void)state;
	for (int i = 0; i < 3; i++) {
		run("last", "ARENAL_MEMORY_LIMIT");
		assert_string_equal(outcome.out, "written at the end");
	}
}

int main(int argc, char **argv) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_alone_opens_nothing),
		cmocka_unit_test(threads_open_nothing),
		cmocka_unit_test(the_purger_has_a_table_of_its_own),
		cmocka_unit_test(handlers_of_exit_have_the_programs),
	};

	self = argv[0];
	if (argc == 2)
		return program(argv[1]);
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
