/* The barrier in all threads that drains wait for: is it there, and what happens meanwhile. For a test that is linked with
 * --wrap=system_call. */
#ifndef BARRIER_H
#define BARRIER_H

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unit.h"

/* Without it, nothing is taken from a thread. ThreadSanitizer does not know it, see os_thread.c. */
static inline void need_barrier(void) {
#ifdef __SANITIZE_THREAD__
	SKIP("ThreadSanitizer does not know membarrier");
#endif
	const long known = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
	if (known < 0 || (known & MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) SKIP("membarrier is missing (Linux 4.14) or forbidden");
}

/* What happens while somebody waits for a barrier; returns whether the kernel offers that. */
static bool (*during_barrier)(void);

/* In place of the library's (--wrap). */
long __real_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f) {
	if (number == SYS_membarrier && during_barrier != NULL && !during_barrier()) return -ENOSYS;
	return __real_system_call(number, a, b, c, d, e, f);
}

#endif
