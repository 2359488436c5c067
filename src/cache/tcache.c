/* The life of thread caches: made by a thread's first slow path, ended by its last destructor. */
#include "cache/tcache.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "arena/large.h"
#include "arena/pressure.h"
#include "base/annotate.h"
#include "base/conf.h"
#include "base/meta.h"
#include "cache/fork.h"
#include "cache/magazine.h"
#include "cache/purger.h"

/* Static caches of zeros: every size leads to class 0, whose magazine is empty and full. */
static struct tcache no_cache_yet, no_cache_any_more;

__thread struct tcache *tcache_current __attribute__((tls_model("initial-exec"))) = &no_cache_yet;

static struct {
	struct lock lock;
	struct tcache *first;
	_Atomic size_t count;
	pthread_key_t key; /* its destructor tells that a thread ends */
	bool has_key;
} threads;

/* Destructors of other keys may free after ours, so ours asks to be called again and acts in the last round but one;
 * what is freed even later goes straight to the arenas. */
#define LAST_ROUND (4 - 2)
static_assert(PTHREAD_DESTRUCTOR_ITERATIONS >= 4, "libc runs the destructors so many times");

static void thread_exit(void *cache);

void tcache_init(void) { threads.has_key = pthread_key_create(&threads.key, thread_exit) == 0; }

/* The arena with the fewest threads; a new one while there may be more. Under the threads lock. */
static struct arena *choose_arena(void) {
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	struct arena *best = arena_list[0];
	for (uint32_t i = 1; i < count; i++)
		if (arena_list[i]->threads < best->threads) best = arena_list[i];
	if (best->threads == 0) return best;
	struct arena *created = arena_create();
	return created != NULL ? created : best;
}

static struct tcache *create(void) {
	if (atomic_load_explicit(&threads.count, memory_order_relaxed) > 0) fork_expect_threads();
	struct tcache *tc = meta_alloc(sizeof *tc);
	if (tc == NULL) return NULL;
	annotate_unchecked(tc->magazines, sizeof tc->magazines); /* see drain in magazine.c */
	for (size_t i = 0; i <= TABLE_MAX / MIN_ALIGN; i++) tc->tag_of_size[i] = TAG_OF_CLASS(class_of_size(i * MIN_ALIGN));
	lock_take(&threads.lock, RANK_THREADS);
	tc->arena = choose_arena();
	tc->arena->threads++;
	tc->next = threads.first;
	if (tc->next != NULL) tc->next->prev = tc;
	threads.first = tc;
	threads.count++;
	lock_drop(&threads.lock, RANK_THREADS);
	tcache_current = tc;
	/* May call malloc itself: the cache is in place. */
	if (threads.has_key) pthread_setspecific(threads.key, tc);
	return tc;
}

/* Gives everything in it back. */
static void dispose(struct tcache *tc) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) magazine_dispose(tc, c);
	run_cache_dispose(tc);
}

static struct tcache *get(void) {
	struct tcache *tc = tcache_current;
	if (likely(tc != &no_cache_yet && tc != &no_cache_any_more)) return tc;
	return tc == &no_cache_yet ? create() : NULL;
}

static void thread_exit(void *cache) {
	struct tcache *tc = cache;
	if (tc->exit_rounds++ < LAST_ROUND && pthread_setspecific(threads.key, tc) == 0) return;
	tcache_current = &no_cache_any_more;
	dispose(tc);
	lock_take(&threads.lock, RANK_THREADS);
	tc->arena->threads--;
	if (tc->prev != NULL)
		tc->prev->next = tc->next;
	else
		threads.first = tc->next;
	if (tc->next != NULL) tc->next->prev = tc->prev;
	threads.count--;
	lock_drop(&threads.lock, RANK_THREADS);
	annotate_checked(tc->magazines, sizeof tc->magazines);
	meta_free(tc, sizeof *tc);
	purger_poke();
}

void *tcache_alloc(unsigned class_) {
	struct tcache *tc = get();
	if (likely(tc != NULL)) return magazine_pop(tc, class_);
	void *block;
	return arena_take(arena_list[0], class_, &block, 1) == 1 ? block : NULL;
}

void tcache_free(unsigned class_, void *block) {
	struct tcache *tc = get();
	if (likely(tc != NULL))
		magazine_push(tc, class_, block);
	else
		arena_give(class_, &block, 1);
}

void *tcache_alloc_large(size_t size, bool zero) {
	struct tcache *tc = get();
	if (tc != NULL && size <= RUN_CACHE_BYTES && size <= (size_t)conf.mmap_threshold) {
		struct span *run = run_cache_take(tc, ALIGN_UP(size, SLICE_SIZE) >> SLICE_SHIFT);
		if (run != NULL) return zero ? memset(run->start, 0, size) : run->start;
	}
	return large_alloc(size, MIN_ALIGN, zero, (enum region_kind)(tc != NULL ? tc->arena : arena_list[0])->kind);
}

void tcache_free_run(struct span *run) {
	struct tcache *tc = get();
	if (tc != NULL)
		run_cache_put(tc, run);
	else
		heap_free(run);
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

bool tcache_drain(unsigned looks) {
	bool more_later = false;
	lock_take(&threads.lock, RANK_THREADS);
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next)
		more_later |= magazine_drain(tc, looks) | run_cache_drain(tc, looks);
	lock_drop(&threads.lock, RANK_THREADS);
	return more_later;
}

void tcache_flush_all(void) {
	tcache_flush();
	tcache_drain(0);
}

size_t tcache_count(void) { return atomic_load_explicit(&threads.count, memory_order_relaxed); }

/* Without ThreadSanitizer: it reads the tops of magazines while malloc and free move them, without a lock. Each was true a
 * moment ago, and is only counted with; everything else here is under a lock. */
__attribute__((no_sanitize("thread"))) void tcache_stats_get(size_t *bytes, size_t *run_bytes, size_t *count) {
	lock_take(&threads.lock, RANK_THREADS);
	*bytes = *run_bytes = 0;
	*count = threads.count;
	for (struct tcache *tc = threads.first; tc != NULL; tc = tc->next) {
		lock_take(&tc->lock, RANK_CACHE);
		for (unsigned c = 1; c < CLASS_COUNT; c++) {
			struct magazine *m = &tc->magazines[c];
			ptrdiff_t blocks = m->top - m->empty;
			if (blocks > 0 && blocks <= m->capacity) *bytes += (size_t)blocks * size_classes[c].size;
		}
		*run_bytes += tc->run_cache.bytes;
		lock_drop(&tc->lock, RANK_CACHE);
	}
	lock_drop(&threads.lock, RANK_THREADS);
}

void tcache_lock(void) { lock_take(&threads.lock, RANK_THREADS); }
void tcache_unlock(void) { lock_drop(&threads.lock, RANK_THREADS); }

void tcache_after_fork(void) {
	/* fork does not take the cache's own lock. A handler that took it, while this thread owned all, could not drop it. */
	struct tcache *own = tcache_current;
	if (own != &no_cache_yet && own != &no_cache_any_more) own->lock = (struct lock){ 0 };
}

void tcache_forget_others(void) {
	struct tcache *own = tcache_current;
	if (own == &no_cache_yet || own == &no_cache_any_more) own = NULL;
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	for (uint32_t i = 0; i < count; i++) arena_list[i]->threads = own != NULL && own->arena == arena_list[i];
	if (own != NULL) own->next = own->prev = NULL;
	threads.first = own;
	threads.count = own != NULL;
}
