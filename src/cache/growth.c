#include "cache/growth.h"

#include "arena/huge.h"
#include "arena/policy.h"
#include "cache/caches.h"
#include "cache/magazine.h"

_Atomic size_t growth_look_above = GROWTH_LEAST;

void growth_look(void) {
	if (!growth_is_due()) return;
	const size_t now = atomic_load_explicit(&cap_bytes, memory_order_relaxed);
	atomic_store_explicit(&growth_look_above, now + max_size(now / GROWTH_SHARE, GROWTH_LEAST),
	                      memory_order_relaxed);
	struct tcache *tc = own_cache();
	if (tc != NULL && tcache_count() == 1) magazines_give_idle(tc);
	huge_give_idle();
}
