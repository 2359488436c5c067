/* A picture of the heap over time: how full each part of its addresses was at each of some hundred moments. */
#ifndef HEAP_MAP_H
#define HEAP_MAP_H

#include <stdbool.h>
#include <stdint.h>

/* First all addresses, of every block that there ever was. */
void map_note_address(uint64_t address, uint64_t size);
void map_begin(void);

/* Then all changes in order; before each, how much of the time has passed, 0 to 1. */
void map_until(double part);
void map_change(uint64_t address, uint64_t size, bool allocated);

/* ,"map":{...} */
void map_print(void);

#endif
