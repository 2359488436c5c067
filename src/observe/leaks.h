/* What the process has not freed at its end: all of it (leaks 1), or what it could not have freed any more,
 * since nothing points to it (leaks 2, reach). Of the samples of the heap profile. */
#ifndef OBSERVE_LEAKS_H
#define OBSERVE_LEAKS_H

#include "observe/profile.h"

enum leaks {
	LEAKS_NONE,
	LEAKS_HELD,
	LEAKS_REACH,
};

/* Once, when libc is there. stays: in the shared library, which is never unloaded. */
void leaks_start(bool stays);

/* Of all that is held. */
void leaks_report_held(void);

/* Sets the bit of each stack that the file ARENAL_LEAKS_IGNORE names, by a function or a file. Returns the
 * number of stacks; SIZE_MAX when the file cannot be read. */
size_t leaks_ignored(uint64_t *stacks);

#endif
