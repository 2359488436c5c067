/* Which process this is. A child by clone or _Fork runs no handler of fork, but has its parent's memory, and
 * with it what its parent's threads had said of themselves. So that it finds out, a word lies in memory that
 * the kernel wipes in children. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdatomic.h>

#include "base/base.h"

/* Said before the process gets what a child will not have: from now on, a child can tell. The first time, a
 * page is mapped. */
void process_watch(void);

/* Not 0: this process has said so. 0: perhaps it is another one, or the kernel has no such memory. */
extern _Atomic(_Atomic uint32_t *) process_word;

/* For slow paths: two loads. Mostly false. */
static inline bool process_may_be_new(void) {
	const _Atomic uint32_t *word = atomic_load_explicit(&process_word, memory_order_acquire);
	return unlikely(atomic_load_explicit(word, memory_order_relaxed) == 0);
}

/* The word behind it, which is 0 until this process says that it has secrets of its own: hardened mode draws
 * its parent's anew. Where the kernel has no such memory, whoever finds out that the process is new makes it
 * so. */
static inline bool process_has_secrets(void) {
	const _Atomic uint32_t *word = atomic_load_explicit(&process_word, memory_order_acquire) + 1;
	return likely(atomic_load_explicit(word, memory_order_relaxed) != 0);
}
void process_set_secrets(bool has);

/* Is this process surely another one than that which watched, and nobody has seen to it yet? */
bool process_was_wiped(void);

/* True for one caller in a process that is another one than that which watched: it has to see to what is
 * wrong now. */
bool process_is_new(void);

/* In the child of a fork, whose handlers have seen to everything. */
void process_after_fork(void);

#endif
