/* Blocks of no size: addresses that are different from each other and cannot be accessed. */
#ifndef HARDEN_ZERO_H
#define HARDEN_ZERO_H

#include "harden/harden.h"

/* NULL when there are no more of them, or memory. */
void *zero_alloc(enum family family);

/* Is it an address of the area? */
bool zero_owns(const void *block);

/* Ends the program when there is no such block. */
enum family zero_check(const void *block);
void zero_free(void *block, const struct claim *claim);
void zero_set_family(void *block, enum family family);

#endif
