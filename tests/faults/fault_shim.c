#include "fault_shim.h"
#include "stamp.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED fault_off_function fault_off;
EXPORTED fault_count_function fault_count, fault_calls;
EXPORTED fault_foreign_intact_function fault_foreign_intact;

static atomic_bool off;
static atomic_size_t calls, faults;

static size_t setting(const char *name) {
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 10) : 0;
}

/* A random number for each call. */
static size_t draw(size_t call) {
	uint64_t z = (call + setting("FAULT_SEED") * 0x100000001u) * 0x9E3779B97F4A7C15u;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	return (z ^ z >> 31) >> 8;
}

/* The number of this call of `name` when it is one that fails, 0 otherwise. Before the libc has its environment nothing
 * fails. */
static size_t is_due(const char *name) {
	if (!environ || atomic_load(&off))
		return 0;
	const char *which = getenv("FAULT_CALL");
	size_t at = setting("FAULT_AT"), rate = setting("FAULT_RATE");
	if (!which || (!at && !rate) || strcmp(which, name) != 0)
		return 0;
	size_t call = atomic_fetch_add(&calls, 1) + 1;
	if (rate ? draw(call) % rate != 0 : call != at && !(call > at && getenv("FAULT_FOREVER")))
		return 0;
	atomic_fetch_add(&faults, 1);
	return call;
}

void fault_off(void) {
	atomic_store(&off, true);
}

size_t fault_count(void) {
	return atomic_load(&faults);
}

size_t fault_calls(void) {
	return atomic_load(&calls);
}

/* The page size that the process is told; 0: the true one. */
static size_t faked_page(void) {
	return environ ? setting("FAULT_PAGE") : 0;
}

EXPORTED unsigned long getauxval(unsigned long type) {
	static unsigned long (*real)(unsigned long);

	if (type == AT_PAGESZ && faked_page())
		return faked_page();
	if (!real)
		real = (unsigned long (*)(unsigned long))dlsym(RTLD_NEXT, "getauxval");
	return real(type);
}

static void require_whole_pages(const char *call, const void *address, size_t length) {
	size_t page = faked_page();

	if (!page || ((uintptr_t)address | length) % page == 0)
		return;
	dprintf(STDERR_FILENO, "%s(%p, %#zx) is not about whole pages of %zu bytes\n", call, address, length, page);
	abort();
}

/* As a kernel with such pages would do it. */
static void *map_pages(size_t page, size_t length, int protection, int flags) {
	char *start = (char *)syscall(SYS_mmap, NULL, length + page, protection, flags, -1, 0);

	if (start == MAP_FAILED)
		return MAP_FAILED;
	size_t head = (page - (uintptr_t)start % page) % page;
	if (head > 0)
		syscall(SYS_munmap, start, head);
	syscall(SYS_munmap, start + head + length, page - head);
	return start + head;
}

EXPORTED void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
	if (is_due("mmap")) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	/* Only the allocator maps memory without a name here: stacks are the libc's, which does not come by. */
	if (faked_page() && flags & MAP_ANONYMOUS && !address) {
		require_whole_pages("mmap", address, length);
		return map_pages(faked_page(), length, protection, flags);
	}
	return (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}

/* The name that a build with _FILE_OFFSET_BITS=64 calls. */
EXPORTED void *mmap64(void *address, size_t length, int protection, int flags, int file, off64_t offset)
	__attribute__((alias("mmap")));

EXPORTED int munmap(void *address, size_t length) {
	require_whole_pages("munmap", address, length);
	if (is_due("munmap")) {
		errno = ENOMEM;
		return -1;
	}
	return (int)syscall(SYS_munmap, address, length);
}

EXPORTED void *mremap(void *address, size_t from, size_t to, int flags, ...) {
	va_list rest;

	va_start(rest, flags);
	void *target = flags & MREMAP_FIXED ? va_arg(rest, void *) : NULL;
	va_end(rest);
	require_whole_pages("mremap", address, from | to);
	if (is_due("mremap")) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	if (faked_page() && flags == MREMAP_MAYMOVE) {
		/* The kernel would move it to any of its own pages. */
		if ((void *)syscall(SYS_mremap, address, from, to, 0, NULL) == address)
			return address;
		target = map_pages(faked_page(), to, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
		if (target == MAP_FAILED)
			return MAP_FAILED;
		flags |= MREMAP_FIXED;
	}
	return (void *)syscall(SYS_mremap, address, from, to, flags, target);
}

typedef long syscall_function(long, ...);

static syscall_function *real_syscall(void) {
	static _Atomic(syscall_function *) real;
	syscall_function *function = atomic_load(&real);

	if (!function) {
		function = (syscall_function *)dlsym(RTLD_NEXT, "syscall");
		atomic_store(&real, function);
	}
	return function;
}

/* 0, or -1 with errno: as the kernel would refuse it. */
static int may_madvise(void *address, size_t length, int advice) {
	static const int errors[] = { EAGAIN, EINVAL, ENOMEM };
	size_t call = is_due("madvise");

	require_whole_pages("madvise", address, length);
	if (call) {
		int error = setting("FAULT_RATE") ? errors[draw(~call) % 3] : EAGAIN;
		/* The kernel goes from page to page, and keeps what it has done when it cannot go on. */
		if (error == ENOMEM)
			real_syscall()(SYS_madvise, address, length / 2 & ~(size_t)4095, advice);
		errno = error;
		return -1;
	}
	return 0;
}

static int may_mprotect(void *address, size_t length) {
	require_whole_pages("mprotect", address, length);
	if (is_due("mprotect")) {
		errno = ENOMEM;
		return -1;
	}
	return 0;
}

typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
	if (is_due("pthread_create"))
		return EAGAIN;
	return ((create_function *)dlsym(RTLD_NEXT, "pthread_create"))(thread, attributes, body, argument);
}

/* What the window's thread calls. */
EXPORTED int memfd_create(const char *name, unsigned flags) {
	if (is_due("memfd_create")) {
		errno = EMFILE;
		return -1;
	}
	return (int)syscall(SYS_memfd_create, name, flags);
}

/* The allocator calls these by number: they have no name in libc, or are among its own functions too. Its others fail by their names. */
EXPORTED long syscall(long number, ...) {
	long arguments[6];
	va_list rest;

	va_start(rest, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(rest, long);
	va_end(rest);
	if (number == SYS_close_range && is_due("close_range")) {
		errno = ENOSYS;
		return -1;
	}
	if (number == SYS_madvise && may_madvise((void *)arguments[0], (size_t)arguments[1], (int)arguments[2]) != 0)
		return -1;
	if (number == SYS_mprotect && may_mprotect((void *)arguments[0], (size_t)arguments[1]) != 0)
		return -1;
	return real_syscall()(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

typedef void *sbrk_function(intptr_t);

static void *real_sbrk(intptr_t increment) {
	static _Atomic(sbrk_function *) real;
	sbrk_function *function = atomic_load(&real);

	if (!function) {
		function = (sbrk_function *)dlsym(RTLD_NEXT, "sbrk");
		atomic_store(&real, function);
	}
	return function(increment);
}

/* What the foreign moves claimed. Guarded by the allocator's own lock around its growth. */
static struct {
	void *start;
	size_t size;
} foreign[4096];
static size_t foreign_count;

static void move_break_as_a_foreigner(void) {
	static const size_t sizes[] = { 4096, 24, 100000, 1, 65536, 70001, 16 };
	size_t size = sizes[foreign_count % (sizeof sizes / sizeof sizes[0])];

	if (foreign_count == sizeof foreign / sizeof foreign[0])
		return;
	void *start = real_sbrk((intptr_t)size);
	if (start == (void *)-1)
		return;
	stamp_block(start, size, 1);
	foreign[foreign_count].start = start;
	foreign[foreign_count].size = size;
	foreign_count++;
}

bool fault_foreign_intact(void) {
	for (size_t i = 0; i < foreign_count; i++) {
		if (!stamp_intact(foreign[i].start, foreign[i].size, 1))
			return false;
	}
	return true;
}

EXPORTED void *sbrk(intptr_t increment) {
	const char *when = getenv("FAULT_FOREIGN");

	/* The question where the break is cannot fail. Foreigners only meet growth: nobody can lower a break that another
	 * thread raises at that moment. */
	if (increment == 0 || (when && increment < 0) || !is_due("sbrk"))
		return real_sbrk(increment);
	if (!when) {
		errno = ENOMEM;
		return (void *)-1;
	}
	if (strcmp(when, "before") == 0)
		move_break_as_a_foreigner();
	void *old = real_sbrk(increment);
	if (strcmp(when, "after") == 0)
		move_break_as_a_foreigner();
	return old;
}
