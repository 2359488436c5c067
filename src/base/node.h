/* NUMA nodes: which part of the memory is nearest to the CPU that a thread runs on.
 *
 * The kernel takes the page that a thread touches first from its node, unless the program or its
 * administrator has said otherwise (set_mempolicy(2), numactl): so memory is local when threads get slices
 * that nobody else has touched, or threads of the same node. While all threads that have started were on one
 * node, which is so on most machines for ever, nobody asks. */
#ifndef BASE_NODE_H
#define BASE_NODE_H

#include <stdatomic.h>

#include "base/base.h"

/* For a thread that starts: its node. From the first one on another node on, node_matters. */
unsigned node_enter(void);

extern _Atomic bool node_is_one_of_many;
static inline bool node_matters(void) {
	return unlikely(atomic_load_explicit(&node_is_one_of_many, memory_order_relaxed));
}

/* Where memory that the thread is about to touch lies: as long as it does not matter, the node of all. */
unsigned node_of_memory(void);

#endif
