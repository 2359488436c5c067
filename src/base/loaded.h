/* The program and its libraries as the loader knows them: for where there is no /proc. */
#ifndef BASE_LOADED_H
#define BASE_LOADED_H

#include "base/base.h"

/* Part of a file that is mapped, in whole pages. */
struct loaded_segment {
	uintptr_t start, end;
	uintptr_t shift;     /* from the file's addresses to the process's */
	uint64_t offset;     /* in the file */
	char permissions[5]; /* as /proc says them */
	char file[1024];     /* as it was opened: it may be another one by now */
};

/* The segment of this number, of all that there are now. False: they are fewer. Waits for a lock of the
 * loader's, which it holds for moments only; the caller holds none of ours. */
bool loaded_segment(size_t number, struct loaded_segment *out);

#endif
