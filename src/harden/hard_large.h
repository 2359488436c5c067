/* Large blocks of hardened mode: each a mapping of its own, between pages that nobody may touch. It starts
 * at the start of a page; a canary goes from its end to that of its last page. Freed ones keep their
 * addresses for a while, and a few of them their memory. */
#ifndef HARDEN_HARD_LARGE_H
#define HARDEN_HARD_LARGE_H

#include "harden/harden.h"

/* Once, at the start. */
void large_hard_start(void);

/* In a child: the canaries of blocks from now on are those of another key. */
void large_hard_draw_key(void);

/* size > 0. NULL when out of memory. */
void *large_hard_alloc(size_t align, size_t size, enum family family);

/* False when there is no such block. */
bool large_hard_free(void *block, const struct claim *claim);
bool large_hard_size(const void *block, size_t *size, enum family *family);

/* Finds the block as large_hard_size does, for realloc, after a look at the canary: nobody else may free the
 * block, or resize it, until it is let go, resized or freed. Ends the program when somebody else has it. */
bool large_hard_hold(void *block, size_t *size, enum family *family);
void large_hard_let_go(void *block);
void large_hard_free_held(void *block);

/* Makes the block, which is held, `size` bytes long, moving its pages if need be. NULL: the kernel does
 * not do it, and it is still held. */
void *large_hard_resize(void *block, size_t size);

/* The program changes attributes of the memory in this range: its blocks do not keep their memory when
 * they are freed. Never waits. */
void large_hard_alter(const void *address, size_t size);

/* Gives back all addresses that wait, memory and all: a limit was hit that they may count against. False:
 * there were none. */
bool large_hard_release(void);

/* Gives back the memory that freed blocks keep. Returns the bytes. */
size_t large_hard_purge(void);

#endif
