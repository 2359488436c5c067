/* What makes system calls in a build of the library that is otherwise the tested one (base/syscall.c), and lets them fail. What fails
 * is said in the environment:
 *
 *   FAULT_CALL=mmap       the function: mmap munmap mremap madvise mprotect sbrk pthread_create
 *   FAULT_AT=3            its third call fails ...
 *   FAULT_FOREVER=1       ... and all later ones too
 *   FAULT_RATE=3          instead of FAULT_AT: one call in three fails, at random; FAULT_SEED=7 sets which. madvise fails
 *                         with EAGAIN, EINVAL or ENOMEM then, and has done half of the work in the last case
 *   FAULT_FOREIGN=before  with sbrk: the call succeeds, but somebody else moves the break just before it, or "after" it
 *
 * FAULT_PAGE=65536: pages are said to be so large, mappings begin and end at multiples of that, and the process ends when a
 * call is about less than whole pages.
 *
 * Programs find these functions by dlsym. */
#ifndef FAULT_SHIM_H
#define FAULT_SHIM_H

#include <stdbool.h>
#include <stddef.h>

/* From now on nothing fails. */
typedef void fault_off_function(void);

/* fault_count: how many calls failed, or met a foreign move of the break. fault_calls: how many there were. */
typedef size_t fault_count_function(void);

/* Is all memory that the foreign moves claimed still there, untouched? */
typedef bool fault_foreign_intact_function(void);

#endif
