/* The kernel's functions that need no system call (vdso(7)). libc has them, too, but not by a name that
 * nobody interposes. */
#ifndef BASE_VDSO_H
#define BASE_VDSO_H

#include <stdint.h>

/* The function of this name in the image at `base` (AT_SYSINFO_EHDR, 0: there is none). NULL when it has no
 * such function. */
void *vdso_function(uintptr_t base, const char *name);

#endif
