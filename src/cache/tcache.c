/* The life of thread caches: made by a thread's first slow path, ended by its last destructor. */
#include "cache/tcache.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "arena/clear.h"
#include "arena/large.h"
#include "arena/pressure.h"
#include "arena/zero.h"
#include "base/annotate.h"
#include "base/conf.h"
#include "base/meta.h"
#include "cache/magazine.h"
#include "cache/own_thread.h"
#include "cache/purger.h"

/* Static caches of zeros: every size leads to class 0, whose magazine is empty and full. */
static struct tcache no_cache_yet, no_cache_any_more, no_cache_now;
struct tcache tcache_hiding;

__thread struct tcache *tcache_current __attribute__((tls_model("initial-exec"))) = &no_cache_yet;
__thread struct tcache *tcache_hidden __attribute__((tls_model("initial-exec")));

/* Written at start-up or soon after. */
static bool hardened;        /* threads have quarantines, and arenas of hardened blocks */
static _Atomic bool hiding;  /* and false again when nothing is recorded any more */

static struct {
	struct lock lock;
	struct tcache *first;
	struct tcache *_Atomic orphans; /* of threads that were there when this process was forked, by ->next. Nobody uses them: they
	                                   may be read without their own locks, which were held then and stay so */
	_Atomic size_t count;
	pthread_key_t key; /* its destructor tells that a thread ends */
	bool has_key;
} threads;

/* Destructors of other keys may free after ours, so ours asks to be called again and acts in the last round but one;
 * what is freed even later goes straight to the arenas. */
#define LAST_ROUND (4 - 2)
static_assert(PTHREAD_DESTRUCTOR_ITERATIONS >= 4, "libc runs the destructors so many times");

static void thread_exit(void *cache);

/* The second name that libc has for it: somebody may have taken the first, and this is called under the lock of the start. */
extern int libc_key_create(pthread_key_t *key, void (*destructor)(void *)) __asm__("__pthread_key_create");

uint16_t tcache_tags[TABLE_MAX / MIN_ALIGN + 1];

void tcache_init(void) {
	/* Nothing for a size of 0: its blocks have no bytes, and take the slow path. */
	for (size_t i = 1; i <= TABLE_MAX / MIN_ALIGN; i++) tcache_tags[i] = TAG_OF_CLASS(class_of_size(i * MIN_ALIGN));
	threads.has_key = libc_key_create(&threads.key, thread_exit) == 0;
	purger_expect();
}

/* The arena with the fewest threads; a new one while there may be more. Of hardened ones, once there are such: the first
 * is one then. Under the threads lock. */
static struct arena *choose_arena(void) {
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	struct arena *best = arena_list[0];
	const bool hardens = best->kind == REGION_GUARDED;
	for (uint32_t i = 1; i < count; i++) {
		struct arena *a = arena_list[i];
		if (a->threads < best->threads && (a->kind == REGION_GUARDED) == hardens && !a->of_samples && !a->inherited) best = a;
	}
	if (best->threads == 0) return best;
	struct arena *created = arena_create();
	return created != NULL ? created : best;
}

static void hide(struct tcache *tc) {
	tcache_hidden = tc;
	tcache_current = &tcache_hiding;
}

/* What other threads write while the owner reads it: magazines, see drain in magazine.c, and the table of sizes. */
#define WRITTEN_BY_OTHERS (offsetof(struct tcache, class_mask) + sizeof((struct tcache *)NULL)->class_mask)

/* Leads sizes to their magazines, or all of them to magazine 0. Another thread may be in the middle of malloc: it finds either.
 * ThreadSanitizer looks away, for malloc reads the table plainly. */
__attribute__((no_sanitize("thread"))) static void set_tags(struct tcache *tc, bool lead) {
	for (size_t i = 0; i <= TABLE_MAX / MIN_ALIGN; i++)
		*(volatile uint16_t *)&tc->tag_of_size[i] = lead ? tcache_tags[i] : TAG_OF_CLASS(0);
	*(volatile uint16_t *)&tc->class_mask = lead ? UINT16_MAX : 0;
}

/* The thread's cache, NULL when it has none. */
static struct tcache *own_cache(void) {
	struct tcache *tc = tcache_current;
	if (unlikely(tc == &tcache_hiding)) return tcache_hidden;
	return likely(tc != &no_cache_yet && tc != &no_cache_any_more && tc != &no_cache_now) ? tc : NULL;
}

/* A new cache in the list. Inside of the gate. */
static struct tcache *link_new(void) {
	struct tcache *tc = meta_alloc(sizeof *tc);
	if (tc == NULL) return NULL;
	annotate_unchecked(tc, WRITTEN_BY_OTHERS);
	annotate_unchecked(&tc->sample, sizeof tc->sample);
	if (hardened && (tc->quarantine = quarantine_create()) == NULL) {
		meta_free(tc, sizeof *tc);
		return NULL;
	}
	for (unsigned c = 1; c < CLASS_COUNT; c++) tc->magazines[c].start_test = start_tests[c];
	lock_take(&threads.lock, RANK_THREADS);
	tc->arena = choose_arena();
	tc->arena->threads++;
	set_tags(tc, !sample_is_on());
	tc->next = threads.first;
	if (tc->next != NULL) tc->next->prev = tc;
	threads.first = tc;
	threads.count++;
	lock_drop(&threads.lock, RANK_THREADS);
	return tc;
}

/* Its end is not noticed yet. */
static struct tcache *make(void) {
	purger_look_at_process();
	if (atomic_load_explicit(&threads.count, memory_order_relaxed) > 0) {
		cache_hook_call(&cache_hooks.second_cache);
		if (tcache_current != &no_cache_yet) return own_cache(); /* the hook has allocated */
	}
	gate_enter();
	struct tcache *tc = link_new();
	gate_leave();
	if (tc == NULL) return NULL;
	guard_turn_init(&tc->guard);
	tc->sample.random.state = random_next(&tc->guard.random);
	tcache_current = tc;
	if (atomic_load_explicit(&hiding, memory_order_relaxed)) hide(tc);
	return tc;
}

/* May call malloc itself: the cache is in place. */
static void notice_exit(struct tcache *tc) {
	if (threads.has_key) pthread_setspecific(threads.key, tc);
}

static struct tcache *create(void) {
	struct tcache *tc = make();
	if (tc != NULL) notice_exit(tc);
	return tc;
}

/* Gives everything in it back, but for the quarantine. */
static void dispose(struct tcache *tc) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) magazine_dispose(tc, c);
	run_cache_dispose(tc);
}

/* The thread's cache; makes one for a thread that has none yet. */
static struct tcache *get(void) {
	struct tcache *tc = own_cache();
	return likely(tc != NULL) || tcache_current != &no_cache_yet ? tc : create();
}

/* Out of the list of those whose threads are there. Under the threads lock. */
static void unlink_cache(struct tcache *tc) {
	if (tc->prev != NULL)
		tc->prev->next = tc->next;
	else
		threads.first = tc->next;
	if (tc->next != NULL) tc->next->prev = tc->prev;
	tc->next = tc->prev = NULL;
}

/* Its blocks go back, for good, while no fork comes. */
static void end_quarantine(struct tcache *tc) {
	struct quarantine *q = tc->quarantine;
	if (q == NULL) return;
	gate_enter();
	lock_take(&tc->lock, RANK_CACHE); /* others read there for statistics */
	tc->quarantine = NULL;
	lock_drop(&tc->lock, RANK_CACHE);
	quarantine_destroy(q);
	gate_leave();
}

static void end_attached(struct tcache *tc) {
	if (tc->attached != NULL) atomic_load_explicit(&cache_hooks.end_attached, memory_order_acquire)(tc->attached);
	tc->attached = NULL;
}

static void thread_exit(void *cache) {
	struct tcache *tc = cache;
	if (tc->exit_rounds++ < LAST_ROUND && pthread_setspecific(threads.key, tc) == 0) return;
	tcache_current = &no_cache_any_more;
	tcache_hidden = NULL;
	end_attached(tc);
	end_quarantine(tc);
	dispose(tc);
	lock_take(&threads.lock, RANK_THREADS);
	tc->arena->threads--;
	unlink_cache(tc);
	const bool last = !tc->uncounted && --threads.count == 0;
	annotate_checked(tc, WRITTEN_BY_OTHERS);
	annotate_checked(&tc->sample, sizeof tc->sample);
	meta_free(tc, sizeof *tc);
	lock_drop(&threads.lock, RANK_THREADS);
	purger_poke();
	if (last) purger_end();
	if (last) cache_hook_call(&cache_hooks.last_exit);
}

bool tcache_harden(void) {
	struct tcache *tc = own_cache();
	if (tc == NULL) tc = make();
	if (tc == NULL) return false;
	struct quarantine *quarantine = quarantine_create();
	if (quarantine == NULL) return false;
	dispose(tc);
	lock_take(&threads.lock, RANK_THREADS);
	const bool done = arena_harden();
	if (done) {
		tc->arena->threads--;
		tc->arena = arena_list[0];
		tc->arena->threads++;
		tc->quarantine = quarantine;
		hardened = true;
		atomic_store_explicit(&hiding, true, memory_order_relaxed);
	}
	lock_drop(&threads.lock, RANK_THREADS);
	if (done)
		hide(tc);
	else
		quarantine_destroy(quarantine);
	return done;
}

/* When there is no memory for it, the child goes on as its parent. */
void tcache_harden_anew(void) {
	struct tcache *tc = own_cache();
	lock_take(&threads.lock, RANK_THREADS);
	const bool done = arena_harden_anew();
	if (done && tc != NULL) {
		tc->arena->threads--;
		tc->arena = arena_list[0];
		tc->arena->threads++;
	}
	lock_drop(&threads.lock, RANK_THREADS);
	if (!done || tc == NULL || tc->quarantine == NULL) return;
	gate_enter();
	quarantine_empty(tc->quarantine);
	gate_leave();
	dispose(tc);
}

void tcache_started(void) {
	struct tcache *tc = own_cache();
	if (tc != NULL) notice_exit(tc);
}

bool tcache_sample(uint64_t mean) {
	lock_take(&threads.lock, RANK_THREADS);
	const bool done = mean == 0 || arena_for_samples();
	if (done) {
		atomic_store_explicit(&sample_mean, mean, memory_order_relaxed);
		for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) {
			set_tags(tc, mean == 0);
			sample_forget(&tc->sample);
		}
	}
	lock_drop(&threads.lock, RANK_THREADS);
	return done;
}

uint64_t tcache_sample_count(size_t size) {
	struct tcache *tc = get();
	return tc != NULL && sample_count(&tc->sample, size) ? tc->sample.mean : 0;
}

void tcache_sample_busy(bool busy) {
	struct tcache *tc = own_cache();
	if (tc != NULL) tc->sample.busy = busy;
}

void tcache_hide(void) {
	atomic_store_explicit(&hiding, true, memory_order_relaxed);
	struct tcache *own = own_cache();
	if (own != NULL) hide(own);
}

void tcache_hide_no_more(void) { atomic_store_explicit(&hiding, false, memory_order_relaxed); }

struct tcache *tcache_reveal_slowly(void) {
	if (tcache_current == &no_cache_yet) create();
	struct tcache *current = tcache_current;
	if (current == &tcache_hiding)
		tcache_current = tcache_hidden;
	else if (current == &no_cache_yet || current == &no_cache_any_more)
		tcache_current = &no_cache_now;
	else
		return NULL;
	return current;
}

/* NULL: it is not the thread's turn, and mostly is not. */
static inline void *alloc_guarded(struct tcache *tc, size_t size) {
	/* Hardened blocks have guards of their own. */
	return unlikely(tc->guard.due) && !hardened ? guard_turn_take(&tc->guard, size) : NULL;
}

void *tcache_alloc(unsigned class_, size_t size) {
	struct tcache *tc = get();
	if (likely(tc != NULL)) {
		void *guarded = alloc_guarded(tc, size);
		return guarded != NULL ? guarded : magazine_refill(tc, class_);
	}
	void *block;
	return arena_take(arena_list[0], class_, &block, 1) == 1 ? block : NULL;
}

void *tcache_alloc_sampled(unsigned class_, size_t size) {
	struct tcache *tc = get();
	void *block = tc != NULL ? alloc_guarded(tc, size) : NULL;
	if (block == NULL && arena_take(arena_of_samples, class_, &block, 1) == 0) return NULL;
	return block;
}

void tcache_free(unsigned class_, void *block) {
	struct tcache *tc = get();
	if (likely(tc != NULL))
		magazine_flush(tc, class_, block);
	else
		arena_give_alone(class_, block);
}

void *tcache_alloc_large(size_t size, bool zero) {
	struct tcache *tc = get();
	if (tc != NULL) {
		void *guarded = alloc_guarded(tc, size);
		if (guarded != NULL) return guarded; /* it reads as zero */
		guard_count(&tc->guard, 1);
	}
	if (tc != NULL && size <= RUN_CACHE_BYTES && size <= (size_t)conf.mmap_threshold) {
		struct span *run = run_cache_take(tc, ALIGN_UP(size, SLICE_SIZE) >> SLICE_SHIFT);
		if (run != NULL) {
			if (zero) clear_stale(run->start, size, true);
			return run->start;
		}
	}
	void *block = large_alloc(size, MIN_ALIGN, zero, (enum region_kind)(tc != NULL ? tc->arena : arena_list[0])->kind);
	cache_hook_call(&cache_hooks.slow_moment);
	return block;
}

void tcache_free_run(struct span *run) {
	struct tcache *tc = get();
	if (unlikely(run->altered)) {
		if (heap_renew(run)) heap_free(run);
	} else if (tc != NULL) {
		run_cache_put(tc, run);
	} else {
		heap_free(run);
	}
}

/* All caches together hold no more than pressure.caches, or LEAST_ROOM each when that is more: a thousand threads that sleep
 * hold memory, too. */
#define LEAST_ROOM (16 * KIB)

size_t tcache_room(void) {
	size_t room = (size_t)conf.tcache_max, count = max_size(tcache_count(), 1), all;
	const size_t most = atomic_load_explicit(&pressure.caches, memory_order_relaxed);
	if (!__builtin_mul_overflow(room, count, &all) && all <= most) return room; /* no division */
	return min_size(room, max_size(most / count, LEAST_ROOM));
}

struct arena *tcache_arena(void) {
	struct tcache *tc = get();
	return tc != NULL ? tc->arena : arena_list[0];
}

void tcache_flush(void) {
	struct tcache *tc = get();
	if (tc != NULL) dispose(tc);
}

/* Gives back what is in an orphan. True when there are more. */
static bool adopt(void) {
	if (likely(atomic_load_explicit(&threads.orphans, memory_order_relaxed) == NULL)) return false;
	/* This lock is held to the end, so that everything is either in an orphan or back, for those who count and those who fork. */
	lock_take(&threads.lock, RANK_THREADS);
	struct tcache *tc = atomic_load_explicit(&threads.orphans, memory_order_relaxed);
	if (tc != NULL) {
		tc->lock = (struct lock){ 0 };
		for (unsigned c = 1; c < CLASS_COUNT; c++) magazine_inherit(tc, c);
		dispose(tc);
		if (tc->quarantine != NULL) quarantine_inherit(tc->quarantine);
		end_attached(tc);
		atomic_store_explicit(&threads.orphans, tc->next, memory_order_relaxed);
		meta_free(tc, sizeof *tc);
	}
	const bool more = atomic_load_explicit(&threads.orphans, memory_order_relaxed) != NULL;
	lock_drop(&threads.lock, RANK_THREADS);
	return more;
}

/* Milliseconds between two orphans that somebody adopts in passing. */
#define ADOPTION_PACE 20

static _Atomic uint64_t adopt_from; /* milliseconds: the next one is not adopted before */

void tcache_adopt_in_time(void) {
	if (likely(atomic_load_explicit(&threads.orphans, memory_order_relaxed) == NULL)) return;
	const uint64_t now = os_milliseconds();
	if (now < atomic_load_explicit(&adopt_from, memory_order_relaxed)) return;
	atomic_store_explicit(&adopt_from, now + ADOPTION_PACE, memory_order_relaxed);
	adopt();
}

bool tcache_drain(unsigned looks) {
	bool more_later = adopt();
	while (looks == 0 && more_later) more_later = adopt();
	lock_take(&threads.lock, RANK_THREADS);
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) {
		more_later |= magazine_drain(tc, looks);
		more_later |= run_cache_drain(tc, looks);
	}
	lock_drop(&threads.lock, RANK_THREADS);
	return more_later;
}

void tcache_flush_all(void) {
	tcache_flush();
	tcache_drain(0);
}

bool tcache_has_exit(void) { return threads.has_key; }

bool tcache_exit_is_noticed(void) { return get() != NULL && threads.has_key; }

size_t tcache_count(void) { return atomic_load_explicit(&threads.count, memory_order_relaxed); }

/* Blocks in a magazine of another thread, whose slow paths are locked out. Without ThreadSanitizer: it reads the top while malloc and free
 * move it. That was true a moment ago, and is only counted with. */
__attribute__((no_sanitize("thread"))) static size_t blocks_in(const struct tcache *tc, unsigned class_) {
	const struct magazine *m = &tc->magazines[class_];
	const ptrdiff_t blocks = m->top - m->empty;
	return blocks > 0 && blocks <= tc->slots[class_].count ? (size_t)blocks : 0;
}

/* Likewise. */
__attribute__((no_sanitize("thread"))) static size_t quarantined_bytes(const struct tcache *tc) {
	return tc->quarantine != NULL ? tc->quarantine->bytes : 0;
}

static void count_blocks(const struct tcache *tc, size_t blocks[CLASS_COUNT]) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) blocks[c] += blocks_in(tc, c);
}

void tcache_stats_get(size_t *bytes, size_t *run_bytes, size_t *count) {
	size_t blocks[CLASS_COUNT] = { 0 };
	lock_take(&threads.lock, RANK_THREADS);
	*bytes = *run_bytes = 0;
	*count = threads.count;
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) {
		lock_take(&tc->lock, RANK_CACHE);
		count_blocks(tc, blocks);
		*bytes += quarantined_bytes(tc);
		*run_bytes += tc->run_cache.bytes;
		lock_drop(&tc->lock, RANK_CACHE);
	}
	for (const struct tcache *tc = threads.orphans; tc != NULL; tc = tc->next) {
		count_blocks(tc, blocks);
		*bytes += quarantined_bytes(tc);
		*run_bytes += tc->run_cache.bytes;
	}
	lock_drop(&threads.lock, RANK_THREADS);
	for (unsigned c = 1; c < CLASS_COUNT; c++) *bytes += blocks[c] * size_classes[c].size;
}

void tcache_blocks_get(size_t blocks[CLASS_COUNT]) {
	memset(blocks, 0, CLASS_COUNT * sizeof *blocks);
	lock_take(&threads.lock, RANK_THREADS);
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) {
		lock_take(&tc->lock, RANK_CACHE);
		count_blocks(tc, blocks);
		lock_drop(&tc->lock, RANK_CACHE);
	}
	for (const struct tcache *tc = threads.orphans; tc != NULL; tc = tc->next) count_blocks(tc, blocks);
	lock_drop(&threads.lock, RANK_THREADS);
}

/* Does the magazine hold the block? Its thread may be at work, but in no slow path: a block that it takes out or adds now may be missed.
 * What is found was there at one moment: a slot below the top has what was last written there. Where a thread's stores may be
 * seen in another order, the top may be seen before that: then the slot is looked at once more behind a barrier, without which nothing
 * counts as found. */
__attribute__((no_sanitize("thread"))) static bool holds(const struct tcache *tc, unsigned class_, const void *block) {
	bool found = false;
	const struct magazine *m = &tc->magazines[class_];
	void **top = *(void **const volatile *)&m->top;
	for (void **slot = m->empty; slot < top && !found; slot++) {
		if (*(void *volatile *)slot != block) continue;
		found = STORES_ARE_SEEN_IN_ORDER || (os_barrier_in_all_threads() && *(void *volatile *)slot == block);
	}
	return found;
}

/* The same of a thread that may be in a slow path. */
static bool holds_locked(struct tcache *tc, unsigned class_, const void *block) {
	lock_take(&tc->lock, RANK_CACHE);
	const bool found = holds(tc, class_, block);
	lock_drop(&tc->lock, RANK_CACHE);
	return found;
}

/* Looking through the caches of all threads holds up who starts or ends one. A program that copies out of blocks that it has freed
 * makes blocks that look free, and would have each of them looked for: after a search that found nothing, the next
 * one comes no sooner than so many milliseconds later, and each time twice as many. A second free that is not looked for
 * is found when the block gets back to its bin. */
#define SEARCH_PAUSE_LEAST 1
#define SEARCH_PAUSE_MOST 1024

static struct {
	_Atomic uint64_t from; /* milliseconds: the next search */
	_Atomic uint64_t pause;
} search;

static bool in_any_cache(const struct span *s, const void *block) {
	const uint64_t now = os_milliseconds();
	if (now < atomic_load_explicit(&search.from, memory_order_relaxed)) return false;
	bool found = false;
	lock_take(&threads.lock, RANK_THREADS);
	for (struct tcache *tc = threads.first; tc != NULL && !found; tc = tc->next) found = holds_locked(tc, s->class_, block);
	for (const struct tcache *tc = threads.orphans; tc != NULL && !found; tc = tc->next) found = holds(tc, s->class_, block);
	lock_drop(&threads.lock, RANK_THREADS);
	if (!found) {
		const uint64_t pause = max_size(atomic_load_explicit(&search.pause, memory_order_relaxed), SEARCH_PAUSE_LEAST);
		atomic_store_explicit(&search.from, os_milliseconds() + pause, memory_order_relaxed);
		atomic_store_explicit(&search.pause, min_size(2 * pause, SEARCH_PAUSE_MOST), memory_order_relaxed);
	}
	return found;
}

const char *tcache_where_free(const struct span *s, const void *block) {
	struct tcache *own = own_cache();
	if (own != NULL && holds_locked(own, s->class_, block)) return ", and is in the cache of this thread";
	if (arena_has_free(s, block)) return ", and is back in its arena";
	return in_any_cache(s, block) ? ", and is in the cache of another thread" : NULL;
}

void tcache_lock(void) { lock_take(&threads.lock, RANK_THREADS); }
void tcache_unlock(void) { lock_drop(&threads.lock, RANK_THREADS); }

/* ---- children ---- */

void tcache_lock_all(void) {
	lock_take(&threads.lock, RANK_THREADS);
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) lock_take(&tc->lock, RANK_CACHE);
}

void tcache_unlock_all(void) {
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) lock_drop(&tc->lock, RANK_CACHE);
	lock_drop(&threads.lock, RANK_THREADS);
}

/* The orphans are not written to, but for a link or two: each is a page that the child would get a copy of. */
void tcache_after_fork(void) {
	struct tcache *own = own_cache(), *last = NULL;
	if (own != NULL) unlink_cache(own);
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) {
		lock_check_order(RANK_CACHE, false); /* of this thread's account only */
		last = tc;
	}
	if (last != NULL) {
		last->next = threads.orphans;
		threads.orphans = threads.first;
		adopt_from = os_milliseconds() + ADOPTION_PACE;
	}
	threads.first = own;
	threads.count = own != NULL;
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	for (uint32_t i = 0; i < count; i++) arena_list[i]->threads = own != NULL && own->arena == arena_list[i];
	if (own != NULL) own->uncounted = false;
	if (own != NULL) lock_drop(&own->lock, RANK_CACHE);
	lock_drop(&threads.lock, RANK_THREADS);
}

void tcache_reseed(void) {
	struct tcache *own = own_cache();
	if (own == NULL) return;
	guard_turn_init(&own->guard);
	own->sample.random.state = random_next(&own->guard.random);
	sample_forget(&own->sample);
	if (own->quarantine != NULL) own->quarantine->random.state = random_next(&own->guard.random);
}

void tcache_in_new_process(void) {
	const struct tcache *own = own_cache();
	lock_take(&threads.lock, RANK_THREADS);
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) {
		if (tc == own || tc->uncounted) continue;
		tc->uncounted = true;
		threads.count--;
	}
	lock_drop(&threads.lock, RANK_THREADS);
	tcache_count_own();
	tcache_reseed();
	zero_reseed();
}

void tcache_count_own(void) {
	struct tcache *own = own_cache();
	if (own == NULL || !own->uncounted) return;
	lock_take(&threads.lock, RANK_THREADS);
	own->uncounted = false;
	threads.count++;
	lock_drop(&threads.lock, RANK_THREADS);
}
