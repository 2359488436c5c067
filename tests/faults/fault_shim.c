#include "fault_shim.h"
#include "stamp.h"

/* The true ones. */
#define system_call real_call
#define system_break real_break
#define system_auxiliary real_auxiliary
#include "base/syscall.c"
#undef system_call
#undef system_break
#undef system_auxiliary
#include "base/syscall.h"
#include "base/libc.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
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

unsigned long system_auxiliary(unsigned long type) {
	return type == AT_PAGESZ && faked_page() ? faked_page() : real_auxiliary(type);
}

/* What the program asks. */
EXPORTED unsigned long getauxval(unsigned long type) {
	return system_auxiliary(type);
}

static void require_whole_pages(const char *call, const void *address, size_t length) {
	size_t page = faked_page();

	if (!page || ((uintptr_t)address | length) % page == 0)
		return;
	dprintf(STDERR_FILENO, "%s(%p, %#zx) is not about whole pages of %zu bytes\n", call, address, length, page);
	abort();
}

static long real(long number, long a, long b, long c) {
	return real_call(number, a, b, c, 0, 0, 0);
}

/* As a kernel with such pages would do it. */
static long map_pages(size_t page, size_t length, int protection, int flags) {
	long start = real_call(SYS_mmap, 0, (long)(length + page), protection, flags, -1, 0);

	if (is_error(start))
		return start;
	size_t head = (page - (size_t)start % page) % page;
	if (head > 0)
		real(SYS_munmap, start, (long)head, 0);
	real(SYS_munmap, start + (long)(head + length), (long)(page - head), 0);
	return start + (long)head;
}

static long do_mmap(void *address, size_t length, int protection, int flags, int file, long offset) {
	if (is_due("mmap"))
		return -ENOMEM;
	if (faked_page() && !address) {
		require_whole_pages("mmap", address, length);
		if (flags & MAP_ANONYMOUS)
			return map_pages(faked_page(), length, protection, flags);
		long place = map_pages(faked_page(), length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
		if (is_error(place))
			return place;
		address = (void *)place;
		flags |= MAP_FIXED;
	}
	return real_call(SYS_mmap, (long)address, (long)length, protection, flags, file, offset);
}

static long do_munmap(void *address, size_t length) {
	require_whole_pages("munmap", address, length);
	return is_due("munmap") ? -ENOMEM : real(SYS_munmap, (long)address, (long)length, 0);
}

static long do_mremap(void *address, size_t from, size_t to, int flags, long target) {
	require_whole_pages("mremap", address, from | to);
	if (is_due("mremap"))
		return -ENOMEM;
	if (faked_page() && flags == MREMAP_MAYMOVE) {
		/* The kernel would move it to any of its own pages. */
		if (real_call(SYS_mremap, (long)address, (long)from, (long)to, 0, 0, 0) == (long)address)
			return (long)address;
		target = map_pages(faked_page(), to, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
		if (is_error(target))
			return target;
		flags |= MREMAP_FIXED;
	}
	return real_call(SYS_mremap, (long)address, (long)from, (long)to, flags, target, 0);
}

/* As the kernel would refuse it. */
static long do_madvise(void *address, size_t length, int advice) {
	static const int errors[] = { EAGAIN, EINVAL, ENOMEM };
	size_t call = is_due("madvise");

	require_whole_pages("madvise", address, length);
	if (!call)
		return real(SYS_madvise, (long)address, (long)length, advice);
	int error = setting("FAULT_RATE") ? errors[draw(~call) % 3] : EAGAIN;
	/* The kernel goes from page to page, and keeps what it has done when it cannot go on. */
	if (error == ENOMEM)
		real(SYS_madvise, (long)address, (long)(length / 2 & ~(size_t)4095), advice);
	return -error;
}

static long do_mprotect(void *address, size_t length, int protection) {
	require_whole_pages("mprotect", address, length);
	return is_due("mprotect") ? -ENOMEM : real(SYS_mprotect, (long)address, (long)length, protection);
}

long system_call(long number, long a, long b, long c, long d, long e, long f) {
	switch (number) {
	case SYS_mmap:
		return do_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f);
	case SYS_munmap:
		return do_munmap((void *)a, (size_t)b);
	case SYS_mremap:
		return do_mremap((void *)a, (size_t)b, (size_t)c, (int)d, e);
	case SYS_madvise:
		return do_madvise((void *)a, (size_t)b, (int)c);
	case SYS_mprotect:
		return do_mprotect((void *)a, (size_t)b, (int)c);
	case SYS_memfd_create:
		return is_due("memfd_create") ? -EMFILE : real(number, a, b, 0);
	case SYS_close_range:
		return is_due("close_range") ? -ENOSYS : real(number, a, b, c);
	default:
		return real_call(number, a, b, c, d, e, f);
	}
}

typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
	if (is_due("pthread_create"))
		return EAGAIN;
	return ((create_function *)dlsym(RTLD_NEXT, "pthread_create"))(thread, attributes, body, argument);
}

/* For threads of its own, the library has found libc's function by now. */
__attribute__((constructor(102))) static void wrap_create(void) {
	libc.pthread_create = pthread_create;
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
	void *start = real_break((intptr_t)size);
	if (!start)
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

void *system_break(intptr_t delta) {
	const char *when = getenv("FAULT_FOREIGN");

	/* The question where the break is cannot fail. Foreigners only meet growth: nobody can lower a break that another
	 * thread raises at that moment. */
	if (delta == 0 || (when && delta < 0) || !is_due("sbrk"))
		return real_break(delta);
	if (!when)
		return NULL;
	if (strcmp(when, "before") == 0)
		move_break_as_a_foreigner();
	void *old = real_break(delta);
	if (strcmp(when, "after") == 0)
		move_break_as_a_foreigner();
	return old;
}
