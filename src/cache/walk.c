/* Over all caches, one after the other, with nothing held between two of them.
 *
 * A process may have ten thousand threads. Those that start or end wait for the threads lock, so it is held
 * for one step of a walk at a time: from where that has come to, to the next cache, whose own lock keeps it
 * there meanwhile.
 *
 * Invariant: `next` of every walk is in the list of all caches, or NULL. unlink_cache sees to it. */
#include "cache/walk.h"

#include "cache/caches.h"

static struct cache_walk *walks; /* those that are under way; under the threads lock */

void cache_walk_begin(struct cache_walk *walk) {
	lock_take(&caches.lock, RANK_THREADS);
	walk->next = caches.first;
	walk->other = walks;
	walks = walk;
	lock_drop(&caches.lock, RANK_THREADS);
}

static void end(const struct cache_walk *walk) {
	for (struct cache_walk **link = &walks; *link != NULL; link = &(*link)->other) {
		if (*link != walk) continue;
		*link = walk->other;
		return;
	}
}

struct tcache *cache_walk_next(struct cache_walk *walk) {
	lock_take(&caches.lock, RANK_THREADS);
	struct tcache *tc = walk->next;
	if (tc != NULL) {
		walk->next = tc->next;
		lock_take(tc->lock, RANK_CACHE);
	} else {
		end(walk);
	}
	lock_drop(&caches.lock, RANK_THREADS);
	return tc;
}

struct tcache *cache_walk_next_idle(struct cache_walk *walk, bool *busy) {
	lock_take(&caches.lock, RANK_THREADS);
	struct tcache *tc;
	while ((tc = walk->next) != NULL) {
		walk->next = tc->next;
		if (tc->parked) continue;
		if (lock_try(tc->lock, RANK_CACHE)) break;
		*busy = true;
	}
	if (tc == NULL) end(walk);
	lock_drop(&caches.lock, RANK_THREADS);
	return tc;
}

void cache_walk_leave(struct tcache *tc) { lock_drop(tc->lock, RANK_CACHE); }

void cache_walks_pass(const struct tcache *tc) {
	for (struct cache_walk *walk = walks; walk != NULL; walk = walk->other)
		if (walk->next == tc) walk->next = tc->next;
}

void cache_walks_forget(void) {
	for (struct cache_walk *walk = walks; walk != NULL; walk = walk->other) walk->next = NULL;
	walks = NULL;
}
