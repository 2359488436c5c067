/* Misuse that Arenal can go on after. Whether it says so first, or ends the program, the tunables tell; what
 * corrupts memory always ends it (arena/report.h).
 *
 * A block in use comes back, but what the caller says of it is wrong: Arenal knows the block, and goes on
 * with what is right. By default nothing is said, for programs that are right may come here: they delete an
 * object by a base without a virtual destructor, or have a library in them with a C++ library of its own.
 * Hardened mode is stricter.
 *
 * A free block that malloc is about to hand out has lost its mark (arena/mark.h): it is left alone for good.
 * No program that is right comes here. By default the program ends. */
#ifndef HARDEN_MISUSE_H
#define HARDEN_MISUSE_H

#include <stdatomic.h>

#include "base/conf.h"
#include "harden/harden.h"

/* What follows a wrong size. */
static inline enum misuse_action misuse_of_size(void) {
	if (conf.misuse_size != MISUSE_DEFAULT) return (enum misuse_action)conf.misuse_size;
	if (conf.misuse != MISUSE_DEFAULT) return (enum misuse_action)conf.misuse;
	return harden_is_on ? MISUSE_REPORT : MISUSE_IGNORE;
}

/* A block was left longer than it was asked to be, for realloc had no memory for a shorter one: from then on,
 * a size that is too small may be right. */
extern _Atomic bool misuse_shrink_failed;
static inline void misuse_trust_sizes_less(void) {
	atomic_store_explicit(&misuse_shrink_failed, true, memory_order_relaxed);
}
static inline bool misuse_sizes_tell_less(void) {
	return atomic_load_explicit(&misuse_shrink_failed, memory_order_relaxed);
}

/* What follows a function that is not the one for the block; `otherwise`: where no tunable says so. */
static inline enum misuse_action misuse_of_family(enum misuse_action otherwise) {
	if (conf.misuse_family != MISUSE_DEFAULT) return (enum misuse_action)conf.misuse_family;
	if (conf.misuse != MISUSE_DEFAULT) return (enum misuse_action)conf.misuse;
	return otherwise;
}

static inline enum misuse_action misuse_of_lost_mark(void) {
	return conf.misuse != MISUSE_DEFAULT ? (enum misuse_action)conf.misuse : MISUSE_END;
}

/* `function`, which the program called, was given the block with a size that it cannot have been asked for
 * with: it has `bytes` bytes. Returns when the program is to go on. */
COLD void misuse_size(const char *function, const void *block, size_t size, size_t bytes);

/* The block came from `source`, another function than the one that blocks for `function` come from. The
 * same. */
COLD void misuse_family(const char *function, const void *block, const char *source,
                        enum misuse_action otherwise);

/* `function`, which the program called, found the block free, and without a mark: it was written to, or is in
 * use. Returns when the program is to go on without it. */
COLD void misuse_lost_mark(const char *function, const void *block);

/* In the child of a fork: nobody is reporting. */
void misuse_after_fork(void);

#endif
