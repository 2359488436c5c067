/* Has this process locked itself in? Filters of system calls (seccomp) that kill have in mind what the
 * program calls, and what it calls under glibc's malloc. From then on, we make only the calls that glibc's
 * malloc makes, too (brk, mmap, munmap, mprotect, mremap, madvise, futex), and answer what else is asked by
 * what was known before (sandbox.c). The program has no more threads of ours than then.
 *
 * Noticed is who calls prctl by libc's name (api/sandbox.c), as OpenSSH, vsftpd and libseccomp do before
 * they set a filter; the tunable is for others. */
#ifndef BASE_SANDBOX_H
#define BASE_SANDBOX_H

#include <stdatomic.h>

#include "base/base.h"

extern _Atomic bool sandbox_on;

static inline bool sandbox_is_on(void) {
	return unlikely(atomic_load_explicit(&sandbox_on, memory_order_acquire));
}

#endif
