/* Which blocks can the program still get at? Those that some word points to, or into: in its data and other
 * memory, on the stacks and in the registers of its threads, or in a block that can be got at itself. Each
 * word that could be such an address counts as one, so that a block may be missed that is lost; that one
 * counts as lost which is not takes a pointer that no word holds: an encrypted one, for instance, or one of a
 * thread that could not be made to stand still.
 *
 * Nothing is touched that may fault: the kernel copies what is looked at (process_vm_readv), and says which
 * pages there are (/proc/self/pagemap). */
#ifndef OBSERVE_REACH_H
#define OBSERVE_REACH_H

#include "base/base.h"

enum reach {
	REACH_LOST,        /* nothing points to it, but perhaps itself, or a ring of which it is one */
	REACH_LOST_BEHIND, /* lost, and another lost block points to it */
	REACH_FOUND,
	REACH_IGNORED, /* lost, but of a stack that is to be ignored; what it points to counts as found */
};

struct reach_block {
	uintptr_t address;
	size_t size;
	uint32_t stack; /* the number of a stack of the profile */
	enum reach reach;
};

/* Sets what each of the blocks is. `ignored`: a bit for each stack. Where that cannot be done, returns why
 * not, in words; else NULL. *missing: so many threads went on. At the end of a process, without any lock. */
const char *reach_find(struct reach_block *blocks, size_t count, const uint64_t *ignored, size_t *missing);

#endif
