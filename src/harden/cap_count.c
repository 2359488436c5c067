#include "harden/cap_count.h"

#include "arena/heap.h"
#include "arena/holes.h"
#include "arena/huge.h"
#include "base/cap.h"
#include "base/meta.h"
#include "harden/guard.h"
#include "harden/harden.h"

size_t cap_count(void) {
	struct huge_stats huge;
	struct guard_stats guard;
	size_t hard_bytes, hard_blocks, hard_kept;
	huge_stats_get(&huge);
	guard_stats_get(&guard);
	harden_large_stats(&hard_bytes, &hard_blocks, &hard_kept);
	const size_t holes = atomic_load_explicit(&holes_bytes, memory_order_relaxed),
	             lazy = atomic_load_explicit(&holes_lazy_bytes, memory_order_relaxed);
	return heap_backed_at_most() - (holes - lazy) + huge.bytes + huge.cached + guard.pages + hard_bytes +
	       hard_kept + meta_mapped();
}

void cap_after_fork(void) { atomic_store_explicit(&cap_bytes, cap_count(), memory_order_relaxed); }
