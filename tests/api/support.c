#include "support.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

size_t sample_size(size_t index) {
	if (index < 64)
		return index + 1;

	size_t step = (index - 64) / 3 + 1;
	size_t quarters = 4 + step % 4;
	size_t size = (quarters << (4 + step / 4));

	return size + (index - 64) % 3 - 1;
}

size_t hidden(size_t value) {
	__asm__("" : "+r"(value));
	return value;
}

char *unknown(void *pointer) {
	return (char *)hidden((size_t)pointer);
}

int require_arenal(void **state) {
	(void)state;
	if (dlsym(RTLD_DEFAULT, "arenal_version") || getenv("TEST_WITH_LIBC"))
		return 0;
	fprintf(stderr, "the library is not loaded: preload it, or set TEST_WITH_LIBC=1 to test the libc\n");
	return -1;
}

void *find_function(const char *name) {
	void *function = dlsym(RTLD_DEFAULT, name);

	if (!function)
		fail_msg("no function %s in this process", name);
	return function;
}

/* /proc/self/statm: total and resident pages. Read without stdio, which would allocate a buffer. */
static void read_statm(unsigned long pages[2]) {
	char text[128];
	int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t length = read(file, text, sizeof text - 1);

	close(file);
	text[length > 0 ? length : 0] = '\0';
	if (sscanf(text, "%lu %lu", &pages[0], &pages[1]) != 2)
		abort();
}

size_t virtual_bytes(void) {
	unsigned long pages[2];

	read_statm(pages);
	return pages[0] * (size_t)sysconf(_SC_PAGESIZE);
}

size_t resident_bytes(void) {
	unsigned long pages[2];

	read_statm(pages);
	return pages[1] * (size_t)sysconf(_SC_PAGESIZE);
}

static void set_soft_limit(int resource, size_t bytes) {
	struct rlimit limits;

	CHILD_CHECK(getrlimit(resource, &limits) == 0);
	limits.rlim_cur = bytes < limits.rlim_max ? bytes : limits.rlim_max;
	CHILD_CHECK(setrlimit(resource, &limits) == 0);
}

void limit_address_space(size_t bytes) {
	set_soft_limit(RLIMIT_AS, bytes);
}

void limit_data(size_t bytes) {
	set_soft_limit(RLIMIT_DATA, bytes);
}

void filter_calls(struct sock_filter *filter, size_t count) {
	struct sock_fprog program = { (unsigned short)count, filter };

	CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static int wait_for(pid_t child) {
	int status;

	while (waitpid(child, &status, 0) != child)
		;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int run_in_child(void (*body)(void *), void *argument) {
	pid_t child = fork();

	if (child == 0) {
		body(argument);
		_exit(0);
	}
	assert_true(child > 0);
	return wait_for(child);
}

const char *written_by_child(void (*body)(void *), void *argument, int *status) {
	static char text[4096];
	int file = memfd_create("stderr", MFD_CLOEXEC), saved = dup(STDERR_FILENO);

	assert_true(file >= 0 && saved >= 0);
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	void (*abort_handler)(int) = signal(SIGABRT, SIG_DFL), (*fault_handler)(int) = signal(SIGSEGV, SIG_DFL);
	*status = run_in_child(body, argument);
	signal(SIGABRT, abort_handler);
	signal(SIGSEGV, fault_handler);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	ssize_t length = pread(file, text, sizeof text - 1, 0);
	close(file);
	text[length > 0 ? length : 0] = '\0';
	return text;
}

void child_failed(const char *file, int line, const char *condition) {
	dprintf(STDERR_FILENO, "%s:%d: in a child process: %s does not hold\n", file, line, condition);
	_exit(1);
}

static void apply_changes(const char *const changes[]) {
	for (; changes && *changes; changes++) {
		char name[256];
		size_t length = strcspn(*changes, "=");

		CHILD_CHECK(length < sizeof name);
		memcpy(name, *changes, length);
		name[length] = '\0';
		if ((*changes)[length] == '=')
			setenv(name, *changes + length + 1, 1);
		else
			unsetenv(name);
	}
}

static void read_back(int file, char *text, size_t capacity) {
	ssize_t length = pread(file, text, capacity - 1, 0);

	assert_true(length >= 0);
	text[length] = '\0';
	close(file);
}

void run_program(struct outcome *outcome, const char *const arguments[], const char *const changes[],
                 void (*before_exec)(void)) {
	int out = memfd_create("stdout", MFD_CLOEXEC);
	int err = memfd_create("stderr", MFD_CLOEXEC);

	assert_true(out >= 0 && err >= 0);
	pid_t child = fork();
	if (child == 0) {
		apply_changes(changes);
		CHILD_CHECK(dup2(out, STDOUT_FILENO) >= 0);
		CHILD_CHECK(dup2(err, STDERR_FILENO) >= 0);
		if (before_exec)
			before_exec();
		execv(arguments[0], (char *const *)arguments);
		_exit(127);
	}
	assert_true(child > 0);
	outcome->status = wait_for(child);
	read_back(out, outcome->out, sizeof outcome->out);
	read_back(err, outcome->err, sizeof outcome->err);
}
