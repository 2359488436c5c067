/* What programs tell the kernel about their memory, and what it does with it from then on: that it is locked,
 * not there in children, read only, on some NUMA node. That belongs to mappings, and would go on to the next
 * owner of a block: so these functions come here first, and the large blocks that a call is about are
 * unmapped, or renewed, when they are freed, as libc's malloc does it. Up to 32 KiB, blocks share their pages
 * with others, under libc's malloc, too.
 *
 * Part of the shared library only, which programs find before libc. A program's own function of such a name
 * stays in its place, and what calls the kernel directly goes unseen. */
#include "api/api.h"
#include "arena/heap.h"
#include "arena/huge.h"
#include "arena/mark.h"
#include "arena/policy.h"
#include "base/libc.h"
#include "base/os.h"
#include "harden/hard_large.h"
#include "harden/harden.h"

#include <sys/mman.h>
#include <sys/syscall.h>

/* The next definitions: libc's, or those of another library that wants to see these calls. Looked up when the
 * library is loaded, for handlers of signals call them; until then, and for what nobody else defines, the
 * kernel is called. */
static struct {
	int (*_Atomic madvise)(void *address, size_t size, int advice);
	int (*_Atomic posix_madvise)(void *address, size_t size, int advice);
	int (*_Atomic mprotect)(void *address, size_t size, int protection);
	int (*_Atomic pkey_mprotect)(void *address, size_t size, int protection, int key);
	int (*_Atomic mlock)(const void *address, size_t size);
	int (*_Atomic mlock2)(const void *address, size_t size, unsigned flags);
	int (*_Atomic mlockall)(int flags);
} next;

#define FIND(name) *(void *_Atomic *)&next.name = libc_next(#name)

__attribute__((constructor)) static void find_next(void) {
	FIND(madvise);
	FIND(posix_madvise);
	FIND(mprotect);
	FIND(pkey_mprotect);
	FIND(mlock);
	FIND(mlock2);
	FIND(mlockall);
}

/* Since Linux 5.14, 5.18, 6.1. */
enum {
	ADVICE_POPULATE_READ = 22,
	ADVICE_POPULATE_WRITE = 23,
	ADVICE_DONTNEED_LOCKED = 24,
	ADVICE_COLLAPSE = 25
};

/* Does this advice change how the kernel treats the memory from now on? What is not known here does. */
static bool lasts(int advice) {
	switch (advice) {
	case MADV_NORMAL: /* takes others back */
	case MADV_WILLNEED:
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_REMOVE:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case ADVICE_POPULATE_READ:
	case ADVICE_POPULATE_WRITE:
	case ADVICE_DONTNEED_LOCKED:
	case ADVICE_COLLAPSE: return false;
	default: return true;
	}
}

/* Returns whether small blocks lie there. */
static bool alter(const void *address, size_t size, size_t least) {
	int saved = errno;
	bool small = false;
	huge_alter(address, size, least);
	if (least == 0 && size < SIZE_MAX) small = heap_alter(address, size);
	if (unlikely(harden_is_on)) large_hard_alter(address, size);
	errno = saved;
	return small;
}

static void advised(const void *address, size_t size, int advice) {
	/* Programs ask for huge pages all the time, for blocks that come and go (numpy does for all arrays
	 * from 4 MiB on): up to what libc's malloc would keep, these are worth keeping. */
	const size_t least = advice == MADV_HUGEPAGE ? LIBC_HEAP_MAX + 1 : 0;
	if (lasts(advice) && alter(address, size, least) && advice == MADV_WIPEONFORK) mark_let_be_wiped();
}

EXPORT int madvise(void *address, size_t size, int advice) {
	advised(address, size, advice);
	if (likely(next.madvise != NULL)) return next.madvise(address, size, advice);
	return (int)os_pass(SYS_madvise, (long)address, (long)size, advice, 0, 0, 0);
}

/* Returns the error, and leaves errno alone. POSIX_MADV_DONTNEED does nothing, since Linux's would lose what
 * the memory holds. */
EXPORT int posix_madvise(void *address, size_t size, int advice) {
	if (advice != POSIX_MADV_DONTNEED) advised(address, size, advice);
	if (likely(next.posix_madvise != NULL)) return next.posix_madvise(address, size, advice);
	if (advice == POSIX_MADV_DONTNEED) return 0;
	const int saved = errno;
	const int error = os_pass(SYS_madvise, (long)address, (long)size, advice, 0, 0, 0) == 0 ? 0 : errno;
	errno = saved;
	return error;
}

EXPORT int mprotect(void *address, size_t size, int protection) {
	alter(address, size, 0);
	if (likely(next.mprotect != NULL)) return next.mprotect(address, size, protection);
	return (int)os_pass(SYS_mprotect, (long)address, (long)size, protection, 0, 0, 0);
}

EXPORT int pkey_mprotect(void *address, size_t size, int protection, int key) {
	alter(address, size, 0);
	if (likely(next.pkey_mprotect != NULL)) return next.pkey_mprotect(address, size, protection, key);
	if (key == -1) /* also where the kernel knows no keys */
		return (int)os_pass(SYS_mprotect, (long)address, (long)size, protection, 0, 0, 0);
	return (int)os_pass(SYS_pkey_mprotect, (long)address, (long)size, protection, key, 0, 0);
}

EXPORT int mlock(const void *address, size_t size) {
	alter(address, size, 0);
	if (likely(next.mlock != NULL)) return next.mlock(address, size);
	return (int)os_pass(SYS_mlock, (long)address, (long)size, 0, 0, 0, 0);
}

EXPORT int mlock2(const void *address, size_t size, unsigned flags) {
	alter(address, size, 0);
	if (likely(next.mlock2 != NULL)) return next.mlock2(address, size, flags);
	if (flags == 0) return (int)os_pass(SYS_mlock, (long)address, (long)size, 0, 0, 0, 0);
	const long result = os_pass(SYS_mlock2, (long)address, (long)size, flags, 0, 0, 0);
	if (result != 0 && errno == ENOSYS) errno = EINVAL;
	return (int)result;
}

/* With MCL_FUTURE, every mapping is locked anyway. Without, those of later blocks are not: nor are they to
 * come from what is kept now. */
EXPORT int mlockall(int flags) {
	if ((flags & MCL_FUTURE) == 0) {
		const int saved = errno;
		alter(NULL, SIZE_MAX, 0);
		huge_purge();
		if (unlikely(harden_is_on)) large_hard_purge();
		errno = saved;
	}
	if (likely(next.mlockall != NULL)) return next.mlockall(flags);
	return (int)os_pass(SYS_mlockall, flags, 0, 0, 0, 0, 0);
}

/* Of libnuma, which need not be there, nor its header: it calls the kernel likewise. */
long mbind(void *address, unsigned long size, int mode, const unsigned long *nodes, unsigned long max_node,
           unsigned flags);

EXPORT long mbind(void *address, unsigned long size, int mode, const unsigned long *nodes,
                  unsigned long max_node, unsigned flags) {
	alter(address, size, 0);
	return os_pass(SYS_mbind, (long)address, (long)size, mode, (long)nodes, (long)max_node, flags);
}
