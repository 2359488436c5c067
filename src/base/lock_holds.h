/* How long locks are held: who waits for one, waits so long. Counted in debug builds only, and printed with
 * the statistics: no lock is to be held over a system call, or a walk that grows with the heap. */
#ifndef BASE_LOCK_HOLDS_H
#define BASE_LOCK_HOLDS_H

#include "base/lock.h"

#ifdef NDEBUG
static inline bool lock_holds_line(enum lock_rank rank, char *text, size_t size) {
	return (void)rank, (void)text, (void)size, false;
}
static inline void lock_holds_leave_out(void) {}
#else
/* Writes a line about the locks of this rank; false when none was ever held. RANKS: the table's head. */
bool lock_holds_line(enum lock_rank rank, char *text, size_t size);

/* For a fork, which holds all of them: what the thread holds now is not counted. */
void lock_holds_leave_out(void);
#endif

#endif
