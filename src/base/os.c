/* System calls of the process's start and end, and its clock.
 *
 * This and its neighbours (os_*.c, sandbox.c) are the only files that ask the kernel for anything. They do
 * so directly (base/syscall.h); of libc's functions, they call only such that nobody interposes in
 * practice, or by second names. */
#include "base/os.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "base/syscall.h"
#include "base/vdso.h"

size_t os_page_size = 4096;

/* The kernel's clock_gettime without a system call. NULL: it has none, or os_init was not yet. */
typedef int clock_gettime_function(clockid_t clock, struct timespec *now);
static clock_gettime_function *_Atomic clock_function;

/* Likewise; looked up when it is called for the first time. */
typedef long getcpu_function(unsigned *cpu, unsigned *node, void *unused);
static getcpu_function *_Atomic getcpu_of_kernel;

#if defined(__x86_64__)
#define CLOCK_FUNCTION "__vdso_clock_gettime"
#elif defined(__aarch64__)
#define CLOCK_FUNCTION "__kernel_clock_gettime"
#endif

void os_init(void) {
	const size_t size = system_auxiliary(AT_PAGESZ);
	if (is_power_of_two(size)) os_page_size = size;
	void *function = vdso_function(system_auxiliary(AT_SYSINFO_EHDR), CLOCK_FUNCTION);
	atomic_store_explicit(&clock_function, function, memory_order_relaxed);
}

const char *os_program(void) {
	const char *name = (const char *)system_auxiliary(AT_EXECFN);
	return name != NULL ? name : "";
}

bool os_is_secure(void) { return system_auxiliary(AT_SECURE) != 0; }

char **os_environ(void) { return environ; }

long os_pass(long call, long a, long b, long c, long d, long e, long f) {
	const long result = system_call(call, a, b, c, d, e, f);
	if (!is_error(result)) return result;
	errno = (int)-result;
	return -1;
}

static long no_getcpu(unsigned *cpu, unsigned *node, void *unused) {
	(void)cpu, (void)node, (void)unused;
	return -1;
}

unsigned os_node(void) {
	unsigned node = 0;
	getcpu_function *function = atomic_load_explicit(&getcpu_of_kernel, memory_order_relaxed);
	if (function == NULL) {
		void *found = vdso_function(system_auxiliary(AT_SYSINFO_EHDR), "__vdso_getcpu");
		function = found != NULL ? (getcpu_function *)found : no_getcpu;
		atomic_store_explicit(&getcpu_of_kernel, function, memory_order_relaxed);
	}
	return function(NULL, &node, NULL) == 0 ? node : 0;
}

static struct timespec now_by(clockid_t clock) {
	struct timespec now = { 0, 0 };
	clock_gettime_function *function = atomic_load_explicit(&clock_function, memory_order_relaxed);
	if (function == NULL || function(clock, &now) != 0) CALL(SYS_clock_gettime, clock, &now);
	return now;
}

uint64_t os_milliseconds(void) {
	const struct timespec now = now_by(CLOCK_MONOTONIC_COARSE);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t nanoseconds(clockid_t clock) {
	const struct timespec now = now_by(clock);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t os_nanoseconds(void) { return nanoseconds(CLOCK_MONOTONIC); }
uint64_t os_stopwatch(void) { return sandbox_is_on() ? 0 : os_nanoseconds(); }
uint64_t os_date(void) { return nanoseconds(CLOCK_REALTIME); }

/* The own time first: what the thread takes in between is no other's. */
uint64_t os_processor_time_of_others(void) {
	const uint64_t own = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
	return nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - own;
}

_Noreturn void os_abort(void) { abort(); }
