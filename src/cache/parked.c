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
		arena_thread_goes(tc->arena);
		caches.count--;
		tc->exit_rounds = 0;
		tc->parked = true;
		tc->parked_looks = 0;
		tc->next_parked = caches.parked;
		caches.parked = tc;
		caches.parked_count++;
	}
	const bool is_alone_soon = caches.count <= 2;
	lock_drop(&caches.lock, RANK_THREADS);
	if (!stays && is_alone_soon) end_parked(0);
	return stays;
}

struct tcache *take_parked(void) {
	struct tcache *tc = caches.parked;
	if (tc == NULL || caches.hardened) return NULL;
	take_out(tc);
	return tc;
}

/* Nobody takes them over any more when the lock is dropped, so they are emptied without it. */
bool end_parked(unsigned looks) {
	struct tcache *due[PARKED_MOST];
	size_t count = 0;
	bool stay = false;
	lock_take(&caches.lock, RANK_THREADS);
	for (struct tcache *tc = caches.parked, *next; tc != NULL; tc = next) {
		next = tc->next_parked;
		if (looks > 0 && !pressure_is_on() && ++tc->parked_looks <= looks) {
			stay = true;
		} else {
			take_out(tc);
			tc->uncounted = true;
			due[count++] = tc;
		}
	}
	lock_drop(&caches.lock, RANK_THREADS);
	for (size_t i = 0; i < count; i++) {
		empty_cache(due[i]);
		free_cache(due[i]);
	}
	return stay;
}

void tcache_end_parked(void) { end_parked(0); }

void forget_parked(void) {
	caches.parked = NULL;
	caches.parked_count = 0;
}
