/* Arenas that the program made (arenas.create): blocks come from there by MALLOCX_ARENA, or since a thread
 * chose it (thread.arena), and all of them can be freed at once.
 *
 * Small blocks lie in spans of the arena's own (arena_create_apart). Larger ones are like all others, and
 * written down here with the arena that they are of; and so are all blocks where another front than plain
 * serves, which has its own places for them. For that, the counting front sees each of them leave.
 *
 * Invariant: what is written down is in use. So it is taken out before it is freed or moves, by whatever
 * function; arena.<i>.reset, which frees what is written down, relies on it. */
#ifndef JEMALLOC_MADE_ARENAS_H
#define JEMALLOC_MADE_ARENAS_H

#include "arena/arena.h"
#include "cache/front.h"

/* A new one, or one that was destroyed: its number. 0: out of memory, or too early. */
uint32_t made_create(void);

/* The same for a heap (include/arenal/arenal.h), called `name`, or NULL. Returns its handle, which no later
 * one of this number has; 0: out of memory, or too early. */
#define HEAP_NUMBER_BITS 10
static_assert(ARENAS_MAX == 1 << HEAP_NUMBER_BITS,
              "a handle is a number, and above it how many had it before");
uintptr_t made_create_heap(const char *name);

/* The heap's arena; NULL: there is none of this handle, any more or ever. Without a lock. */
static inline struct arena *made_arena_of_heap(uintptr_t heap) {
	const size_t number = heap % ARENAS_MAX;
	if (heap == 0 || number >= atomic_load_explicit(&arena_count, memory_order_acquire)) return NULL;
	struct arena *arena = arena_list[number];
	return atomic_load_explicit(&arena->heap, memory_order_relaxed) == heap ? arena : NULL;
}

/* The arena of the heap that the block is from; NULL: of none. The address may be any. */
struct arena *made_heap_of_block(const void *block);

/* The arena of this number, whoever made it; NULL: there is none. */
struct arena *arena_by_number(size_t number);
bool made_is(size_t number);

/* Frees all blocks of it. Nobody may use one of them any more, nor take one meanwhile. Its spans stay for the
 * next ones, as far as they were used. */
void made_reset(uint32_t number);

/* The same, and its number is free for the next one; who chose it has an arena of all's again. False: the
 * program made none of this number. */
bool made_destroy(uint32_t number);

/* A block from the arena of this number, which exists. NULL: out of memory. */
void *made_allocate(uint32_t number, size_t size, size_t align, bool zero, enum family family);

/* The number of the calling thread's arena, made or not; and of the one that was made and that it chose, 0:
 * none. */
uint32_t arena_of_thread(void);
uint32_t made_of_thread(void);

/* From now on, the calling thread's blocks come from there. Returns 0 or an errno. */
int arena_choose_for_thread(uint32_t number);

/* Bytes and blocks that are written down for the arena. */
struct made_figures {
	size_t bytes, blocks;
};
struct made_figures made_figures(uint32_t number);

/* The arena that the block is from; large ones are the first arena's, if none has written them down. False:
 * the address lies in no block. */
bool made_of_block(const void *block, uint64_t *number);

/* ---- for the counting front ---- */

/* The block is freed, or moves, if it was written down: not any more. Returns the number of its arena; 0: it
 * was not. */
extern _Atomic size_t made_blocks_count;
uint32_t made_take_out_slowly(const void *block);
static inline uint32_t made_take_out(const void *block) {
	if (likely(atomic_load_explicit(&made_blocks_count, memory_order_relaxed) == 0)) return 0;
	return made_take_out_slowly(block);
}

/* Writes it down, if the program made the arena. False: out of memory. */
bool made_put(uint32_t number, void *block, size_t size, enum family family);

/* The same for one that was taken out since it was to move or be resized, also if the table cannot grow. */
void made_put_back(uint32_t number, void *block, size_t size);

#endif
