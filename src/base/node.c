#include "base/node.h"

#include "base/os.h"

#define NOT_KNOWN UINT32_MAX

_Atomic bool node_is_one_of_many;
static _Atomic uint32_t of_all = NOT_KNOWN;

unsigned node_enter(void) {
	const uint32_t own = os_node();
	uint32_t first = NOT_KNOWN;
	if (!atomic_compare_exchange_strong_explicit(&of_all, &first, own, memory_order_relaxed,
	                                             memory_order_relaxed) &&
	    first != own)
		atomic_store_explicit(&node_is_one_of_many, true, memory_order_relaxed);
	return own;
}

unsigned node_of_memory(void) {
	if (node_matters()) return os_node();
	const uint32_t first = atomic_load_explicit(&of_all, memory_order_relaxed);
	return first == NOT_KNOWN ? 0 : first;
}
