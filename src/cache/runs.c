#include "cache/runs.h"

#include "arena/heap.h"
#include "arena/pressure.h"
#include "arena/shelf.h"
#include "arena/wave.h"
#include "base/sandbox.h"
#include "cache/caches.h"

static_assert(RUN_CACHE_BYTES % SLICE_SIZE == 0, "the longest run that is kept is one of whole slices");

/* What others keep can be taken away, by the barrier. Not in a sandbox, nor where the kernel has none, or
 * refuses it from some time on: then only a thread that is alone keeps anything. */
static _Atomic bool others_can_drain;

void runs_init(void) { atomic_store(&others_can_drain, os_has_barrier()); }

void run_cache_init(struct run_cache *rc) { rc->turn = RUN_OUTSIDE; }

/* The first one of its list leaves it. Whoever calls this frees it before the cache's lock is dropped: no
 * fork comes in between. */
static struct span *take_out(struct run_cache *rc, size_t slices) {
	struct span *run = rc->first[slices];
	annotate_found(run);
	rc->first[slices] = run->next;
	rc->slices -= (uint32_t)slices;
	return run;
}

static void free_all(struct run_cache *rc) {
	for (size_t slices = 1; slices <= RUN_CACHE_SLICES; slices++)
		while (rc->first[slices] != NULL) heap_free(take_out(rc, slices));
}

/* With 0, nothing more is kept, or taken, until its thread has come by under the lock. */
static void set_limit(struct run_cache *rc, uint32_t limit) {
	__atomic_store_n(&rc->limit, limit, __ATOMIC_RELAXED);
}

/* ---- of the calling thread ---- */

struct span *run_take_aligned(struct run_cache *rc, size_t size, size_t align) {
	if (size > RUN_CACHE_BYTES || !run_enter(rc)) return NULL;
	struct span **link = &rc->first[(size + SLICE_SIZE - 1) >> SLICE_SHIFT], *run = NULL;
	if (run_limit(rc) != 0)
		while ((run = *link) != NULL && ((uintptr_t)run->start & (align - 1)) != 0) link = &run->next;
	if (run != NULL) {
		*link = run->next;
		rc->slices -= run->slices;
		run->kind = SPAN_RUN;
	}
	run_leave(rc);
	return run;
}

/* Its share: whoever comes first has no more of it. Less where no purger sees to threads that sleep. */
static uint32_t most_slices(const struct tcache *tc) {
	const size_t threads = max_size(tcache_count(), 1);
	const bool watched = atomic_load_explicit(&purged_in_background, memory_order_relaxed);
	const size_t all = atomic_load_explicit(&pressure.caches, memory_order_relaxed) /
	                   (watched ? RUN_CACHE_SHARE : RUN_CACHE_SHARE_UNWATCHED);
	if (threads > 1 && (!atomic_load_explicit(&others_can_drain, memory_order_relaxed) || sandbox_is_on()))
		return 0;
	const bool hot = cache_is_hot(tc);
	const size_t share = all / (hot ? min_size(threads, tcache_hot_count() * HOT_SHARE) : threads);
	return (uint32_t)(min_size(min_size(RUN_CACHE_BYTES, tcache_room(hot)), share) / SLICE_SIZE);
}

/* Runs of other lengths go, one of each in turn, until there is room for one more of this length. */
static void make_room(struct run_cache *rc, size_t slices) {
	for (size_t looked = 0; rc->slices + slices > rc->limit && looked < RUN_CACHE_SLICES; looked++) {
		const size_t other = 1 + rc->next_length++ % RUN_CACHE_SLICES;
		if (rc->first[other] == NULL || other == slices) continue;
		heap_free(take_out(rc, other));
		looked = 0;
	}
}

void run_cache_put(struct tcache *tc, struct span *run) {
	struct run_cache *rc = &tc->run_cache;
	const size_t slices = run->slices;
	if (run_keep(rc, run)) return;
	if (slices > RUN_CACHE_SLICES || rc->turn == RUN_INSIDE) {
		heap_free(run);
		return;
	}
	const uint64_t begin = slow_call_of(tc);
	lock_take(tc->lock, RANK_CACHE);
	cache_stirs(tc);
	cache_warms(tc);
	run_cache_call_off_drain(rc);
	run_enter(rc);
	const uint32_t most = most_slices(tc);
	set_limit(rc, most);
	if (slices <= most)
		make_room(rc, slices);
	else if (most == 0)
		free_all(rc);
	run_leave(rc);
	if (!run_keep(rc, run)) heap_free(run);
	lock_drop(tc->lock, RANK_CACHE);
	slow_call_ends(SLOW_FREE_LARGE, begin);
}

bool run_goes_home(struct tcache *tc, struct span *run) {
	struct run_cache *rc = &tc->run_cache;
	const uint32_t slices = run->slices, limit = run_limit(rc);
	if (slices > SHELF_SLICES || !run_enter(rc)) return false;
	/* If the way is open now, it is until run_leave, as far as others' drains are concerned. */
	const bool full = run_limit(rc) != 0 && rc->slices + slices > limit &&
	                  (limit < RUN_CACHE_SLICES || rc->first[slices] != NULL);
	run_leave(rc);
	if (!full && (limit != 0 || most_slices(tc) != 0)) return false;
	cache_warms(tc);
	return shelf_put(run);
}

/* ---- of any thread ---- */

void run_cache_dispose(struct tcache *tc) {
	struct run_cache *rc = &tc->run_cache;
	lock_take(tc->lock, RANK_CACHE);
	run_cache_call_off_drain(rc);
	if (run_enter(rc)) {
		set_limit(rc, 0);
		free_all(rc);
		run_leave(rc);
	}
	lock_drop(tc->lock, RANK_CACHE);
}

/* Stores to the cache and to records of runs may be in different pages, of which the child has one as it
 * was a little earlier. The kind of a run tells; and a list ends there. It also ends where it comes back to
 * a run: records of different moments may make a ring. */
static void inherit_list(struct run_cache *rc, uint32_t slices) {
	struct span **link = &rc->first[slices];
	while (*link != NULL && (*link)->kind == SPAN_KEPT && (*link)->slices == slices &&
	       rc->slices < RUN_CACHE_SLICES) {
		(*link)->kind = SPAN_RUN;
		rc->slices += slices;
		link = &(*link)->next;
	}
	*link = NULL;
	for (struct span *run = rc->first[slices]; run != NULL; run = run->next) run->kind = SPAN_KEPT;
}

void run_cache_inherit(struct run_cache *rc) {
	const bool inside = rc->turn == RUN_INSIDE;
	rc->turn = RUN_OUTSIDE;
	rc->slices = 0;
	for (uint32_t slices = 1; slices <= RUN_CACHE_SLICES; slices++) {
		if (inside) rc->first[slices] = NULL;
		inherit_list(rc, slices);
	}
}

/* ---- a drain. Without ThreadSanitizer, which knows no membarrier: see magazine_drain.c ---- */

__attribute__((no_sanitize("thread"))) bool run_cache_begin_drain(struct tcache *tc, unsigned looks,
                                                                  bool *more_later) {
	struct run_cache *rc = &tc->run_cache;
	if (rc->limit == 0) return false;
	if (rc->used) rc->idle_looks = 0;
	rc->used = false;
	/* Where there are more threads by now, or less memory, each may keep less. */
	if (rc->idle_looks < looks && rc->limit <= most_slices(tc)) {
		rc->idle_looks++;
		*more_later = true;
		return false;
	}
	rc->limit_before = rc->limit;
	set_limit(rc, 0);
	return true;
}

__attribute__((no_sanitize("thread"))) bool run_cache_end_drain(struct run_cache *rc, bool passed) {
	if (rc->limit_before == 0) return rc->limit == 0;
	const bool inside = __atomic_load_n(&rc->turn, __ATOMIC_ACQUIRE) == RUN_INSIDE;
	if (passed && inside) set_limit(rc, rc->limit_before);
	rc->limit_before = 0;
	if (!passed)
		atomic_store(&others_can_drain, false); /* its thread frees them, when it frees the next run */
	if (!passed || inside) return false;
	free_all(rc);
	return true;
}

void run_cache_call_off_drain(struct run_cache *rc) {
	if (rc->limit_before != 0) set_limit(rc, rc->limit_before);
	rc->limit_before = 0;
}

__attribute__((no_sanitize("thread"))) size_t run_cache_bytes(const struct run_cache *rc) {
	return rc->slices * SLICE_SIZE;
}
