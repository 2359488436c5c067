/* The mappings of large blocks in hardened mode: made between pages that nobody may touch, closed when the
 * block is freed, and unmapped later. Those that wait meanwhile are in hard_waiting.h. */
#ifndef HARDEN_HARD_MAP_H
#define HARDEN_HARD_MAP_H

#include "harden/hard_blocks.h"

/* Maps memory for the block's size, and sets its address and guard. False: the kernel has none. */
bool hard_map(struct hard_block *b, size_t align);

/* Unmaps a block, guards and all. */
void hard_unmap(const struct hard_block *b);

/* A freed block waits, closed, or is unmapped where it cannot be closed. Inside of the gate. */
void hard_retire(const struct hard_block *b);

/* The pages of the block have gone, and others that nobody may touch are in their place: its address
 * waits. Inside of the gate. */
void hard_keep_address(const struct hard_block *b);

/* Before the program writes to so many bytes more. While memory is short, none is kept. */
void hard_count_pressure(size_t bytes);

#endif
