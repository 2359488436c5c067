/* Blocks of no bytes, for malloc(0): addresses without memory, so that who reads or writes there ends by SIGSEGV. There is
 * no lock: each block is one bit. */
#ifndef ARENA_ZERO_H
#define ARENA_ZERO_H

#include "base/base.h"

/* So many at a time; who wants more gets blocks of the smallest size class. */
#define ZERO_BLOCKS 65536

/* NULL when there is none left. */
void *zero_alloc(void);

/* Is the address one that such blocks have? */
bool zero_owns(const void *address);

/* Is it the start of a block in use? */
bool zero_is_block(const void *address);

/* False when it is no block in use. */
bool zero_free(void *block);

#endif
