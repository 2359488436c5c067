/* Hiding: all calls of a thread take their slow paths, and the thread has its cache all the same.
 *
 * Invariant: of a thread that hides its cache, tcache_current is &tcache_hiding, whose magazines are empty
 * and full at once, and tcache_hidden its cache; but from tcache_reveal to tcache_conceal, inside of one
 * call, tcache_current is the cache. A thread only ever writes its own two. A thread that has none to
 * reveal is on no_cache_now meanwhile, so that a call inside of the call is told from the first one.
 * Hardened mode relies on it: no block comes into a magazine, or out of one, but through harden/ (tests
 * api.hardened*). So does the trace: each call is recorded, and once, whatever it calls itself (tests
 * tools.trace).
 *
 * In a process that runs (a trace that begins later), nobody else writes these two: threads are led away from
 * their magazines, by tables that everybody may write to (tcache_lead), and each hides its own cache in its
 * next call. Until then tcache_hidden is NULL. */
#include "cache/caches.h"

void tcache_hide(void) {
	atomic_store_explicit(&caches.hiding, true, memory_order_relaxed);
	struct tcache *own = own_cache();
	if (own != NULL) hide_cache(own);
}

bool tcache_hide_own(void) {
	struct tcache *own = get_cache();
	if (own != NULL) hide_cache(own);
	return own != NULL;
}

void tcache_hide_no_more(void) { atomic_store_explicit(&caches.hiding, false, memory_order_relaxed); }

void tcache_hide_running(void) { atomic_store_explicit(&caches.hiding, true, memory_order_release); }

void tcache_unhide(void) { tcache_hidden = NULL; }

/* A thread that is in the middle of a call goes on with what it has read: it finds either. */
void tcache_lead(bool lead) {
	lock_take(&caches.lock, RANK_THREADS);
	caches.led_away = !lead;
	for (struct tcache *tc = caches.first; tc != NULL; tc = tc->next) {
		cache_lock(tc);
		tc->led_away = !lead;
		sample_lead_sizes(tc);
		/* While the heap profile is on, a malloc that is no sample finds its magazine nevertheless. */
		if (!lead) sample_forget(&tc->sample);
		lock_drop(tc->lock, RANK_CACHE);
	}
	heap_lock();
	page_map_lead(lead);
	heap_unlock();
	lock_drop(&caches.lock, RANK_THREADS);
}

bool tcache_is_led_away(void) { return atomic_load_explicit(&caches.led_away, memory_order_relaxed); }

/* The thread's own cache, which it uses from now on as one that was hidden when it was made. */
void lead_own(struct tcache *tc) {
	if (!tc->led_away) return;
	cache_lock(tc);
	tc->led_away = false;
	sample_lead_sizes(tc);
	lock_drop(tc->lock, RANK_CACHE);
}

void tcache_lead_own(void) { lead_own(tcache_current); }

/* Is it a thread that was led here, and no call inside of another one? Then it hides its cache by the end of
 * this call. */
static bool hides_now(struct tcache *tc) {
	if (tcache_hidden != NULL || !atomic_load_explicit(&caches.hiding, memory_order_acquire)) return false;
	tcache_hidden = tc;
	lead_own(tc);
	return true;
}

struct tcache *tcache_reveal_slowly(void) {
	if (tcache_current == &no_cache_yet) create_cache();
	struct tcache *current = tcache_current;
	if (current == &tcache_hiding)
		tcache_current = tcache_hidden;
	else if (current == &no_cache_yet || current == &no_cache_any_more)
		tcache_current = &no_cache_now;
	else
		return current != &no_cache_now && hides_now(current) ? &tcache_hiding : NULL;
	return current;
}
