/* The thread that purges in the background: when there is one, and that nobody else notices. */
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* The directory in /proc of the thread of this name, or "". */
static const char *thread_named(const char *wanted) {
	static char path[300];
	DIR *tasks = opendir("/proc/self/task");
	assert_non_null(tasks);
	path[0] = 0;
	for (struct dirent *task; path[0] == 0 && (task = readdir(tasks)) != NULL;) {
		char name[300], text[32] = "";
		snprintf(name, sizeof name, "/proc/self/task/%s/comm", task->d_name);
		FILE *file = fopen(name, "r");
		if (file == NULL) continue;
		if (fgets(text, sizeof text, file) != NULL && strncmp(text, wanted, strlen(wanted)) == 0 && text[strlen(wanted)] == '\n')
			snprintf(path, sizeof path, "/proc/self/task/%s", task->d_name);
		fclose(file);
	}
	closedir(tasks);
	return path;
}

static const char *purger(void) { return thread_named("arenal"); }

/* The number behind "name:" in the status of a thread or of the process. Allocates nothing: that would be work for the
 * purger. */
static unsigned long long status_number(const char *directory, const char *name, int base) {
	char path[320], text[4096], key[64];
	snprintf(path, sizeof path, "%s/status", directory);
	snprintf(key, sizeof key, "\n%s:", name);
	int file = open(path, O_RDONLY);
	assert_true(file >= 0);
	ssize_t length = read(file, text, sizeof text - 1);
	close(file);
	assert_true(length > 0);
	text[length] = 0;
	const char *line = strstr(text, key);
	assert_non_null(line);
	return strtoull(line + strlen(key), NULL, base);
}

static size_t resident(void) { return status_number("/proc/self", "VmRSS", 10) * 1024; }

static void pause_a_moment(void) { nanosleep(&(struct timespec){ 0, 20 * 1000 * 1000 }, NULL); }

#define WAIT_FOR(condition) \
	do { \
		time_t end = time(NULL) + 60; \
		while (!(condition) && time(NULL) < end) pause_a_moment(); \
		assert_true(condition); \
	} while (0)

/* ---- a process whose threads have become idle ---- */

enum { THREADS = 4, BLOCKS = 20000 };

struct burst {
	pthread_t thread;
	unsigned char *blocks[BLOCKS];
	size_t sizes[BLOCKS];
};
static struct burst *bursts;
static pthread_barrier_t freed, over;

static bool survives(int i) { return i % 50 == 0; }

/* Builds up, frees all but every fiftieth block, and sleeps. */
static void *work(void *argument) {
	struct burst *burst = argument;
	for (int i = 0; i < BLOCKS; i++) {
		burst->sizes[i] = 16 + (size_t)(i * 37 % 3000);
		burst->blocks[i] = malloc(burst->sizes[i]);
		if (burst->blocks[i] == NULL) abort();
		memset(burst->blocks[i], i % 251, burst->sizes[i]);
	}
	for (int i = 0; i < BLOCKS; i++)
		if (!survives(i)) free(burst->blocks[i]);
	pthread_barrier_wait(&freed);
	pthread_barrier_wait(&over);
	for (int i = 0; i < BLOCKS; i++) {
		if (!survives(i)) continue;
		for (size_t j = 0; j < burst->sizes[i]; j++)
			if (burst->blocks[i][j] != i % 251) abort();
		free(burst->blocks[i]);
	}
	return NULL;
}

static void start_burst(void) {
	bursts = calloc(THREADS, sizeof *bursts);
	assert_non_null(bursts);
	pthread_barrier_init(&freed, NULL, THREADS + 1);
	pthread_barrier_init(&over, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&bursts[i].thread, NULL, work, &bursts[i]), 0);
	pthread_barrier_wait(&freed);
}

static void end_burst(void) {
	pthread_barrier_wait(&over);
	for (int i = 0; i < THREADS; i++) pthread_join(bursts[i].thread, NULL);
	free(bursts);
}

static void memory_of_idle_threads_goes_back(void **state) {
	(void)state;
	const size_t before = resident();
	start_burst();
	/* 120 MB were built, 2.4 MB live on. */
	WAIT_FOR(resident() < before + 30 * MIB);
	assert_true(purger()[0] != 0);
	end_burst(); /* which looks at what lives on */
}

static void it_blocks_every_signal(void **state) {
	(void)state;
	start_burst();
	WAIT_FOR(purger()[0] != 0);
	unsigned long long blocked = status_number(purger(), "SigBlk", 16);
	for (int number = 1; number < 32; number++)
		if (number != SIGKILL && number != SIGSTOP) assert_true(blocked >> (number - 1) & 1);
	end_burst();
}

/* It wakes up several times a second while it works; here, twice as long without. */
static void wait_until_it_sleeps(void) {
	char thread[300];
	snprintf(thread, sizeof thread, "%s", purger());
	for (unsigned long long quiet = 0, last = 0; quiet < 50;) {
		unsigned long long switches = status_number(thread, "voluntary_ctxt_switches", 10);
		quiet = switches == last ? quiet + 1 : 0;
		last = switches;
		pause_a_moment();
	}
}

static void it_sleeps_when_there_is_nothing_to_do(void **state) {
	(void)state;
	start_burst();
	WAIT_FOR(purger()[0] != 0);
	wait_until_it_sleeps();
	end_burst();
}

static void a_child_of_fork_gets_its_own(void **state) {
	(void)state;
	start_burst();
	WAIT_FOR(purger()[0] != 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		alarm(60);
		bool clean = purger()[0] == 0;
		start_burst();
		for (int i = 0; i < 3000 && purger()[0] == 0; i++) pause_a_moment();
		clean = clean && purger()[0] != 0;
		end_burst();
		_exit(clean ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	end_burst();
}

/* By clone, without glibc: no handler of fork runs, and what it has of its parent says that there is a purger, which is asleep. */
static void a_child_without_handlers_gets_its_own(void **state) {
	(void)state;
	start_burst();
	WAIT_FOR(purger()[0] != 0 && thread_named("arenal-window")[0] != 0);
	wait_until_it_sleeps(); /* what another thread has locked at this moment stays locked in the child */
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	assert_true(child >= 0);
	if (child == 0) {
		alarm(60);
		const size_t before = resident();
		/* Not by thread_named: that allocates, and so may start the threads. */
		if (status_number("/proc/self", "Threads", 10) != 1) _exit(1);
		start_burst();
		for (int i = 0; i < 3000 && (purger()[0] == 0 || thread_named("arenal-window")[0] == 0); i++) pause_a_moment();
		if (purger()[0] == 0) _exit(2);
		if (thread_named("arenal-window")[0] == 0) _exit(3);
		for (int i = 0; i < 3000 && resident() > before + 30 * MIB; i++) pause_a_moment();
		if (resident() > before + 30 * MIB) _exit(4);
		end_burst();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	end_burst();
}

static void *burst_and_end(void *unused) {
	start_burst();
	end_burst();
	return unused;
}

static void the_last_thread_ends_the_process(void **state) {
	(void)state;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		alarm(60); /* kills it, should it live on */
		pthread_t thread;
		pthread_create(&thread, NULL, burst_and_end, NULL);
		pthread_exit(NULL);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- a process without threads ---- */

static void a_single_thread_does_without(void **state) {
	(void)state;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		enum { MANY = 60000 };
		static unsigned char *blocks[MANY];
		const size_t before = resident();
		for (int i = 0; i < MANY; i++) {
			blocks[i] = malloc(2000);
			if (blocks[i] == NULL) _exit(1);
			memset(blocks[i], i % 251, 2000);
		}
		if (resident() < before + 100 * MIB) _exit(2);
		for (int i = 0; i < MANY; i++)
			if (!survives(i)) free(blocks[i]);
		if (resident() > before + 30 * MIB) _exit(3);
		if (purger()[0] != 0) _exit(4);
		for (int i = 0; i < MANY; i += 50)
			for (int j = 0; j < 2000; j++)
				if (blocks[i][j] != i % 251) _exit(5);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void not_when_told_so(void **state) {
	(void)state;
	start_burst();
	nanosleep(&(struct timespec){ 1, 0 }, NULL); /* nothing to wait for: it must not happen */
	assert_string_equal(purger(), "");
	end_burst();
}

int main(int argc, char **argv) {
	(void)argv;
	const struct CMUnitTest off[] = { cmocka_unit_test(not_when_told_so) };
	/* First what must find no thread of earlier tests in its process. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_single_thread_does_without),
		cmocka_unit_test(memory_of_idle_threads_goes_back),
		cmocka_unit_test(it_blocks_every_signal),
		cmocka_unit_test(it_sleeps_when_there_is_nothing_to_do),
		cmocka_unit_test(a_child_of_fork_gets_its_own),
		cmocka_unit_test(a_child_without_handlers_gets_its_own),
		cmocka_unit_test(the_last_thread_ends_the_process),
	};
	return argc > 1 ? cmocka_run_group_tests(off, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
