/* The life of thread caches: made by a thread's first slow path, ended by its last destructor. All of them,
 * and which one is the calling thread's, for the files that thread caches are made of; who only wants one
 * includes tcache.h. */
#ifndef CACHE_CACHES_H
#define CACHE_CACHES_H

#include <pthread.h>

#include "arena/policy.h"
#include "arena/wave.h"
#include "cache/tcache.h"

struct caches {
	struct lock lock;     /* RANK_THREADS: of the lists, and of what says so in struct tcache */
	struct tcache *first; /* of the threads that are there, by ->next */
	struct tcache *last;
	/* Of threads that were there when this process was forked, by ->next. Nobody uses them: they may be
	 * read without their own locks. */
	struct tcache *_Atomic orphans;
	_Atomic size_t count;
	/* Of these: those that the purger's last look found hot; and how many looks there were. Owner: the
	 * purger. */
	_Atomic size_t hot;
	_Atomic uint32_t looks;
	_Atomic size_t starters; /* of caches that started magazines because they were hot: ->starter */
	_Atomic size_t extra;    /* bytes that caches have room for beyond their shares because they were hot
	                            once: sum of ->extra */
	struct tcache *parked; /* caches of threads that ended, the last one first, by ->next_parked (parked.c) */
	_Atomic size_t parked_count;
	uint32_t generation; /* one more in the child of each fork */
	pthread_key_t key;   /* its destructor tells that a thread ends */
	_Atomic bool has_key;
	_Atomic bool led_away; /* new caches are led away, too (tcache_lead). Written under the lock */
	/* Written at start-up or soon after. */
	bool hardened;       /* threads have quarantines, and arenas of hardened blocks */
	_Atomic bool hiding; /* new caches are hidden; false again when nothing is recorded any more */
};
extern struct caches caches __attribute__((visibility("hidden")));

/* What tcache_current points at when the thread has none: every size leads to class 0, whose magazine has no
 * slots; all else is zero, so that free finds no start of a block. Nothing is written to them after the
 * start. */
extern struct tcache no_cache_yet /* a new thread's, until its first slow path */
    __attribute__((visibility("hidden")));
extern struct tcache no_cache_any_more /* after its last destructor */
    __attribute__((visibility("hidden")));
extern struct tcache no_cache_now /* from tcache_reveal to tcache_conceal, if it has none to reveal */
    __attribute__((visibility("hidden")));

/* The thread's cache, NULL when it has none. */
static inline struct tcache *own_cache(void) {
	struct tcache *tc = tcache_current;
	if (unlikely(tc == &tcache_hiding)) return tcache_hidden;
	return likely(tc != &no_cache_yet && tc != &no_cache_any_more && tc != &no_cache_now) ? tc : NULL;
}

/* One for a thread that had none yet. NULL when out of memory. */
struct tcache *create_cache(void);

/* The thread's cache; makes one for a thread that has none yet. */
static inline struct tcache *get_cache(void) {
	struct tcache *tc = own_cache();
	return likely(tc != NULL) || tcache_current != &no_cache_yet ? tc : create_cache();
}

/* The calling thread's magazines are found again, where it was led away (tcache_lead). */
void lead_own(struct tcache *tc);

/* The calling thread's is hidden from now on (hiding.c). */
static inline void hide_cache(struct tcache *tc) {
	tcache_hidden = tc;
	tcache_current = &tcache_hiding;
}

/* A slow call begins, of the thread whose cache this is, or which has none: as slow_call_begins. */
COLD uint64_t slow_call_timed(struct tcache *tc);
static inline uint64_t slow_call_of(struct tcache *tc) {
	return tc != NULL && unlikely(--tc->slow.left < 0) ? slow_call_timed(tc) : 0;
}

/* Out of the list of those whose threads are there. Under the threads lock. */
void unlink_cache(struct tcache *tc);

/* It leaves the list, and its memory is free: nothing is in it any more. Without a lock. */
void free_cache(struct tcache *tc);

/* Its turns are by random numbers of its own: for a new thread, or the child's only one. */
void draw_turns(struct tcache *tc);

/* What a layer above has attached to it ends. */
void end_attached(struct tcache *tc);

/* ---- cache_locks.c ---- */

/* What others need to know of a cache before they look at it. Two threads share no cache line. */
struct cache_record {
	struct lock lock;            /* RANK_CACHE: of the cache */
	_Atomic uint32_t generation; /* caches.generation of the process that has the thread */
	/* NULL: it is in no list. Becomes a cache's without the lock; NULL again under it, so that who has the
	 * lock has the cache. */
	struct tcache *_Atomic cache;
	struct cache_record *next; /* of those that no cache has any more. Owner: the threads lock */
	_Atomic bool quiet;        /* the last look found nothing to give back, and no slow path came since */
} __attribute__((aligned(CACHE_LINE)));

struct cache_chunk {
	struct cache_chunk *next;
	size_t count;
	_Atomic size_t used; /* records; those from `used` on were never a cache's, and cost no memory */
	struct cache_record records[];
};
extern struct cache_chunk *_Atomic cache_chunks __attribute__((visibility("hidden")));

static inline struct cache_record *cache_record_of(const struct tcache *tc) {
	return (struct cache_record *)tc->lock;
}

/* The drain that has begun with this cache takes nothing from it any more: all is as it was. Under its
 * lock. */
COLD void drain_call_off(struct tcache *tc);

/* For whoever is to find the cache as it is between drains, all of it. Nobody waits for a drain's barrier.
 * The slow paths of its thread take the lock alone, and call off what concerns one magazine, or the runs. */
static inline void cache_lock(struct tcache *tc) {
	lock_take(tc->lock, RANK_CACHE);
	if (unlikely(tc->drain != NULL)) drain_call_off(tc);
}

/* A slow path comes by, or another thread. */
static inline void cache_stirs(const struct tcache *tc) {
	atomic_store_explicit(&cache_record_of(tc)->quiet, false, memory_order_relaxed);
}

/* It has made a refill or a flush. */
static inline void cache_warms(struct tcache *tc) {
	const uint32_t heat = atomic_load_explicit(&tc->heat, memory_order_relaxed);
	atomic_store_explicit(&tc->heat, heat + 1, memory_order_relaxed);
}

/* Found hot by one of the last looks. Nobody is where no purger looks, any more: somebody has to find out
 * that it is over. */
static inline bool cache_is_hot(const struct tcache *tc) {
	const uint32_t look = atomic_load_explicit(&tc->hot_look, memory_order_relaxed);
	return unlikely(look != 0) &&
	       atomic_load_explicit(&caches.looks, memory_order_relaxed) - look <= HOT_LOOKS &&
	       atomic_load_explicit(&purged_in_background, memory_order_relaxed);
}

/* May it start a magazine because it is hot? Under its lock, as the next one. */
bool cache_may_start(struct tcache *tc);

/* Its magazines have another room. `hot`: because it was hot; else nobody's extra becomes more by it. Under
 * its lock. */
void cache_count_extra(struct tcache *tc, bool hot);

/* As tcache_room for a cache that is hot, within what the others have left of all extra. Under its lock. */
size_t cache_hot_room(const struct tcache *tc);

/* It holds no more than any cache may, or ends. */
static inline void cache_starts_no_more(struct tcache *tc) {
	if (likely(!tc->starter)) return;
	tc->starter = false;
	atomic_fetch_sub_explicit(&caches.starters, 1, memory_order_relaxed);
}

/* All under the threads lock: */

/* The lock of a new cache; NULL when out of memory. */
struct lock *cache_lock_alloc(void);

/* Nobody holds it. */
void cache_lock_free(struct lock *lock);

/* For a fork: nobody is under the lock of a cache, once RANK_CACHE is closed. */
void cache_locks_await(void);

/* In its child: lock_found for all of them, those of orphans too, which the child's own forks look at. */
void cache_locks_found(void);

/* ---- parked.c ---- */

/* For a thread that ends: leaves its cache to the next one. False: it is to go back. */
bool park_cache(struct tcache *tc);

/* One for a new thread, whose it is not yet: no arena. NULL when there is none. Under the threads lock. */
struct tcache *take_parked(void);

/* Parked caches go back that nobody took over during `looks` calls; 0: all of them. True when some stay, for
 * now. Without a lock. */
bool end_parked(unsigned looks);

/* In the child of a fork: they are orphans like all others. */
void forget_parked(void);

/* Gives everything in it back, but for the quarantine (drain.c). */
void empty_cache(struct tcache *tc);

/* Gives back what is in an orphan. True when there are more (children.c). */
bool adopt_orphan(void);

#endif
