/* CPUs and scheduling: what the process was told from outside counts, not what threads of the program made of it for themselves. The
 * program runs itself again, as it is to be started. */
#include "support.h"

#include <arenal/arenal.h>
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *program;

/* Room for all CPUs that a kernel may have. */
static cpu_set_t sets[8];

static int cpus_of(int thread) {
	CHILD_CHECK(sched_getaffinity(thread, sizeof sets, sets) == 0);
	return CPU_COUNT_S(sizeof sets, sets);
}

static int first_cpu(void) {
	int cpu = 0;
	cpus_of(0);
	while (!CPU_ISSET_S(cpu, sizeof sets, sets)) cpu++;
	return cpu;
}

static void pin(int thread) {
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(first_cpu(), &set);
	CHILD_CHECK(sched_setaffinity(thread, sizeof set, &set) == 0);
}

static void pin_program(void) { pin(0); }

/* Waits for the thread of this name. */
static int thread_named(const char *wanted) {
	for (int i = 0; i < 10000; i++) {
		DIR *tasks = opendir("/proc/self/task");
		for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
			char path[300], name[32] = "";
			snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
			FILE *file = fopen(path, "r");
			if (file == NULL) continue;
			if (fgets(name, sizeof name, file) != NULL) name[strcspn(name, "\n")] = 0;
			fclose(file);
			if (strcmp(name, wanted) != 0) continue;
			const int thread = atoi(task->d_name);
			closedir(tasks);
			return thread;
		}
		closedir(tasks);
		nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
	}
	CHILD_CHECK(!"the thread is not there");
	return 0;
}

/* ---- threads of Arenal's own, started by one that has pinned itself and is scheduled in its own way ---- */

static int policy = SCHED_FIFO;
static pthread_barrier_t looked_at;

static void *work(void *unused) {
	enum { LARGE = 40, SMALL = 4000 };
	void *blocks[SMALL];
	pin(0);
	CHILD_CHECK(setpriority(PRIO_PROCESS, 0, 7) == 0);
	if (sched_setscheduler(0, policy, &(struct sched_param){ policy == SCHED_FIFO ? 10 : 0 }) != 0)
		CHILD_CHECK(sched_setscheduler(0, policy = SCHED_BATCH, &(struct sched_param){ 0 }) == 0);
	CHILD_CHECK(prctl(PR_SET_TIMERSLACK, 777000, 0, 0, 0) == 0);
	for (int i = 0; i < LARGE; i++) blocks[i] = malloc(900000);
	for (int i = 0; i < LARGE; i++) free(blocks[i]);
	for (int i = 0; i < SMALL; i++) blocks[i] = malloc(100);
	for (int i = 0; i < SMALL; i++) free(blocks[i]);
	pthread_barrier_wait(&looked_at);
	return unused;
}

static int wait_for_policy(int thread, int wanted) {
	for (int i = 0; i < 5000 && sched_getscheduler(thread) != wanted; i++) nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	return sched_getscheduler(thread);
}

/* Nanoseconds by which its timers may be late. */
static long slack_of(int thread) {
	char path[64];
	long slack = 0;
	snprintf(path, sizeof path, "/proc/%d/timerslack_ns", thread);
	FILE *file = fopen(path, "r");
	CHILD_CHECK(file != NULL && fscanf(file, "%ld", &slack) == 1);
	fclose(file);
	return slack;
}

static void start_by_another(int wanted_policy) {
	const int cpus = cpus_of(0), niceness = getpriority(PRIO_PROCESS, 0);
	pthread_t thread;
	free(malloc(10));
	pthread_barrier_init(&looked_at, NULL, 2);
	CHILD_CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
	const int purger = thread_named("arenal"), window = thread_named("arenal-window"), both[] = { purger, window };
	for (int i = 0; i < 2; i++) {
		CHILD_CHECK(wait_for_policy(both[i], wanted_policy) == wanted_policy);
		for (int j = 0; j < 5000 && cpus_of(both[i]) != cpus; j++) nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		CHILD_CHECK(cpus_of(both[i]) == cpus);
		if (geteuid() != 0) continue; /* an ordinary user's thread cannot become nicer again, and does not see the other's slack */
		if (wanted_policy == SCHED_OTHER) CHILD_CHECK(getpriority(PRIO_PROCESS, both[i]) == niceness);
		for (int j = 0; j < 5000 && slack_of(both[i]) != 50000; j++) nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		CHILD_CHECK(slack_of(both[i]) == 50000);
	}
	pthread_barrier_wait(&looked_at);
	pthread_join(thread, NULL);
}

/* ---- arenas ---- */

static pthread_barrier_t all_there;

static void *allocate_pinned(void *unused) {
	free(malloc(hidden(100)));
	pthread_barrier_wait(&all_there);
	return unused;
}

/* Threads that are pinned before they allocate for the first time. */
static size_t arenas_of_pinned_threads(void) {
	enum { THREADS = 8 };
	pthread_t threads[THREADS];
	pthread_attr_t attributes;
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(first_cpu(), &set);
	pthread_attr_init(&attributes);
	pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
	pthread_barrier_init(&all_there, NULL, THREADS);
	pin(0);
	for (int i = 0; i < THREADS; i++) CHILD_CHECK(pthread_create(&threads[i], &attributes, allocate_pinned, NULL) == 0);
	for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
	struct arenal_stats stats;
	arenal_stats_get(&stats, sizeof stats);
	return stats.arenas;
}

/* A kernel for more than 1,024 CPUs: it refuses sets of 128 bytes and less. */
static void want_large_sets(void) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_getaffinity, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 128, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	filter_calls(filter, COUNT_OF(filter));
}

/* A service's filter, as of systemd's @resources: it kills who changes where and how a thread runs. */
static void forbid_changes(void) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setattr, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setscheduler, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};

	filter_calls(filter, COUNT_OF(filter));
}

static atomic_bool over;

static void *take_again(void *unused) {
	enum { BLOCKS = 20000 };
	void **blocks = malloc(BLOCKS * sizeof *blocks);
	while (!over) {
		for (int i = 0; i < BLOCKS; i++) blocks[i] = malloc(1000);
		for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
	}
	free(blocks);
	return unused;
}

/* Like any server: threads that are as they were made. */
static void start_by_threads(void) {
	pthread_t threads[2];
	for (int i = 0; i < 2; i++) CHILD_CHECK(pthread_create(&threads[i], NULL, take_again, NULL) == 0);
	thread_named("arenal");
	thread_named("arenal-window");
	over = true;
	for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}

/* ---- the test, and what it runs ---- */

static void expect_success(const char *what, const char *argument, void (*before_exec)(void)) {
	static struct outcome outcome;
	const char *const arguments[] = { program, what, argument, NULL };
	run_program(&outcome, arguments, NULL, before_exec);
	if (outcome.status != 0) fail_msg("%s %s: status %d: %s", what, argument, outcome.status, outcome.err);
}

static void own_threads_run_where_the_process_may(void **state) {
	(void)state;
	expect_success("own_threads", "0", NULL);
	expect_success("own_threads", "0", pin_program);
}

static void be_idle(void) { CHILD_CHECK(sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){ 0 }) == 0); }

static void own_threads_of_an_idle_process_are_idle(void **state) {
	(void)state;
	if (geteuid() != 0) SKIP("only root comes back from SCHED_IDLE");
	expect_success("own_threads", "5", be_idle);
}

static void nothing_is_set_that_is_so(void **state) {
	(void)state;
	expect_success("threads", "0", forbid_changes);
}

static void as_many_arenas_for_pinned_threads(void **state) {
	(void)state;
	char cpus[16];
	snprintf(cpus, sizeof cpus, "%d", cpus_of(0) < 8 ? cpus_of(0) : 8);
	expect_success("arenas", cpus, NULL);
	expect_success("arenas", cpus, want_large_sets);
	expect_success("arenas", "1", pin_program);
}

int main(int argc, char **argv) {
	program = argv[0];
	if (argc == 3 && strcmp(argv[1], "own_threads") == 0) {
		start_by_another(atoi(argv[2]));
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "threads") == 0) {
		start_by_threads();
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "arenas") == 0) {
		CHILD_CHECK(arenas_of_pinned_threads() == (size_t)atoi(argv[2]));
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_threads_run_where_the_process_may),
		cmocka_unit_test(own_threads_of_an_idle_process_are_idle),
		cmocka_unit_test(nothing_is_set_that_is_so),
		cmocka_unit_test(as_many_arenas_for_pinned_threads),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
