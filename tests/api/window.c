/* The window's thread: when there is one, and that the program, and its end, do not notice. What it answers is tested
 * by tests/tools. */
#include "support.h"
#include "window_client.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#define WAIT_FOR(condition) \
	do { \
		time_t end = time(NULL) + 60; \
		while (!(condition) && time(NULL) < end) nanosleep(&(struct timespec){ 0, 5000000 }, NULL); \
		if (!(condition)) fail_msg("%s does not come about", #condition); \
	} while (0)

static struct window own_window(void) {
	struct window window;
	WAIT_FOR(window_open(&window, getpid()));
	return window;
}

static void a_process_without_threads_answers(void **state) {
	(void)state;
	struct window window = own_window();
	int64_t value;
	assert_int_equal(window_ask(&window, SET, "decay", 700, NULL), 0);
	assert_int_equal(arenal_get("decay", &value), 0);
	assert_int_equal(value, 700);
	assert_int_equal(arenal_set("decay", 1000), 0);
	assert_int_equal(window_ask(&window, GET, "decay", 0, &value), 0);
	assert_int_equal(value, 1000);
	assert_int_equal(window_ask(&window, SET, "decay", -2, NULL), EINVAL);
	assert_int_equal(window_ask(&window, SET, "harden", 1, NULL), EPERM);
	assert_int_equal(window_ask(&window, GET, "", 0, NULL), ENOENT);
	window_close(&window);
}

static void it_blocks_every_signal(void **state) {
	(void)state;
	char path[64], text[4096] = "";
	WAIT_FOR(window_thread(getpid()) != 0);
	snprintf(path, sizeof path, "/proc/self/task/%d/status", window_thread(getpid()));
	int file = open(path, O_RDONLY);
	assert_true(read(file, text, sizeof text - 1) > 0);
	close(file);
	const char *line = strstr(text, "\nSigBlk:");
	assert_non_null(line);
	unsigned long long blocked = strtoull(line + 8, NULL, 16);
	for (int number = 1; number < 32; number++)
		if (number != SIGKILL && number != SIGSTOP) assert_true(blocked >> (number - 1) & 1);
}

static int lowest_descriptor(void) {
	int file = open("/dev/null", O_RDONLY);
	close(file);
	return file;
}

static void it_takes_no_descriptor(void **state) {
	(void)state;
	struct window window = own_window();
	const int before = lowest_descriptor();
	assert_int_equal(window_ask(&window, SNAPSHOT, "", 1, NULL), 0);
	assert_int_equal(lowest_descriptor(), before);
	assert_int_equal(before, window.file + 1);
	window_close(&window);
}

/* In a child, which allocates until it has a window. 0: it has, and it answers. */
static int ask_in_child(void) {
	struct window window;
	alarm(60);
	for (int i = 0; i < 400; i++) {
		void *blocks[300];
		for (int j = 0; j < 300; j++) blocks[j] = malloc(700);
		for (int j = 0; j < 300; j++) free(blocks[j]);
		if (window_open(&window, getpid())) return window_ask(&window, SNAPSHOT, "", 0, NULL) == 0 ? 0 : 3;
		nanosleep(&(struct timespec){ 0, 5000000 }, NULL);
	}
	return 4;
}

/* ---- the end of a process whose last thread ends ---- */

/* What is in stdio's buffer is written when the last thread runs the handlers of exit: by one that has the program's files. */
static void *say_something(void *main_thread) {
	pthread_join(*(pthread_t *)main_thread, NULL);
	free(malloc(100));
	printf("said by the last");
	return NULL;
}

static void end_with_threads(int file) {
	static pthread_t main_thread;
	pthread_t thread;
	alarm(60); /* kills it, should it live on */
	dup2(file, STDOUT_FILENO);
	close(file);
	if (ask_in_child() != 0) _exit(9);
	main_thread = pthread_self();
	pthread_create(&thread, NULL, say_something, &main_thread);
	pthread_detach(thread);
	pthread_exit(NULL);
}

static void the_last_thread_ends_the_process(void **state) {
	(void)state;
	int ends[2], status;
	char text[64] = "";
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	if (child == 0) end_with_threads(ends[1]);
	close(ends[1]);
	assert_true(read(ends[0], text, sizeof text - 1) > 0);
	assert_string_equal(text, "said by the last");
	assert_int_equal(read(ends[0], text, 1), 0);
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* ---- children ---- */

static void a_child_of_fork_has_its_own(void **state) {
	(void)state;
	int status;
	WAIT_FOR(window_thread(getpid()) != 0);
	pid_t child = fork();
	if (child == 0) {
		/* And a child of the child. */
		if (ask_in_child() != 0) _exit(1);
		child = fork();
		if (child == 0) _exit(ask_in_child());
		_exit(waitpid(child, &status, 0) == child && status == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* libc's handlers of fork do not run: nothing of the parent's window may be touched in the child, nor waited for. */
static void a_child_that_libc_knows_nothing_of(void **state) {
	(void)state;
	int status;
	WAIT_FOR(window_thread(getpid()) != 0);
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	assert_true(child >= 0);
	if (child == 0) {
		alarm(60);
		pthread_exit(NULL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
}

/* ---- the tunable ---- */

static void it_is_opened_in_a_running_process(void **state) {
	(void)state;
	free(malloc(100));
	assert_int_equal(window_thread(getpid()), 0);
	assert_int_equal(arenal_set("window", 1), 0);
	struct window window = own_window();
	assert_int_equal(arenal_set("window", 0), 0); /* this one stays */
	assert_int_equal(window_ask(&window, SNAPSHOT, "", 0, NULL), 0);
	window_close(&window);
	pid_t child = fork();
	int status;
	if (child == 0) {
		free(malloc(5000));
		_exit(ask_in_child() == 4 ? 0 : 1); /* 2 s without one */
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* ---- growth: programs that take memory and give none back ---- */

#define MIB ((size_t)1 << 20)

static bool take(size_t size, size_t bytes) {
	for (size_t taken = 0; taken < bytes; taken += size) {
		char *block = malloc(size);
		if (block == NULL) return false;
		block[0] = 1;
	}
	return true;
}

/* One block that grows by 5% each time. */
static bool take_one(size_t bytes) {
	char *block = NULL;
	for (size_t size = MIB; size < bytes; size += size / 20)
		if ((block = realloc(block, size)) == NULL) return false;
	return block != NULL;
}

/* The size of blocks; 0: one that grows; 1: aligned ones. */
static size_t size_taken;

static bool take_aligned(size_t bytes) {
	for (size_t taken = 0; taken < bytes; taken += 100000)
		if (aligned_alloc(4096, 100000) == NULL) return false;
	return true;
}

static bool take_some(size_t bytes) {
	return size_taken == 0 ? take_one(bytes) : size_taken == 1 ? take_aligned(bytes) : take(size_taken, bytes);
}

/* Another thread that allocates, and stays. */
static pthread_barrier_t has_cache;

static void *allocate_and_stay(void *unused) {
	(void)unused;
	if (malloc(100) == NULL) _exit(7);
	pthread_barrier_wait(&has_cache);
	pause();
	return NULL;
}

/* Frees nothing: that would be a slow moment of another kind. */
static int threads_of_this_process(void) {
	char text[4096] = "";
	int file = open("/proc/self/status", O_RDONLY);
	if (read(file, text, sizeof text - 1) <= 0) return -1;
	close(file);
	const char *line = strstr(text, "\nThreads:");
	return line != NULL ? atoi(line + 9) : -1;
}

/* In a child. */
static int grow_with_threads(void) {
	pthread_t thread;
	alarm(60);
	pthread_barrier_init(&has_cache, NULL, 2);
	if (pthread_create(&thread, NULL, allocate_and_stay, NULL) != 0) return 2;
	pthread_barrier_wait(&has_cache);
	if (window_thread(getpid()) != 0) return 3; /* it is small */
	if (!take_some(24 * MIB)) return 4;
	if (threads_of_this_process() < 3) return 6; /* it was started by then */
	struct window window = { 0 };
	WAIT_FOR(window_open(&window, getpid()));
	return window_ask(&window, SNAPSHOT, "", 0, NULL) == 0 ? 0 : 5;
}

/* Programs that call unshare by themselves, or warn of a fork beside threads, as Python does, are to find what they made. */
static int grow_alone(void) {
	alarm(60);
	return take_some(24 * MIB) && threads_of_this_process() == 1 ? 0 : 8;
}

static void growth_opens_one(void **state) {
	(void)state;
	static const size_t sizes[] = { 40, 1000, 50000, 300000, 3000000, 40 * MIB, 0, 1 };
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		for (int alone = 0; alone < 2; alone++) {
			int status;
			size_taken = sizes[i];
			pid_t child = fork();
			if (child == 0) _exit(alone ? grow_alone() : grow_with_threads());
			assert_int_equal(waitpid(child, &status, 0), child);
			if (status != 0) fail_msg("blocks of %zu, %s: %x", sizes[i], alone ? "alone" : "with threads", (unsigned)status);
		}
	}
}

int main(int argc, char **argv) {
	const struct CMUnitTest later[] = { cmocka_unit_test(it_is_opened_in_a_running_process) };
	const struct CMUnitTest growth[] = { cmocka_unit_test(growth_opens_one) };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_without_threads_answers),
		cmocka_unit_test(it_blocks_every_signal),
		cmocka_unit_test(it_takes_no_descriptor),
		cmocka_unit_test(the_last_thread_ends_the_process),
		cmocka_unit_test(a_child_of_fork_has_its_own),
		cmocka_unit_test(a_child_that_libc_knows_nothing_of),
	};
	if (argc > 1 && strcmp(argv[1], "growth") == 0) return cmocka_run_group_tests(growth, NULL, NULL);
	return argc > 1 ? cmocka_run_group_tests(later, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
