/* The mark of a freed block, its second word. free sets it, malloc clears it, and free looks for it: a block that has it
 * already was probably freed before, and is looked for in all caches and in its bin then.
 *
 * It is a hint and no more: nothing is decided by what the program can write, so it needs not be secret. A constant that fits
 * into an instruction, and is no address, no small number and no text. The second word, for the first one is what programs
 * that use a block after they freed it write to most. */
#ifndef ARENA_MARK_H
#define ARENA_MARK_H

#include "base/base.h"

#define FREED_MARK ((int64_t)(int32_t)0x9D5AE3C7)
static inline int64_t *mark_place(void *block) { return (int64_t *)block + 1; }
static inline bool mark_is_set(void *block) { return *mark_place(block) == FREED_MARK; }
static inline void mark_set(void *block) { *mark_place(block) = FREED_MARK; }
static inline void mark_clear(void *block) { *mark_place(block) = 0; }

#endif
