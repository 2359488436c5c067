/* System calls themselves. libc's functions may have been taken by another library (LD_PRELOAD), which may
 * allocate in them: called in the middle of malloc, perhaps under a lock, they would come back here and wait
 * for it. What is needed of libc all the same has a second name there, which nobody interposes.
 *
 * The fault tests put an object of their own in the place of this one (tests/faults). */
#ifndef BASE_SYSCALL_H
#define BASE_SYSCALL_H

#include <stdint.h>
#include <sys/syscall.h>

/* Returns what the kernel does: a negative errno where it fails. errno is left alone. */
long system_call(long number, long a, long b, long c, long d, long e, long f);

/* system_call with as many arguments as the call has, of any type. */
#define CALL(number, ...) CALL_OF_SIX(number, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_OF_SIX(number, a, b, c, d, e, f, ...) \
	system_call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline int is_error(long result) { return (unsigned long)result > -4096UL; }

/* libc's sbrk: other libraries use it too, and libc keeps where the break is. NULL where it fails: musl's
 * moves nothing, and only tells where it is. */
void *system_break(intptr_t delta);

/* libc's getauxval. */
unsigned long system_auxiliary(unsigned long type);

#endif
