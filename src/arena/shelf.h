/* Shelves: runs that one thread freed and others are to take. A thread whose own kept runs are as many as may
 * be (cache/runs.h) leaves them with the arena that they were taken for, by length. So buffers that one
 * thread takes and another one frees go round without the page heap's lock, which is the whole process's.
 *
 * The kind of a run that lies there is SPAN_KEPT: a second free is found at once. Nobody waits for a shelf:
 * who finds its lock held does without. It is closed for a fork as those of bins are. Runs lie there only
 * while a purger comes by, which takes those that nobody wants. */
#ifndef ARENA_SHELF_H
#define ARENA_SHELF_H

#include "arena/arena.h"
#include "arena/region.h"
#include "arena/wave.h"

/* A purger runs. Else none is taken from there, nor put there: programs without threads do not pay for it. */
static inline bool shelves_are_open(void) {
	return atomic_load_explicit(&purged_in_background, memory_order_relaxed);
}

/* For a run that the page heap has just handed out to a thread of this arena: it is the one's whose shelf the
 * run goes to. */
static inline void shelf_own(const struct arena *arena, struct span *run) {
	run->home = (uint16_t)(arena->number + 1);
}

/* A run that holds so many bytes, of the shortest length that does, from the arena's shelf; its kind is
 * SPAN_RUN again. NULL: there is none. */
struct span *shelf_take(struct arena *arena, size_t size);

/* Leaves the run on its shelf. False: there is no room for it, or it has none. */
bool shelf_put(struct span *run);

/* Frees the runs of lengths that nobody took from a shelf for `looks` calls, all of a shelf that is too full
 * by now, or, with 0, all there are. True when there are others, which may turn out to be idle later. Without
 * a lock. */
bool shelves_drain(unsigned looks);

/* Bytes of all runs that lie there. */
size_t shelves_bytes(void);

#endif
