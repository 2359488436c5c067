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
 * barrier here; a drain (magazine_drain.c), which takes the oldest blocks away from any thread, pays for both
 * sides. It leans on this order of what the owner does:
 * - malloc reads the way to the magazine (its tag in tag_of_size, or class_mask), then top, lowers top, and
 *   only then is the block, which lay just below the top, the program's. Slow paths, and hardened mode, read
 *   `empty` in place of the way. So a call that has read either from before a drain takes the one block that
 *   each drain leaves, or one above it.
 * - free reads top, writes the block to the slot there, and then raises top. So all that lies below the top
 *   that the drainer reads has been written, where a thread's stores are seen in order; elsewhere it waits
 *   for that.
 * - only the owner writes top, and the slots from top on. `empty` changes under the cache's lock, which a
 *   drain holds, too. Below `empty` lies a slot with magazine_no_block, whenever there is a way: malloc needs
 *   no test for an empty magazine, for that one has no mark; and free, which compares its block with the one
 *   below the top, is never given that. The child of a fork, which finds the magazines of threads that it
 *   does not have, leans on the same (magazine_inherit). tests/models/drain.pml tries every interleaving. */

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

/* Puts the block on top, which was read from there. The magazine is not full. */
static inline __attribute__((always_inline)) void magazine_push_on(struct magazine *m, void **top,
                                                                   void *block) {
	*top = block;
	USE_IN_MEMORY(m->top);
	m->top++;
}

static inline void magazine_push(struct magazine *m, void *block) { magazine_push_on(m, m->top, block); }

/* ---- the same for the program's blocks, which have a mark while they are free (mark.h) ---- */

/* Stands for the block of an empty magazine. Its second word is not a mark, and is never written to. */
extern uint64_t magazine_no_block[2] __attribute__((visibility("hidden")));

/* Lowers the top, which is read already, and takes the block that lies there then, and its mark. The block is
 * read once more for that: the handler of a signal that came in between, allocated, and freed as much, may
 * have left others in these slots. */
static inline __attribute__((always_inline)) void *magazine_take_off(struct tcache *tc, size_t tag,
                                                                     void **top) {
#if defined(__x86_64__)
	/* The magazine's address is made in the instruction that uses it: one instruction less than what gcc 12
	 * makes of the other. */
	__asm__("" : "+r"(tag));
	__asm__("subq $8, %0" : "+m"(magazine_at(tc, tag)->top), "+m"(top[-1]) : : "cc");
#else
	struct magazine *m = magazine_at(tc, tag);
	m->top--;
	STORE_FIRST(m->top, top[-1]);
#endif
	void *block = top[-1];
	if (block == NULL) __builtin_unreachable();
	mark_clear(block);
	return block;
}

/* Takes the block below the top of the magazine that the tag led to, for malloc. NULL: this magazine cannot
 * serve; or that block has no mark, and stays there for the slow path, which takes it with magazine_pop, and
 * mark_take. */
static inline __attribute__((always_inline)) void *magazine_take(struct tcache *tc, uint16_t tag) {
	void **top = magazine_at(tc, tag)->top;
	return likely(mark_is_there(top[-1])) ? magazine_take_off(tc, tag, top) : NULL;
}

/* Where no tag led here: a drain may be under way. */
static inline __attribute__((always_inline)) void *magazine_take_off_the_way(struct tcache *tc,
                                                                             uint16_t tag) {
	struct magazine *m = magazine_at(tc, tag);
	return likely(m->top > m->empty) ? magazine_take(tc, tag) : NULL;
}

/* The same for a block that left its place: false, and it is as it was, if it has no mark. */
static inline bool mark_take(void *block) {
	if (unlikely(!mark_is_there(block))) return false;
	mark_clear(block);
	return true;
}

/* Puts a free block on top that the thread has just given its mark. */
static inline __attribute__((always_inline)) void magazine_put_marked_on(struct magazine *m, void **top,
                                                                         void *block) {
	annotate_freed(block);
	STORE_FIRST(*mark_place(block), m->top);
	magazine_push_on(m, top, block);
}

/* The same for a block that is free from now on. */
static inline __attribute__((always_inline)) void magazine_put_on(struct magazine *m, void **top,
                                                                  void *block) {
	mark_set(block);
	magazine_put_marked_on(m, top, block);
}

/* For free, with a block of which nothing is known but that the magazine is the one of its tag. False: it is
 * no block's start, or seems to be the one that was freed last, or the magazine is full. The block is not
 * looked at, see mark.h. */
static inline __attribute__((always_inline)) bool magazine_give(struct magazine *m, void *block) {
	/* The top is read first: the last malloc has just written it, and all that follows waits for it. With the
	 * load behind the test, a pair took 1.03 of the time. */
	void **top = m->top;
	if (unlikely(!block_starts_at(block, &m->start_test))) return false;
	if (unlikely(top >= m->full || top[-1] == block)) return false;
	magazine_put_on(m, top, block);
	return true;
}

/* Is it the block that the thread freed last into this magazine, and still there? */
static inline bool magazine_has_on_top(const struct magazine *m, const void *block) {
	return m->top > m->empty && m->top[-1] == block;
}

/* ---- what malloc and free do when that fails ---- */

/* A block of the class; when the magazine is empty, it is refilled first. NULL when out of memory. */
void *magazine_refill(struct tcache *tc, unsigned class_);

/* Adds a block; when the magazine is full, half of it is given back first. */
void magazine_flush(struct tcache *tc, unsigned class_, void *block);

/* ---- for all magazines of a cache ---- */

/* Without slots, empty and full at once. */
extern void *magazine_no_slots[1] __attribute__((visibility("hidden")));
#define MAGAZINE_WITHOUT_SLOTS \
	{ .top = magazine_no_slots + 1, .full = magazine_no_slots + 1, .empty = magazine_no_slots + 1, }

static inline void **magazine_first_slot(const struct tcache *tc, unsigned class_) {
	return tc->magazines[class_].full - tc->slots[class_].count;
}

/* Where the magazine was empty when a drain began that waits for its barrier; NULL: none has begun. */
static inline void **magazine_begun_at(const struct tcache *tc, unsigned class_) {
	const unsigned begun = tc->slots[class_].begun;
	return begun > 0 ? magazine_first_slot(tc, class_) + begun - 1 : NULL;
}

/* Of a new cache. */
void magazines_init(struct tcache *tc);

/* Gives all blocks back and the array of slots too. */
void magazine_dispose(struct tcache *tc, unsigned class_);

/* Gives all blocks of those back that nobody used since the last look. */
void magazines_give_idle(struct tcache *tc);

/* None is longer than at its start. */
void magazines_shorten(struct tcache *tc);

/* Makes the magazine of a thread that is not there any more, wherever that was in malloc or free, one that
 * holds free blocks. */
void magazine_inherit(struct tcache *tc, unsigned class_);

/* The cache may hold less than it does, and others see to it, under its lock: what it is refilled with next
 * counts as if it had turned out too short, so that it is halved. */
void magazines_look_too_long(struct tcache *tc);

/* ---- magazine_drain.c: of any thread's cache, under its lock; drain.c calls them ---- */

/* Gives all blocks but one of each magazine back that was found unchanged by `looks` calls; 0: of each. This
 * begins it; false: none is due. `more_later` becomes true when others may turn out to be idle later. */
bool magazines_begin_drain(struct tcache *tc, unsigned looks, bool *more_later);

/* Then all threads pass a barrier, without the lock, and this looks what may be taken. Where a thread's
 * stores may be seen in another order, they pass one more. The end is false when a drain was called off. */
void magazines_look_after_barrier(struct tcache *tc);
bool magazines_end_drain(struct tcache *tc);

/* Instead, at any moment before the end: nothing is taken, from one or from all of them. */
void magazine_call_off_drain(struct tcache *tc, unsigned class_);
void magazines_call_off_drain(struct tcache *tc);

#endif
