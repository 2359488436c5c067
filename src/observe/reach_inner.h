/* Between reach.c and reach_roots.c. */
#ifndef OBSERVE_REACH_INNER_H
#define OBSERVE_REACH_INNER_H

#include "arena/huge.h"
#include "base/os.h"
#include "observe/reach.h"
#include "observe/standstill.h"

extern struct reach_state {
	const char *problem;       /* why it cannot be done; NULL: none so far */
	uintptr_t lowest, highest; /* all blocks lie in between */
	uint64_t until;            /* milliseconds: then it has taken too long */
	struct mapping *places, *places_end;
	size_t place_count;                      /* sorted */
	const struct reach_block *own, *own_end; /* what has addresses in it, and is ours */
	int pagemap;                             /* a descriptor of /proc/self/pagemap */
	struct standstill others;
} reach;

/* A word of the program's: if it is in a block that nobody has found yet, that is found. */
void reach_word(uintptr_t word);

/* All words of the program's memory in between, as far as there is some. */
void reach_look_through(uintptr_t from, uintptr_t to);

/* All words of some pieces of memory, 64 KiB at most together. */
void reach_look_at_pieces(const struct os_piece *pieces, size_t count);

/* The first huge or guarded block that ends behind the address, or NULL. */
const struct mapping *reach_next_place(uintptr_t address);

/* Data, stacks and registers. */
void reach_roots(void);

#endif
