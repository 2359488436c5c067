/* Thread caches: a magazine of free blocks per size class, used by one thread without lock or atomics.
 *
 * The fast paths (api/malloc.c) need no test for special cases, because class 0 of every cache (not a small
 * block) has a magazine that is empty and full at once, and so have the static caches that stand for "this
 * thread has none", in which all sizes lead to it. So a thread that starts, a process that starts and a
 * pointer that is none of ours take the slow paths here.
 *
 * In hardened mode, and while calls are recorded, every call does: threads have caches, but tcache_current
 * points at such a static one, and theirs is in tcache_hidden (hiding.c).
 *
 * This header has the data, and what others may call, by the files that it is in. */
#ifndef CACHE_TCACHE_H
#define CACHE_TCACHE_H

#include "arena/arena.h"
#include "arena/page_map.h"
#include "cache/guard_turn.h"
#include "cache/hooks.h"
#include "cache/quarantine.h"
#include "cache/runs.h"
#include "cache/sample.h"
#include "cache/slow_calls.h"

/* Requests up to this find their size class in a table, larger ones compute it. */
#define TABLE_MAX ((size_t)1024)

/* Of so many of a program's heaps, a thread keeps blocks. */
#define HEAPS_OF_THREAD 8

struct magazine {
	void **top;          /* blocks lie in [empty, top); malloc takes the last one, free adds behind it */
	void **full;         /* top >= full: no room */
	void **empty;        /* top <= empty: nothing in it. Owner: the cache's lock */
	uint64_t start_test; /* for block_starts_at; 0, which no address passes, in class 0 and without a cache */
};
static_assert(sizeof(struct magazine) == 1 << TAG_SHIFT, "a tag is the offset of a magazine in its cache");

/* What only slow paths need of a magazine. */
struct magazine_slots {
	uint16_t count;  /* up to full: empty lies higher than the first one after a drain or a short refill */
	uint16_t seen;   /* blocks in it at the last look for idle magazines */
	uint16_t events; /* refills and flushes since then */
	uint16_t gained; /* blocks that refills brought since it grew, or was to grow */
	uint16_t begun;  /* by a drain, which waits: 1 + the slot that was at empty; 0: none. Owner: the
	                    cache's lock */
};

/* Owner: its thread; links and arena: the threads lock. Other threads read tops for statistics, and drain
 * magazines: slow paths hold the lock for that reason, the fast ones need none (see magazine_drain.c). */
struct tcache {
	struct magazine magazines[CLASS_COUNT]; /* first: tags count from the start */
	/* malloc's way to a magazine. There is none, so that every malloc takes the slow path, while the heap
	 * profile is on (tcache_sample), while the cache is led away (tcache_lead), and while the magazine is
	 * drained (magazine_drain.c). Owner: `lock`, but for a cache that nobody has yet. */
	uint16_t tag_of_size[TABLE_MAX / MIN_ALIGN + 1]; /* by (size + 15) / 16; 0: no way */
	uint16_t class_mask;                             /* for classes that are computed: above TABLE_MAX,
	                                                    and aligned; all bits, or 0: no way */
	struct magazine_slots slots[CLASS_COUNT];
	uint8_t exit_rounds; /* times that the thread's destructors were run over it */
	bool uncounted;      /* in caches.count: see tcache_in_new_process. Owner: the threads lock */
	uint32_t events;     /* refills and flushes, to look for idle magazines now and then */
	/* Refills and flushes, of runs too, since the purger's last look. Its thread writes it, and who looks, so
	 * that one may be lost. */
	_Atomic uint32_t heat;
	bool starter;              /* counts in caches.starters. Owner: `lock`, as of the next ones */
	size_t extra;              /* bytes of `room` that count in caches.extra */
	uint32_t warm_look;        /* the last look (caches.looks) that found many */
	_Atomic uint32_t hot_look; /* the last one of two that did: see cache_is_hot. Written under `lock` */
	size_t room; /* bytes that the magazines could hold: sum of slots * size, at most tcache_max */
	struct arena *arena;
	struct lock *lock;         /* RANK_CACHE. It lies elsewhere: cache_locks.c */
	const struct drain *drain; /* has begun, and waits for its barrier (drain.c); NULL: none. Owner: `lock` */
	bool called_off;           /* a slow path came to a magazine of it since. Owner: `lock` */
	struct run_cache run_cache;
	/* Whose turn is next is counted here, where blocks are handed out. What is done then, harden/guard.c
	 * and observe/profile.c know. Owner: its thread. */
	struct guard_turn guard;
	struct sample_turn sample;
	struct slow_turn slow;
	/* Free blocks of the cache, like those in the magazines, which they go on to. NULL: not in hardened
	 * mode. */
	struct quarantine *quarantine;
	/* What a layer above keeps for the thread, or NULL: the trace, its writer. One word is all that any
	 * needs; its end is cache_hooks.end_attached. Owner: its thread */
	void *attached;
	/* What the thread keeps of heaps that it used, by their numbers (heap_cache.h). Owner: its thread */
	struct heap_cache *heaps[HEAPS_OF_THREAD];
	bool has_heaps;       /* any, ever */
	bool led_away;        /* see tcache_lead. Owner: `lock` */
	_Atomic bool parked;  /* its thread ended (parked.c). This and what follows: the threads lock */
	uint8_t parked_looks; /* looks that found it so */
	struct tcache *next_parked;
	struct tcache *next, *prev;
	/* By class: blocks at the last look from outside, and how many looks found the same. Owner: `lock`. */
	uint16_t idle_blocks[CLASS_COUNT];
	uint8_t idle_looks[CLASS_COUNT];
};
static_assert(offsetof(struct tcache, magazines) == 0, "tags count from the start of the cache");
static_assert(TAG_OF_CLASS(CLASS_COUNT - 1) == (CLASS_COUNT - 1) * sizeof(struct magazine),
              "tags fit 16 bits");

/* A pointer rather than the cache itself: a library that is loaded late gets few bytes of static TLS. */
extern __thread struct tcache *tcache_current
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The thread's cache where caches are hidden, once it has one. */
extern __thread struct tcache *tcache_hidden __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* What tcache_current points at when the thread's cache is hidden. */
extern struct tcache tcache_hiding __attribute__((visibility("hidden")));

/* What tag_of_size holds while nothing is sampled. Written once, at start-up. */
extern uint16_t tcache_tags[TABLE_MAX / MIN_ALIGN + 1] __attribute__((visibility("hidden")));

static inline struct magazine *magazine_at(struct tcache *tc, size_t tag) {
	return (struct magazine *)((char *)tc + tag);
}

/* ---- tcache.c: the slow ways of malloc and free ---- */

/* For a small block: refill or flush the magazine first, or do without a cache where there can be none. NULL
 * when out of memory. `size`, which the class is that of, counts for a guarded block. Any other one has its
 * mark, unless it was misused (mark_take), or is hardened. */
void *tcache_alloc(unsigned class_, size_t size);
void tcache_free(unsigned class_, void *block);

/* A small block that is a sample of the heap profile, where no tag leads free to a magazine. NULL when out
 * of memory. */
void *tcache_alloc_sampled(unsigned class_, size_t size);

/* A large block: a kept run from the thread's cache, or whatever large_alloc gives. NULL when out of
 * memory. */
void *tcache_alloc_large(size_t size, size_t align, bool zero);

/* A run that run_keep did not keep. */
void tcache_free_run(struct span *run);

/* For blocks that come from elsewhere, `count` of them now: the guarded one that is due, or NULL. It reads as
 * zero. */
void *tcache_guard_turn(size_t size, size_t count);

/* The calling thread keeps no blocks of heaps any more. */
void tcache_leave_heaps(void);

/* The arena of the calling thread; makes the thread's cache when it has none. */
struct arena *tcache_arena(void);

/* The calling thread takes its blocks from this arena from now on, which is none apart; what it has cached
 * goes back. False: it has no cache. */
bool tcache_move_to(struct arena *arena);

/* ---- caches.c: the life of caches ---- */

/* Once, at start-up. */
void tcache_init(void);

/* From now on, threads hide their caches, and their blocks are hardened. What the calling thread has cached
 * goes back. False when out of memory: nothing changed. Called under the lock of the start; when that was
 * dropped, tcache_started. */
bool tcache_harden(void);
void tcache_started(void);

/* In a child of a hardened process, however it was made, before it allocates for the first time: the
 * calling thread, which is the only one, has no block of its parent's spans any more, and gets none. */
COLD void tcache_harden_anew(void);

/* The number of caches now: threads that allocate. */
size_t tcache_count(void);

/* How many of them are hot: one at least, for who divides by it. */
size_t tcache_hot_count(void);

/* Bytes that a cache may hold in its magazines now; that of a thread which is hot may hold more. */
size_t tcache_room(bool hot);

/* Does anybody notice when a thread with a cache ends? */
bool tcache_has_exit(void);

/* Makes the calling thread's cache when it has none. True when it has one, and its end will be noticed. */
bool tcache_exit_is_noticed(void);

/* The threads lock: to read what it owns. */
void tcache_lock(void);
void tcache_unlock(void);

/* ---- hiding.c ---- */

/* From now on, threads hide their caches: the calling one, and those that get one. */
void tcache_hide(void);
/* Only the calling thread does, from now on. False: it has no cache, and all its calls are slow anyway. */
bool tcache_hide_own(void);
/* New ones need not any more. */
void tcache_hide_no_more(void);

/* In a process that runs. false: no size leads a malloc to a magazine any more, and no address a free, of any
 * thread, so that each comes to its slow path with its next call. true: as before. */
void tcache_lead(bool lead);
bool tcache_is_led_away(void);
/* The calling thread, whose cache is revealed, finds its magazines again. */
NOINLINE void tcache_lead_own(void);
/* Threads that were led away hide their caches when they come to tcache_reveal. */
void tcache_hide_running(void);
/* The calling thread's is hidden no more: it is revealed for good. */
void tcache_unhide(void);

/* Until tcache_conceal gets what this returned, or for good, the calling thread uses its cache, if it can
 * have one, as if it were not hidden. NULL: it does so already. Its cache is tcache_current then if this
 * returned &tcache_hiding. */
NOINLINE struct tcache *tcache_reveal_slowly(void);
static inline struct tcache *tcache_reveal(void) {
	if (unlikely(tcache_current != &tcache_hiding)) return tcache_reveal_slowly();
	tcache_current = tcache_hidden;
	return &tcache_hiding;
}
static inline void tcache_conceal(struct tcache *hidden) { tcache_current = hidden; }

/* ---- drain.c: blocks go back ---- */

/* Gives everything in the calling thread's cache back to the arenas. */
void tcache_flush(void);

/* Gives back what lies in any thread's cache, without the help of these threads: magazines and kept runs
 * that were found unchanged by `looks` calls, the purger's IDLE_LOOKS, fewer while memory is short, or 0. A
 * block of each magazine stays, and all of them where the kernel offers no membarrier. True when there are
 * blocks that may turn out to be idle later. */
bool tcache_drain(unsigned looks);

/* For the purger, four times in `decay`: the same, but in a process of many threads not all of those are met
 * in which the last look found nothing, and to which no slow path came since. */
bool tcache_drain_some(unsigned looks);

/* Flushes the calling thread's cache, and drains all others at once. */
void tcache_flush_all(void);

/* Gives back what is in parked caches: nobody will see to them any more. */
void tcache_end_parked(void);

/* ---- tcache_stats.c ---- */

/* Bytes in the magazines and quarantines and in the kept runs of all caches, and how many there are. */
void tcache_stats_get(size_t *bytes, size_t *run_bytes, size_t *threads);

/* Of each size class, the blocks in the magazines of all caches. */
void tcache_blocks_get(size_t blocks[CLASS_COUNT]);

/* ---- search.c ---- */

/* Where this small block waits, if it is free: words for a message, or NULL. */
const char *tcache_where_free(const struct span *s, const void *block);

/* ---- children.c ---- */

/* Around fork: the threads lock, and nobody is under that of a cache. In the child, the last of the three,
 * after arena_after_fork: only the calling thread's cache goes on. The others become orphans: what is in
 * them counts as cached, until it is given back. */
void tcache_lock_all(void);
void tcache_unlock_all(void);
void tcache_after_fork(void);

/* Gives back what is in an orphan, if there is one, and some time has passed since the last one: so a child
 * that was forked to save something, and ends soon, does not spend its time on it. For slow moments.
 * tcache_drain takes one at each call, tcache_flush_all all of them. */
void tcache_adopt_in_time(void);

/* What the calling thread has drawn from its random numbers, it draws anew from others: it is in another
 * process than before. */
void tcache_reseed(void);

/* In a child that no handler of fork hears of: threads that are not there count no more. Their caches stay
 * in the list: who of the threads is there, only they know. tcache_count_own says that the calling one is. */
void tcache_in_new_process(void);
void tcache_count_own(void);

#endif
