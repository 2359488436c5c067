#include "cache/caches.h"

#include <limits.h>

#include "arena/policy.h"
#include "arena/pressure.h"
#include "base/annotate.h"
#include "base/conf.h"
#include "base/libc.h"
#include "base/meta.h"
#include "base/node.h"
#include "cache/heap_cache.h"
#include "cache/magazine.h"
#include "cache/purger.h"

struct tcache no_cache_yet = { .magazines[0] = MAGAZINE_WITHOUT_SLOTS }, no_cache_any_more, no_cache_now;
struct caches caches;

/* Destructors of other keys may free after ours, so ours asks to be called again and acts in the last round
 * but one; what is freed even later goes straight to the arenas. */
#define LAST_ROUND (4 - 2)
static_assert(PTHREAD_DESTRUCTOR_ITERATIONS >= 4, "libc runs the destructors so many times");

static void thread_exit(void *cache);

/* Under the lock of the start, or that of the threads. */
static void make_key(void) {
	if (libc.pthread_key_create == NULL) return;
	atomic_store(&caches.has_key, libc.pthread_key_create(&caches.key, thread_exit) == 0);
}

/* The functions for threads may have come with a plugin. */
static COLD void make_key_late(void) {
	if (!libc_has_threads()) return;
	lock_take(&caches.lock, RANK_THREADS);
	if (!atomic_load(&caches.has_key)) make_key();
	lock_drop(&caches.lock, RANK_THREADS);
}

void tcache_init(void) {
	/* Nothing for a size of 0: its blocks have no bytes, and take the slow path. */
	for (size_t i = 1; i <= TABLE_MAX / MIN_ALIGN; i++)
		tcache_tags[i] = TAG_OF_CLASS(class_of_size(i * MIN_ALIGN));
	/* Not where they are declared: a process would start with a copy of a page for each of them. */
	no_cache_any_more.magazines[0] = no_cache_now.magazines[0] = tcache_hiding.magazines[0] =
	    no_cache_yet.magazines[0];
	make_key();
	purger_expect();
	runs_init();
}

/* ---- the first slow path of a thread ---- */

/* The arena with the fewest threads, of those of a node or of all. Of hardened ones, once there are such: the
 * first is one then. NULL: the node has none. Under the threads lock. */
static struct arena *least_used(unsigned node, bool of_all) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	const bool hardens = arena_list[0]->kind == REGION_GUARDED;
	struct arena *best = NULL;
	for (uint32_t i = 0; i < count; i++) {
		struct arena *a = arena_list[i];
		const bool fits = (a->kind == REGION_GUARDED) == hardens && !a->apart && !a->inherited;
		if (fits && (of_all || a->node == node) && (best == NULL || arena_threads(a) < arena_threads(best)))
			best = a;
	}
	return best;
}

/* One of the thread's node that nobody has, or a new one while there may be more, or one that nobody has,
 * which becomes the node's; or one of the node, or any. Under the threads lock. */
static struct arena *choose_arena(void) {
	const unsigned node = node_enter();
	struct arena *chosen = least_used(node, !node_matters()), *near = chosen;
	if (near == NULL || arena_threads(near) > 0) chosen = arena_create();
	if (chosen == NULL) chosen = least_used(node, true);
	if (near != NULL && arena_threads(chosen) > 0) chosen = near;
	if (arena_threads(chosen) == 0) chosen->node = node;
	return chosen;
}

/* What other threads write while the owner reads it: magazines, see magazine_drain.c, and the table of
 * sizes. */
#define WRITTEN_BY_OTHERS (offsetof(struct tcache, class_mask) + sizeof((struct tcache *)NULL)->class_mask)

void draw_turns(struct tcache *tc) {
	guard_turn_init(&tc->guard);
	tc->sample.random.state = random_next(&tc->guard.random);
	sample_forget(&tc->sample);
	slow_turn_draw(&tc->slow, &tc->guard.random);
}

/* Those that take the same cache one after the other shall guard other allocations. What it saves the thread,
 * a refill or more, counts as one: how many it would have made nobody knows. */
static void draw_turns_of_next(struct tcache *tc) {
	tc->guard = (struct guard_turn){ 0 };
	tc->sample.busy = false; /* as who had it before may have said */
	draw_turns(tc);
	guard_count(&tc->guard, MAGAZINE_START_SLOTS / 2);
}

/* It is a thread's. Under the threads lock. */
static void enter(struct tcache *tc) {
	tc->arena = choose_arena();
	arena_thread_comes(tc->arena);
	caches.count++;
}

/* One that is left, as it is, with turns of its own. */
static struct tcache *enter_parked(void) {
	lock_take(&caches.lock, RANK_THREADS);
	struct tcache *tc = take_parked();
	if (tc != NULL) enter(tc);
	lock_drop(&caches.lock, RANK_THREADS);
	if (tc == NULL) return NULL;
	cache_stirs(tc);
	draw_turns_of_next(tc);
	/* Less may be cached now than when it was filled. */
	if (tc->room > tcache_room(false)) empty_cache(tc);
	return tc;
}

/* The memory of a cache that is in no list. */
static void release(struct tcache *tc) {
	lock_take(&caches.lock, RANK_THREADS);
	if (tc->lock != NULL) cache_lock_free(tc->lock);
	lock_drop(&caches.lock, RANK_THREADS);
	meta_free(tc, sizeof *tc);
}

static struct tcache *allocate(void) {
	struct tcache *tc = meta_alloc(sizeof *tc);
	if (tc == NULL) return NULL;
	lock_take(&caches.lock, RANK_THREADS);
	tc->lock = cache_lock_alloc();
	lock_drop(&caches.lock, RANK_THREADS);
	if (caches.hardened) tc->quarantine = quarantine_create();
	if (tc->lock != NULL && (!caches.hardened || tc->quarantine != NULL)) return tc;
	if (tc->quarantine != NULL) quarantine_destroy(tc->quarantine);
	release(tc);
	return NULL;
}

/* A new cache in the list. Inside of the gate. */
static struct tcache *link_new(void) {
	struct tcache *tc = allocate();
	if (tc == NULL) return NULL;
	annotate_unchecked(tc, WRITTEN_BY_OTHERS);
	annotate_unchecked(&tc->sample, sizeof tc->sample);
	annotate_unchecked(&tc->run_cache, sizeof tc->run_cache);
	magazines_init(tc);
	run_cache_init(&tc->run_cache);
	draw_turns(tc);
	lock_take(&caches.lock, RANK_THREADS);
	enter(tc);
	tc->led_away = caches.led_away;
	sample_lead_sizes(tc);
	tc->next = caches.first;
	if (tc->next != NULL)
		tc->next->prev = tc;
	else
		caches.last = tc;
	caches.first = tc;
	struct cache_record *record = cache_record_of(tc);
	atomic_store_explicit(&record->generation, caches.generation, memory_order_relaxed);
	atomic_store_explicit(&record->quiet, false, memory_order_relaxed);
	atomic_store_explicit(&record->cache, tc, memory_order_release);
	lock_drop(&caches.lock, RANK_THREADS);
	return tc;
}

/* Its end is not noticed yet. */
static struct tcache *make(void) {
	purger_look_at_process();
	if (atomic_load_explicit(&caches.count, memory_order_relaxed) > 0) {
		cache_hook_call(&cache_hooks.second_cache);
		if (tcache_current != &no_cache_yet) return own_cache(); /* the hook has allocated */
	}
	gate_enter();
	struct tcache *tc = enter_parked();
	if (tc == NULL) tc = link_new();
	gate_leave();
	if (tc == NULL) return NULL;
	tcache_current = tc;
	if (atomic_load_explicit(&caches.hiding, memory_order_relaxed)) {
		lead_own(tc);
		hide_cache(tc);
	}
	return tc;
}

/* May call malloc itself: the cache is in place. */
static void notice_exit(struct tcache *tc) {
	if (unlikely(!caches.has_key)) make_key_late();
	if (likely(caches.has_key)) libc.pthread_setspecific(caches.key, tc);
}

struct tcache *create_cache(void) {
	struct tcache *tc = make();
	if (tc != NULL) notice_exit(tc);
	return tc;
}

/* ---- the last destructor of a thread ---- */

void unlink_cache(struct tcache *tc) {
	if (tc->prev != NULL)
		tc->prev->next = tc->next;
	else
		caches.first = tc->next;
	if (tc->next != NULL)
		tc->next->prev = tc->prev;
	else
		caches.last = tc->prev;
	tc->next = tc->prev = NULL;
}

/* Its blocks go back, for good, while no fork comes. */
static void end_quarantine(struct tcache *tc) {
	struct quarantine *q = tc->quarantine;
	if (q == NULL) return;
	gate_enter();
	lock_take(tc->lock, RANK_CACHE); /* others read there for statistics */
	tc->quarantine = NULL;
	lock_drop(tc->lock, RANK_CACHE);
	quarantine_destroy(q);
	gate_leave();
}

void end_attached(struct tcache *tc) {
	if (tc->attached == NULL) return;
	atomic_load_explicit(&cache_hooks.end_attached, memory_order_acquire)(tc->attached);
	tc->attached = NULL;
}

/* Inside of the gate: a child would find it in no list. */
void free_cache(struct tcache *tc) {
	gate_enter();
	lock_take(&caches.lock, RANK_THREADS);
	unlink_cache(tc);
	lock_drop(&caches.lock, RANK_THREADS);
	/* A walk may be at it; only this thread waits for that. */
	lock_take(tc->lock, RANK_CACHE);
	cache_starts_no_more(tc);
	atomic_store_explicit(&cache_record_of(tc)->cache, NULL, memory_order_relaxed);
	lock_drop(tc->lock, RANK_CACHE);
	annotate_checked(tc, WRITTEN_BY_OTHERS);
	annotate_checked(&tc->sample, sizeof tc->sample);
	annotate_checked(&tc->run_cache, sizeof tc->run_cache);
	release(tc);
	gate_leave();
}

/* Returns whether it was the last one. */
static bool end_cache(struct tcache *tc) {
	end_quarantine(tc);
	empty_cache(tc);
	lock_take(&caches.lock, RANK_THREADS);
	arena_thread_goes(tc->arena);
	const bool last = !tc->uncounted && --caches.count == 0;
	tc->uncounted = true;
	lock_drop(&caches.lock, RANK_THREADS);
	free_cache(tc);
	return last;
}

static void thread_exit(void *cache) {
	struct tcache *tc = cache;
	if (tc->exit_rounds++ < LAST_ROUND && libc.pthread_setspecific(caches.key, tc) == 0) return;
	tcache_current = &no_cache_any_more;
	tcache_hidden = NULL;
	end_attached(tc);
	heap_caches_leave(tc);
	const bool last = !park_cache(tc) && end_cache(tc);
	purger_start();
	if (last) purger_end();
	if (last) cache_hook_call(&cache_hooks.last_exit);
}

bool tcache_has_exit(void) { return caches.has_key; }

bool tcache_exit_is_noticed(void) { return get_cache() != NULL && caches.has_key; }

/* ---- hardened mode ---- */

/* Under the threads lock. */
static void move_to(struct tcache *tc, struct arena *arena) {
	arena_thread_goes(tc->arena);
	tc->arena = arena;
	arena_thread_comes(arena);
}

bool tcache_harden(void) {
	struct tcache *tc = own_cache();
	if (tc == NULL) tc = make();
	if (tc == NULL) return false;
	struct quarantine *quarantine = quarantine_create();
	if (quarantine == NULL) return false;
	empty_cache(tc);
	lock_take(&caches.lock, RANK_THREADS);
	const bool done = arena_harden();
	if (done) {
		move_to(tc, arena_list[0]); /* which is of hardened blocks by now */
		tc->quarantine = quarantine;
		caches.hardened = true;
		atomic_store_explicit(&caches.hiding, true, memory_order_relaxed);
	}
	lock_drop(&caches.lock, RANK_THREADS);
	if (done)
		hide_cache(tc);
	else
		quarantine_destroy(quarantine);
	return done;
}

/* When there is no memory for it, the child goes on as its parent. */
void tcache_harden_anew(void) {
	struct tcache *tc = own_cache();
	lock_take(&caches.lock, RANK_THREADS);
	const bool done = arena_harden_anew();
	if (done && tc != NULL) move_to(tc, arena_list[0]); /* the same */
	lock_drop(&caches.lock, RANK_THREADS);
	if (!done || tc == NULL || tc->quarantine == NULL) return;
	gate_enter();
	quarantine_empty(tc->quarantine);
	gate_leave();
	empty_cache(tc);
}

void tcache_started(void) {
	struct tcache *tc = own_cache();
	if (tc != NULL) notice_exit(tc);
}

/* ---- another arena ---- */

bool tcache_move_to(struct arena *arena) {
	struct tcache *tc = get_cache();
	if (tc == NULL) return false;
	empty_cache(tc);
	lock_take(&caches.lock, RANK_THREADS);
	move_to(tc, arena);
	lock_drop(&caches.lock, RANK_THREADS);
	return true;
}

/* ---- of all caches ---- */

size_t tcache_count(void) { return atomic_load_explicit(&caches.count, memory_order_relaxed); }

bool cache_may_start(struct tcache *tc) {
	if (tc->starter) return true;
	if (atomic_fetch_add_explicit(&caches.starters, 1, memory_order_relaxed) < HOT_STARTERS) {
		tc->starter = true;
		return true;
	}
	atomic_fetch_sub_explicit(&caches.starters, 1, memory_order_relaxed);
	return false;
}

size_t tcache_hot_count(void) { return max_size(atomic_load_explicit(&caches.hot, memory_order_relaxed), 1); }

/* All caches together hold no more than pressure.caches, or CACHE_LEAST_ROOM each when that is more: a
 * thousand threads that sleep hold memory, too. Those that are hot share HOT_SHARE of it beside that: of many
 * threads most sleep, and the one that works would go to its bins all the time. */
size_t tcache_room(bool hot) {
	const size_t room = (size_t)conf.tcache_max, count = max_size(tcache_count(), 1),
	             most = atomic_load_explicit(&pressure.caches, memory_order_relaxed);
	size_t share = room, all;
	if (__builtin_mul_overflow(room, count, &all) || all > most) /* else no division */
		share = min_size(room, max_size(most / count, CACHE_LEAST_ROOM));
	if (likely(!hot)) return share;
	return min_size(HOT_TIMES * min_size(room, most), share + most / HOT_SHARE / tcache_hot_count());
}

void cache_count_extra(struct tcache *tc, bool hot) {
	const size_t share = tcache_room(false), extra = tc->room - min_size(tc->room, share);
	if (extra == tc->extra || (extra > tc->extra && !hot)) return;
	atomic_fetch_add_explicit(&caches.extra, extra - tc->extra, memory_order_relaxed); /* or less than none */
	tc->extra = extra;
}

/* A thread that sleeps keeps its slots, which nobody else can take, and whoever frees fills them. */
size_t cache_hot_room(const struct tcache *tc) {
	const size_t all = atomic_load_explicit(&pressure.caches, memory_order_relaxed) / HOT_EXTRA_SHARE,
	             others = atomic_load_explicit(&caches.extra, memory_order_relaxed) - tc->extra;
	return min_size(tcache_room(true), tcache_room(false) + all - min_size(all, others));
}

void tcache_lock(void) { lock_take(&caches.lock, RANK_THREADS); }
void tcache_unlock(void) { lock_drop(&caches.lock, RANK_THREADS); }
