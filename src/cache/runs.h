/* Freed runs that wait in a thread's cache for the next large block of the same length: kept runs. A
 * program that takes and returns buffers again and again needs no lock of the page heap for them.
 *
 * A run's kind tells whether it is kept: so a second free is found at once, whatever came in between.
 *
 * Their thread takes no lock for them, and no atomic operation, and yet others take all of them away when
 * it sleeps: a lock that is biased to one side. The thread says that it is inside (`turn`), and then looks
 * whether the way is open (`limit`). Who drains closes the way, waits until each thread has passed a barrier,
 * and looks then whether the thread is inside. If not, it will find the way closed. If it is, the runs stay
 * until the next look. Both are done under the cache's lock, which the slow paths of the thread hold, too;
 * while the barrier is waited for, nobody has it, and slow paths that take it open the way again: then these
 * runs are not drained (drain.c).
 * tests/models/runs.pml tries every interleaving.
 *
 * The handler of a signal that came while its thread was inside has nothing from here. In the child of a
 * fork, the runs of a thread that was inside are lost. */
#ifndef CACHE_RUNS_H
#define CACHE_RUNS_H

#include <stdatomic.h>

#include "arena/policy.h"
#include "arena/region.h"
#include "base/annotate.h"

struct tcache;

#define RUN_CACHE_SLICES (RUN_CACHE_BYTES / SLICE_SIZE)

enum run_turn {
	RUN_NEVER, /* in what stands for a cache where a thread has none: nothing is written there */
	RUN_OUTSIDE,
	RUN_INSIDE, /* in the middle of run_take, run_keep or a slow path for runs */
};

/* Owner: its thread, while it is inside; and the cache's lock, where the way is closed or the thread is not
 * there. */
struct run_cache {
	struct span *first[RUN_CACHE_SLICES + 1]; /* by slices: the run that was freed last; the others follow at
	                                             ->next. Their kind is SPAN_KEPT */
	uint32_t slices;                          /* of all of them */
	uint32_t limit;                           /* they may be so many slices; 0: the way is closed. Written
	                                             under the cache's lock */
	uint32_t limit_before;                    /* of the drain that has begun; 0: none has. Owner: that lock */
	uint8_t turn;                             /* enum run_turn. Written by its thread only */
	uint8_t next_length;                      /* whose run is the next to go, where another one needs room */
	bool used;                                /* since the last look. A hint: others clear it */
	uint8_t idle_looks;                       /* looks that found it unused. Owner: the cache's lock */
};

/* False: something else has to do. Else run_leave is to follow. */
static inline __attribute__((always_inline)) bool run_enter(struct run_cache *rc) {
	if (unlikely(rc->turn != RUN_OUTSIDE)) return false;
	__atomic_store_n(&rc->turn, RUN_INSIDE, __ATOMIC_RELAXED);
	atomic_signal_fence(memory_order_seq_cst); /* the CPU's part is the barrier of who drains */
	return true;
}

static inline __attribute__((always_inline)) void run_leave(struct run_cache *rc) {
	__atomic_store_n(&rc->turn, RUN_OUTSIDE, __ATOMIC_RELEASE);
}

static inline __attribute__((always_inline)) uint32_t run_limit(const struct run_cache *rc) {
	return __atomic_load_n(&rc->limit, __ATOMIC_RELAXED);
}

/* For malloc: a kept run that holds so many bytes, more than none; its kind is SPAN_RUN again. NULL: there is
 * none. */
static inline __attribute__((always_inline)) struct span *run_take(struct run_cache *rc, size_t size) {
	if (unlikely(size > RUN_CACHE_BYTES) || unlikely(!run_enter(rc))) return NULL;
	const size_t slices = (size + SLICE_SIZE - 1) >> SLICE_SHIFT;
	struct span *run = NULL;
	if (likely(run_limit(rc) != 0) && likely((run = rc->first[slices]) != NULL)) {
		rc->first[slices] = run->next;
		rc->slices -= (uint32_t)slices;
		run->kind = SPAN_RUN;
	}
	run_leave(rc);
	return run;
}

/* The same for an alignment (a power of two) of more than a slice: the one of its length that was freed last
 * of those that have it. */
struct span *run_take_aligned(struct run_cache *rc, size_t size, size_t align);

/* For free: keeps the run. False: there is no room for it, see run_cache_put. */
static inline __attribute__((always_inline)) bool run_keep(struct run_cache *rc, struct span *run) {
	if (unlikely(!run_enter(rc))) return false;
	const uint32_t slices = run->slices, all = rc->slices + slices;
	const bool fits = all <= run_limit(rc);
	if (likely(fits)) {
		run->next = rc->first[slices];
		run->kind = SPAN_KEPT;
		rc->first[slices] = run;
		rc->slices = all;
		rc->used = true;
		annotate_freed(run);
	}
	run_leave(rc);
	return fits;
}

/* Once, at start-up. */
void runs_init(void);

/* Of a new cache. */
void run_cache_init(struct run_cache *rc);

/* For the calling thread's cache: keeps the run, and frees what has no place any more, others or this one. */
void run_cache_put(struct tcache *tc, struct span *run);

/* For a run that has a home: puts it on its shelf, if the thread has no room for more, or is to keep none.
 * But one that may keep many makes room for the first of a length. False: run_cache_put is to follow. */
bool run_goes_home(struct tcache *tc, struct span *run);

/* Frees all of them. For the calling thread's cache, or one whose thread is not there. */
void run_cache_dispose(struct tcache *tc);

/* In a child, of a thread that is not there: wherever it was, run_cache_dispose may follow. */
void run_cache_inherit(struct run_cache *rc);

/* A drain of any thread's cache, under its lock: frees runs when none came and went during `looks` calls.
 * This begins it; false: they stay. `more_later` becomes true when there are runs, or may be without that
 * anybody hears of it, that may turn out to be idle later. */
bool run_cache_begin_drain(struct tcache *tc, unsigned looks, bool *more_later);

/* Then all threads pass a barrier, without the lock, or cannot (`passed` is false). True when nothing is
 * left, and no room. */
bool run_cache_end_drain(struct run_cache *rc, bool passed);

/* Instead, before the end: nothing is taken. Slow paths begin with it. */
void run_cache_call_off_drain(struct run_cache *rc);

/* Bytes of all of them: true a moment ago, if its thread is at work. */
size_t run_cache_bytes(const struct run_cache *rc);

#endif
