/* A library that is preloaded before Arenal and has libc's functions for system calls and the clock itself, as torsocks, libfaketime, Open
 * MPI's hooks and tracers do; and it allocates in them, which their authors may do. Who calls them in the middle of malloc comes back into
 * malloc, perhaps with a lock held.
 *
 * It also counts who calls: interposed_by_arenal returns the name of a function that Arenal has called, NULL when it called none. What the
 * library may call for threads of its own, where it holds no lock, does not count. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static __thread bool inside;
static _Atomic(const char *) caught;

EXPORTED const char *interposed_by_arenal(void) {
	return atomic_load(&caught);
}

/* A block of each kind. */
static void allocate(void) {
	static const size_t sizes[] = { 1, 100, 5000, 70000, 400000, 3000000 };

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		char *volatile block = calloc(1, sizes[i]);
		block = realloc(block, sizes[i] + sizes[i] / 2);
		free(block);
	}
}

static bool is_arenal(void *address) {
	Dl_info info;

	return dladdr(address, &info) && strstr(info.dli_fname, "libarenal") != NULL;
}

/* The true function. */
static void *enter(const char *name, void *caller) {
	if (!inside) {
		inside = true;
		if (caller && is_arenal(caller))
			atomic_store(&caught, name);
		allocate();
		inside = false;
	}
	return dlsym(RTLD_NEXT, name);
}

#define INTERPOSE(type, name, parameters, ...) \
	EXPORTED type name parameters { \
		type(*real) parameters = (type(*) parameters)enter(#name, __builtin_return_address(0)); \
		return real(__VA_ARGS__); \
	}

INTERPOSE(int, clock_gettime, (clockid_t clock, struct timespec *now), clock, now)
INTERPOSE(void *, mmap, (void *a, size_t size, int protection, int flags, int file, off_t offset), a, size, protection, flags, file, offset)
INTERPOSE(int, munmap, (void *a, size_t size), a, size)
INTERPOSE(void *, sbrk, (intptr_t delta), delta)
INTERPOSE(int, brk, (void *end), end)
INTERPOSE(int, mincore, (void *a, size_t size, unsigned char *pages), a, size, pages)
INTERPOSE(ssize_t, read, (int file, void *text, size_t size), file, text, size)
INTERPOSE(ssize_t, pread, (int file, void *text, size_t size, off_t offset), file, text, size, offset)
INTERPOSE(ssize_t, write, (int file, const void *text, size_t size), file, text, size)
INTERPOSE(int, close, (int file), file)
INTERPOSE(int, ftruncate, (int file, off_t size), file, size)
INTERPOSE(int, fstat, (int file, struct stat *about), file, about)
INTERPOSE(int, unlink, (const char *path), path)
INTERPOSE(int, getrlimit, (__rlimit_resource_t resource, struct rlimit *limit), resource, limit)
INTERPOSE(int, getrusage, (__rusage_who_t who, struct rusage *usage), who, usage)
INTERPOSE(int, sched_getaffinity, (pid_t process, size_t size, cpu_set_t *set), process, size, set)
INTERPOSE(ssize_t, getrandom, (void *text, size_t size, unsigned flags), text, size, flags)
INTERPOSE(pid_t, getpid, (void), )
INTERPOSE(pid_t, gettid, (void), )
INTERPOSE(unsigned long, getauxval, (unsigned long kind), kind)
INTERPOSE(int, memfd_create, (const char *name, unsigned flags), name, flags)
INTERPOSE(int, close_range, (unsigned first, unsigned last, int flags), first, last, flags)
INTERPOSE(int, pthread_key_create, (pthread_key_t *key, void (*destructor)(void *)), key, destructor)
INTERPOSE(long, sysconf, (int name), name)
INTERPOSE(char *, getenv, (const char *name), name)

/* These pass their arguments on whatever they are. */
EXPORTED void *mremap(void *a, size_t from, size_t to, int flags, ...) {
	typedef void *function(void *, size_t, size_t, int, void *);
	__builtin_va_list rest;
	__builtin_va_start(rest, flags);
	void *target = __builtin_va_arg(rest, void *);
	__builtin_va_end(rest);
	return ((function *)enter("mremap", __builtin_return_address(0)))(a, from, to, flags, target);
}

EXPORTED int open(const char *path, int flags, ...) {
	typedef int function(const char *, int, int);
	__builtin_va_list rest;
	__builtin_va_start(rest, flags);
	int mode = __builtin_va_arg(rest, int);
	__builtin_va_end(rest);
	return ((function *)enter("open", __builtin_return_address(0)))(path, flags, mode);
}

EXPORTED int fcntl(int file, int command, ...) {
	typedef int function(int, int, long);
	__builtin_va_list rest;
	__builtin_va_start(rest, command);
	long argument = __builtin_va_arg(rest, long);
	__builtin_va_end(rest);
	return ((function *)enter("fcntl", __builtin_return_address(0)))(file, command, argument);
}

EXPORTED long syscall(long number, ...) {
	typedef long function(long, long, long, long, long, long, long);
	long arguments[6];
	__builtin_va_list rest;
	__builtin_va_start(rest, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = __builtin_va_arg(rest, long);
	__builtin_va_end(rest);
	function *real = (function *)enter("syscall", __builtin_return_address(0));
	return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

/* Called where Arenal holds no lock, when it starts threads and for functions that it passes on: they allocate, and do not count. */
#define INTERPOSE_UNCOUNTED(type, name, parameters, ...) \
	EXPORTED type name parameters { \
		type(*real) parameters = (type(*) parameters)enter(#name, NULL); \
		return real(__VA_ARGS__); \
	}

INTERPOSE_UNCOUNTED(int, madvise, (void *a, size_t size, int advice), a, size, advice)
INTERPOSE_UNCOUNTED(int, mprotect, (void *a, size_t size, int protection), a, size, protection)
INTERPOSE_UNCOUNTED(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *before), how, set, before)
INTERPOSE_UNCOUNTED(int, pthread_setcancelstate, (int state, int *before), state, before)
INTERPOSE_UNCOUNTED(int, pthread_setspecific, (pthread_key_t key, const void *value), key, value)
INTERPOSE_UNCOUNTED(int, sigaction, (int number, const struct sigaction *action, struct sigaction *before), number, action, before)
