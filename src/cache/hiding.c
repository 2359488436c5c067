/* Hiding: all calls of a thread take their slow paths, and the thread has its cache all the same.
 *
 * Invariant: of a thread that hides its cache, tcache_current is &tcache_hiding, whose magazines are empty
 * and full at once, and tcache_hidden its cache; but from tcache_reveal to tcache_conceal, inside of one
 * call, tcache_current is the cache. A thread only ever writes its own two. A thread that has none to
 * reveal is on no_cache_now meanwhile, so that a call inside of the call is told from the first one.
 * Hardened mode relies on it: no block comes into a magazine, or out of one, but through harden/ (tests
 * api.hardened*). So does the trace: each call is recorded, and once, whatever it calls itself (tests
 * tools.trace). */
#include "cache/caches.h"

void tcache_hide(void) {
	atomic_store_explicit(&caches.hiding, true, memory_order_relaxed);
	struct tcache *own = own_cache();
	if (own != NULL) hide_cache(own);
}

void tcache_hide_no_more(void) { atomic_store_explicit(&caches.hiding, false, memory_order_relaxed); }

struct tcache *tcache_reveal_slowly(void) {
	if (tcache_current == &no_cache_yet) create_cache();
	struct tcache *current = tcache_current;
	if (current == &tcache_hiding)
		tcache_current = tcache_hidden;
	else if (current == &no_cache_yet || current == &no_cache_any_more)
		tcache_current = &no_cache_now;
	else
		return NULL;
	return current;
}
