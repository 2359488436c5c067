/* Caches of threads that ended. The next thread takes one over, with its magazines and a few blocks in each;
 * when nobody comes, they go back.
 *
 * Invariant: a parked cache is in the list of all caches, as before, so that drains, searches, statistics and
 * forks find what is in it, and is no thread's: it counts neither among the caches nor in its arena. It
 * changes hands under the threads lock.
 *
 * A thread that starts would have to make and fill its magazines, and one that ends to give all of it back,
 * block by block: more than most threads do in between.
 *
 * Free blocks that nobody uses keep their spans from going back. So caches are parked only where a purger
 * runs, which sees to them, and no memory limit is near. */
#include "arena/policy.h"
#include "arena/pressure.h"
#include "arena/wave.h"
#include "cache/caches.h"
#include "cache/magazine.h"

static bool may_park(void) {
	return !caches.hardened && atomic_load_explicit(&purged_in_background, memory_order_relaxed) &&
	       !pressure_is_on() &&
	       atomic_load_explicit(&pressure.left, memory_order_relaxed) >= PARKED_LEAST_LEFT;
}

/* Under the threads lock. */
static void take_out(struct tcache *tc) {
	struct tcache **link = &caches.parked;
	while (*link != tc) link = &(*link)->next_parked;
	*link = tc->next_parked;
	caches.parked_count--;
	tc->parked = false;
}

bool park_cache(struct tcache *tc) {
	const bool may = may_park();
	if (may) {
		run_cache_dispose(tc);
		magazines_shorten(tc);
	}
	lock_take(&caches.lock, RANK_THREADS);
	/* When one thread is left, the purger ends. Who ends says so, and takes this lock then. */
	const bool stays =
	    may && may_park() && !tc->uncounted && caches.count > 2 && caches.parked_count < PARKED_MOST;
	if (stays) {
		tc->arena->threads--;
		caches.count--;
		tc->exit_rounds = 0;
		tc->parked = true;
		tc->parked_looks = 0;
		tc->next_parked = caches.parked;
		caches.parked = tc;
		caches.parked_count++;
	} else if (caches.count <= 2) {
		end_all_parked();
	}
	lock_drop(&caches.lock, RANK_THREADS);
	return stays;
}

struct tcache *take_parked(void) {
	struct tcache *tc = caches.parked;
	if (tc == NULL || caches.hardened) return NULL;
	take_out(tc);
	return tc;
}

bool end_parked(struct tcache *tc, unsigned looks) {
	if (looks > 0 && !pressure_is_on() && ++tc->parked_looks <= looks) return false;
	take_out(tc);
	empty_cache(tc);
	free_cache(tc);
	return true;
}

void end_all_parked(void) {
	while (caches.parked != NULL) end_parked(caches.parked, 0);
}

void tcache_end_parked(void) {
	lock_take(&caches.lock, RANK_THREADS);
	end_all_parked();
	lock_drop(&caches.lock, RANK_THREADS);
}

void forget_parked(void) {
	caches.parked = NULL;
	caches.parked_count = 0;
}
