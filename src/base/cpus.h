/* The CPUs that the process may run on, as it was told from outside (taskset, a container): what its own
 * threads are pinned to later is theirs. So they are asked for once, at the start. */
#ifndef BASE_CPUS_H
#define BASE_CPUS_H

#include "base/base.h"

/* At the first moment in the life of the process that is ours: later calls do nothing. */
void cpus_remember(void);

/* How many, at least 1. */
unsigned cpus_count(void);

/* From now on, the calling thread may run on all of them, if the system lets it. */
void cpus_use_all(void);

/* As many CPUs as a set of so many bytes has room for: more than any kernel can be built for (8,192). */
#define CPUS_BYTES 8192

/* For tests: bytes of a set like the kernel's that are in use, and how many CPUs are in it. */
unsigned cpus_in(const unsigned char *set, long bytes);

#endif
