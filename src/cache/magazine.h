/* One magazine: pop and push, which are the fast paths of malloc and free; and, behind them, refill, flush,
 * size and drain. Called by the thread that owns the cache, where nothing else is said. */
#ifndef CACHE_MAGAZINE_H
#define CACHE_MAGAZINE_H

#include "arena/mark.h"
#include "base/annotate.h"
#include "cache/tcache.h"

/* ---- pop and push ----
 *
 * A magazine is a stack of free blocks that lie in [empty, top). Invariant: a block in there is free, of the
 * magazine's class, and in no other place, at any moment that another thread may look or a fork may copy.
 * malloc, free, drain, the search for a free block and children rely on it. Its owner takes no lock and no
 * barrier here; `drain` in magazine.c, which takes the oldest blocks away from any thread, pays for both
 * sides. It leans on this order of what the owner does:
 * - pop reads top and `empty`, lowers top, and only then is the block, which lay just below the top, the
 *   program's. So a call that has read an `empty` from before a drain takes the one block that each drain
 *   leaves, or one above it.
 * - push reads top, writes the block to the slot there, and then raises top. So all that lies below the top
 *   that the drainer reads has been written, where a thread's stores are seen in order; elsewhere it waits
 *   for that.
 * - only the owner writes top, and the slots from top on. `empty` changes under the cache's lock, which a
 *   drain holds, too.
 * The child of a fork, which finds the magazines of threads that it does not have, leans on the same
 * (magazine_inherit). tests/models/drain.pml tries every interleaving. */

/* Does another thread, and the child of a fork, see a thread's stores in the order in which it made them? */
#if defined(__x86_64__)
#define STORES_ARE_SEEN_IN_ORDER true
#else
#define STORES_ARE_SEEN_IN_ORDER false
#endif

/* The block below the top; NULL: the magazine is empty. */
static inline __attribute__((always_inline)) void *magazine_pop(struct magazine *m) {
	void **top = m->top;
	if (unlikely(top <= m->empty)) return NULL;
	USE_IN_MEMORY(m->top);
	m->top--;
	void *block = top[-1];
	if (block == NULL) __builtin_unreachable();
	return block;
}

static inline bool magazine_is_full(const struct magazine *m) { return m->top >= m->full; }

/* Puts the block on top. The magazine is not full. */
static inline __attribute__((always_inline)) void magazine_push(struct magazine *m, void *block) {
	*m->top = block;
	USE_IN_MEMORY(m->top);
	m->top++;
}

/* ---- the same for the program's blocks, which have a mark while they are free ---- */

/* For malloc. NULL: this magazine cannot serve. */
static inline __attribute__((always_inline)) void *magazine_take(struct magazine *m) {
	void *block = magazine_pop(m);
	if (likely(block != NULL)) mark_clear(block);
	return block;
}

/* For free, with a block of which nothing is known but that the magazine is the one of its tag. False: it is
 * no block's start, or may be free already, or the magazine is full. */
static inline __attribute__((always_inline)) bool magazine_give(struct magazine *m, void *block) {
	/* The top is read first: the last malloc has just written it, and all that follows waits for it. With the
	 * load behind the test, a pair took 1.03 of the time. */
	void **top = m->top;
	uint64_t mark;
	if (unlikely(!block_starts_at(block, &m->start_test, &mark))) return false;
	if (unlikely(top >= m->full || mark_is(block, mark))) return false;
	mark_set(block, mark);
	annotate_freed(block);
	magazine_push(m, block);
	return true;
}

/* ---- what malloc and free do when that fails ---- */

/* A block of the class; when the magazine is empty, it is refilled first. NULL when out of memory. */
void *magazine_refill(struct tcache *tc, unsigned class_);

/* Adds a block; when the magazine is full, half of it is given back first. */
void magazine_flush(struct tcache *tc, unsigned class_, void *block);

/* ---- for all magazines of a cache ---- */

/* Gives all blocks but one of each magazine back that was found unchanged by `looks` calls; 0: of each. For
 * any thread's cache, under its lock. True when others may turn out to be idle later. */
bool magazine_drain(struct tcache *tc, unsigned looks);

/* Gives all blocks back and the array of slots too. */
void magazine_dispose(struct tcache *tc, unsigned class_);

/* None is longer than at its start. */
void magazines_shorten(struct tcache *tc);

/* Makes the magazine of a thread that is not there any more, wherever that was in malloc or free, one that
 * holds free blocks. */
void magazine_inherit(struct tcache *tc, unsigned class_);

#endif
