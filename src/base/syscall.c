#include "base/syscall.h"

#include <errno.h>
#include <stddef.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
/* Sanitizers keep records of memory, and see by libc's functions when it is mapped and unmapped. */
#include <sys/mman.h>
#include <unistd.h>

long system_call(long number, long a, long b, long c, long d, long e, long f) {
	const int saved = errno;
	long result;
	if (number == SYS_mmap)
		result = (long)mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f);
	else if (number == SYS_munmap)
		result = munmap((void *)a, (size_t)b);
	else if (number == SYS_mremap)
		result = (long)mremap((void *)a, (size_t)b, (size_t)c, (int)d, (void *)e);
	else
		result = syscall(number, a, b, c, d, e, f);
	if (result == -1) result = -errno;
	errno = saved;
	return result;
}
#elif defined(__x86_64__)
long system_call(long number, long a, long b, long c, long d, long e, long f) {
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
	                 : "+a"(number)
	                 : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return number;
}
#elif defined(__aarch64__)
long system_call(long number, long a, long b, long c, long d, long e, long f) {
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
	                 : "+r"(x0)
	                 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
	                 : "memory", "cc");
	return x0;
}
#endif

#ifdef __GLIBC__
/* The second names. */
extern void *libc_sbrk(intptr_t delta) __asm__("__sbrk");
extern unsigned long libc_getauxval(unsigned long type) __asm__("__getauxval");
#else
#include <sys/auxv.h>
#include <unistd.h>

/* musl's sbrk moves nothing. Nor may we, past it: its own malloc, which the loader goes on using, takes the
 * break for its own, and lowers it into what lies above. */
static void *libc_sbrk(intptr_t delta) { return delta == 0 ? sbrk(0) : (void *)-1; }
static unsigned long libc_getauxval(unsigned long type) { return getauxval(type); }
#endif

void *system_break(intptr_t delta) {
	const int saved = errno;
	void *old = libc_sbrk(delta);
	errno = saved;
	return old == (void *)-1 ? NULL : old;
}

unsigned long system_auxiliary(unsigned long type) {
	const int saved = errno; /* it sets errno where there is no such entry */
	const unsigned long value = libc_getauxval(type);
	errno = saved;
	return value;
}
