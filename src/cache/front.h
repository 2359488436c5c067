/* A front: the operations behind malloc and its relatives, as a table. There are three, and one is chosen at
 * start. Later, traced may take the place of plain, and one may come before (jemalloc/counting_front.c):
 * - plain, the functions of api/ themselves, which are called without a pointer in between;
 * - traced (observe/trace_front.c): records a call, and has plain serve it;
 * - hardened (harden/harden.c): has blocks of its own, and leaves to plain those that were handed out before
 *   it came. The last two hide the threads' caches (cache/tcache.h), so that no fast path finds a block or a
 *   place for one: every call comes to its slow path, and goes from there to the front. They are given plain
 *   when they start. Its operations never look whether there is another front, so that this one may call
 *   them. */
#ifndef CACHE_FRONT_H
#define CACHE_FRONT_H

#include "cache/hooks.h"

/* Which functions a block came from, and which ones it must therefore go to. */
enum family {
	FAMILY_MALLOC,
	FAMILY_NEW,
	FAMILY_NEW_ARRAY,
	FAMILY_NEW_ALIGNED,
	FAMILY_NEW_ARRAY_ALIGNED,
	FAMILY_COUNT,
};

/* A call that frees a block, or moves it: what the program says about it. */
struct claim {
	const char *function; /* its name, for messages */
	enum family family;
	size_t size; /* bytes that the program says the block has; SIZE_UNKNOWN */
};
#define SIZE_UNKNOWN SIZE_MAX

/* Blocks that come in are not NULL. Those that go out may be: out of memory. */
struct front {
	/* Any size. Sets errno when out of memory. */
	void *(*allocate)(size_t size, enum family family);
	/* Any size, for FAMILY_MALLOC: reads as zero. Sets errno. */
	void *(*allocate_zeroed)(size_t size);
	/* An alignment above MIN_ALIGN, and neither above PTRDIFF_MAX. Leaves errno to the caller. */
	void *(*allocate_aligned)(size_t align, size_t size, enum family family);
	/* For realloc, size > 0: where the block is now. Sets errno; the block stays as it is then. */
	void *(*resize)(void *block, size_t size);
	void (*release)(void *block, const struct claim *claim);
	/* Bytes that the program may use in the block, for this function. */
	size_t (*usable_size)(void *block, const char *function);
};

/* This one serves from now on. `place`: the front in api/malloc.h, for layers below it. */
static inline void front_serve(const struct front *_Atomic *place, const struct front *other) {
	frees_see();
	atomic_store_explicit(place, other, memory_order_release);
}

#endif
