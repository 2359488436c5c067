/* What a race detector cannot see by itself: memory that threads share without a lock or atomics, on purpose.
 * Says nothing and costs nothing but in the build that tests/helgrind makes. Locks and atomics need no word:
 * see atomics.h there. */
#ifndef BASE_ANNOTATE_H
#define BASE_ANNOTATE_H

#include "base/base.h"

#ifdef ARENAL_HELGRIND
#include <valgrind/helgrind.h>
#else
#define VALGRIND_HG_DISABLE_CHECKING(address, size) ((void)(address), (void)(size))
#define VALGRIND_HG_ENABLE_CHECKING(address, size) ((void)(address), (void)(size))
#define ANNOTATE_HAPPENS_BEFORE(object) ((void)(object))
#define ANNOTATE_HAPPENS_AFTER(object) ((void)(object))
#endif

/* The memory belongs to a protocol that a model checks (tests/models), until it is said to be ordinary
 * again. */
static inline void annotate_unchecked(const void *memory, size_t size) {
	VALGRIND_HG_DISABLE_CHECKING(memory, size);
}
static inline void annotate_checked(const void *memory, size_t size) {
	VALGRIND_HG_ENABLE_CHECKING(memory, size);
}

/* By such a protocol a block goes from the thread that freed it to the one that found it: what the first one
 * wrote to the block, the next owner may overwrite. */
static inline void annotate_freed(const void *block) { ANNOTATE_HAPPENS_BEFORE(block); }
static inline void annotate_found(const void *block) { ANNOTATE_HAPPENS_AFTER(block); }

#endif
