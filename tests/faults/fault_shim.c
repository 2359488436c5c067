#include "fault_shim.h"
#include "stamp.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
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

EXPORTED void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
	if (is_due("mmap")) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}

/* The name that a build with _FILE_OFFSET_BITS=64 calls. */
EXPORTED void *mmap64(void *address, size_t length, int protection, int flags, int file, off64_t offset)
	__attribute__((alias("mmap")));

EXPORTED int munmap(void *address, size_t length) {
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
	if (is_due("mremap")) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mremap, address, from, to, flags, target);
}

EXPORTED int madvise(void *address, size_t length, int advice) {
	static const int errors[] = { EAGAIN, EINVAL, ENOMEM };
	size_t call = is_due("madvise");

	if (call) {
		int error = setting("FAULT_RATE") ? errors[draw(~call) % 3] : EAGAIN;
		/* The kernel goes from page to page, and keeps what it has done when it cannot go on. */
		if (error == ENOMEM)
			syscall(SYS_madvise, address, length / 2 & ~(size_t)4095, advice);
		errno = error;
		return -1;
	}
	return (int)syscall(SYS_madvise, address, length, advice);
}

EXPORTED int mprotect(void *address, size_t length, int protection) {
	if (is_due("mprotect")) {
		errno = ENOMEM;
		return -1;
	}
	return (int)syscall(SYS_mprotect, address, length, protection);
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
