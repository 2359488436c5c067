/* The list of the process's mappings, /proc/self/maps, read line by line. */
#ifndef BASE_MAPS_H
#define BASE_MAPS_H

#include "base/base.h"

struct maps_line {
	uintptr_t start, end;
	const char *permissions; /* four letters, and more behind them */
	uint64_t offset;         /* in the file */
	const char *file;        /* with its folder; or "[stack]" and the like; or "" */
};

/* Reads a hexadecimal number, and moves on to what is behind it. */
uint64_t maps_read_hex(const char **text);

/* Calls `look` with each line, in the order of addresses. False where there is no /proc. One thread at a
 * time. */
bool maps_read(void (*look)(const struct maps_line *line));

#endif
