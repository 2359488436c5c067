/* The mark of a freed block, its second word. free sets it, malloc clears it, and free looks for it: a block
 * that has it already was probably freed before, and is looked for in the caches and in its bin then. Only
 * what is found there ends the program: the mark is a hint, and nothing is decided by what the program can
 * write.
 *
 * It is a number of the block that free has at hand (block_starts_at), and that differs from process to
 * process, but not from a process to its forked children, which have its freed blocks. So no file and no
 * message from outside holds it, and nobody can make a program look for its blocks. The second word, for the
 * first one is what programs that use a block after they freed it write to most. */
#ifndef ARENA_MARK_H
#define ARENA_MARK_H

#include "arena/size_class.h"

static inline uint64_t *mark_place(void *block) { return (uint64_t *)block + 1; }
static inline bool mark_is(void *block, uint64_t mark) { return *mark_place(block) == mark; }
static inline void mark_set(void *block, uint64_t mark) { *mark_place(block) = mark; }
static inline void mark_clear(void *block) { *mark_place(block) = 0; }

/* The mark of the blocks in spans of several slices, which free takes the slow path with. Written once, at
 * start-up. */
extern uint64_t mark_of_long __attribute__((visibility("hidden")));

/* The mark that the block, of this class, has while it is free. */
static inline uint64_t mark_of(const void *block, unsigned class_) {
	uint64_t mark;
	return block_starts_at(block, &start_tests[class_], &mark) ? mark : mark_of_long;
}

/* Draws the process's numbers: once, at start-up. */
void marks_draw(void);

#endif
