/* Blocks of no bytes, for malloc(0): addresses that nobody may touch, each different from all others in use.
 * One that was freed comes back when all others had their turn.
 *
 * All functions may be called by any thread, without a lock. */
#ifndef ARENA_ZERO_H
#define ARENA_ZERO_H

#include "base/base.h"

/* NULL when all are in use, or there is no address space. `family`, below ZERO_FAMILIES, is kept beside the
 * address. */
#define ZERO_FAMILIES 254
void *zero_alloc(unsigned family);

/* From now on, addresses are handed out from another random one on. */
void zero_reseed(void);

/* Is the address one of these, in use or not? */
bool zero_owns(const void *address);

/* For an address that zero_owns: `function` is the one that the program called, and the program ends when no
 * block in use starts there. */
unsigned zero_family(const void *block, const char *function);
void zero_free(void *block, const char *function);

#endif
