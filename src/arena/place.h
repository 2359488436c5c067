/* Where mapped regions lie: above the break, with room between for it to grow, and for the table of tags, so
 * that one table of tags covers the brk heap and them (page_map.h). Nothing is reserved there: each region is
 * mapped at its place if nobody else has it, and anywhere if somebody has, where its blocks are slower to
 * free. The first place is drawn by each process, so that one address of the brk heap does not tell where the
 * others are. */
#ifndef ARENA_PLACE_H
#define ARENA_PLACE_H

#include "base/base.h"

struct place_range {
	uintptr_t start, end; /* multiples of REGION_SIZE; start == end: nothing */
};

/* Once, at start-up, before any region. Returns what is covered at first, with the break's part at its
 * start. */
struct place_range place_init(void);

/* Behind the break's part: where the table of tags begins. It has room there to grow, for as much as is ever
 * covered. */
char *place_of_table(void);
#define PLACE_SPREAD_MAX (4096 * GIB)

/* Maps `size` bytes, `accessible` or reserved, that a mapped region, or a piece of one, can be made of. NULL
 * when out of memory. `size`: a region, aligned to its size, or less, aligned to a slice; behind it come
 * `behind` bytes that belong to it. Under the heap lock. */
void *place_map(size_t size, size_t behind, bool accessible);

/* What was mapped there is unmapped: its place can be used again. Under the heap lock. */
void place_leave(const void *address);

#endif
