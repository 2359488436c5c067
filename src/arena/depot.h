/* Depots: blocks of 1 to 32 KiB that one thread gave back, and another one is to take. A batch of such blocks
 * is short, and each lies in a span of its own: in the bins, whose records other threads wrote last, it costs
 * about as much as its blocks are used. In a depot, which is one for each size class of the process, the
 * pointers stay as they came, and no record of a block is touched. So buffers that are passed from thread to
 * thread go round.
 *
 * Blocks that wait there are free, and have their marks. Nobody waits for a depot: who finds its lock held
 * goes to the bins. It is closed for a fork as those of bins are. Blocks lie there only while a purger comes
 * by, which takes those that nobody wants. */
#ifndef ARENA_DEPOT_H
#define ARENA_DEPOT_H

#include "arena/arena.h"
#include "arena/policy.h"
#include "arena/region.h"
#include "arena/wave.h"

static inline bool has_depot(unsigned class_) { return class_ >= DEPOT_FIRST; }

/* A purger runs, and the class has a depot: to be asked before the next two. */
static inline bool depot_is_open(unsigned class_) {
	return has_depot(class_) && unlikely(atomic_load_explicit(&purged_in_background, memory_order_relaxed));
}

/* Leaves blocks of the class, from the front, that came from no arena apart, for threads of any arena.
 * `arena` is the calling thread's. Returns how many: the others have no room. */
size_t depot_put(const struct arena *arena, unsigned class_, void **blocks, size_t given);

/* Takes up to so many of those that came last; *end is what lies behind the place of the last one. Returns
 * how many. */
size_t depot_take(const struct arena *arena, unsigned class_, void **end, size_t most);

/* Gives the blocks back to their bins of classes that nobody took one of for `looks` calls, or, with 0 or
 * while memory is short, all. True when there are others, which may turn out to be idle later. Without a
 * lock. */
bool depots_drain(unsigned looks);

/* Does this block, which is one of the span, wait there? May be missed: nobody waits for that either. */
bool depot_has(const struct span *s, const void *block);

/* Adds the refills and flushes of the class since the start that came to its depot, not to a bin. */
void depot_add_batches(unsigned class_, uint64_t *refills, uint64_t *flushes);

/* Adds how many blocks wait there, by class. */
void depots_count(size_t blocks[CLASS_COUNT]);
bool depots_are_empty(void);

/* Around fork, where RANK_BIN is closed: waits until nobody is there; and in the child. */
void depots_await(void);
void depots_found(void);

#endif
