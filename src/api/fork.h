/* fork: the child finds every record whole, and can allocate at once.
 *
 * Handlers of others may allocate, wait for a lock whose holder allocates, and ask malloc for anything, from
 * the first one that runs before a fork to the last one after it. So our locks are taken last and dropped
 * first. Handlers that were registered first run last before, and first after: ours are registered before all
 * others. */
#ifndef API_FORK_H
#define API_FORK_H

#include "base/base.h"

/* Registers the handlers; once. For constructors, and for the moment at which a second thread gets a cache
 * before they have run. */
void fork_expect(void);

/* Registers the handlers where nobody tells of others (atfork.c): in programs that the library is linked
 * into. At the first call of malloc, without any lock. */
void fork_expect_early(void);

/* Registers them before those of somebody who is about to register his own: returns when ours are. */
void fork_expect_first(void);

/* pthread_atfork, with the library that the handlers are part of. */
typedef int fork_register_function(void (*before)(void), void (*after)(void), void (*after_in_child)(void),
                                   void *library);

/* Of atfork.c: libc's, whoever else has one. NULL where atfork.c is no part of the library. */
extern fork_register_function *fork_next_register(void) __attribute__((weak, visibility("hidden")));

/* In the shared library: in the child of a fork (api/sandbox.c). */
void sandbox_after_fork(void) __attribute__((weak, visibility("hidden")));

#endif
