/* Statistics: what lies in the caches of all threads, in what they keep of heaps, and in orphans. */
#include <string.h>

#include "arena/depot.h"
#include "cache/caches.h"
#include "cache/heap_cache.h"
#include "cache/magazine.h"
#include "cache/walk.h"

/* Blocks in a magazine of another thread, whose slow paths are locked out. Without ThreadSanitizer: it
 * reads the top while malloc and free move it. That was true a moment ago, and is only counted with. */
__attribute__((no_sanitize("thread"))) static size_t blocks_in(const struct tcache *tc, unsigned class_) {
	const struct magazine *m = &tc->magazines[class_];
	void **begun = magazine_begun_at(tc, class_); /* a drain waits, which has not taken them yet */
	const ptrdiff_t blocks = m->top - (begun != NULL ? begun : m->empty);
	return blocks > 0 && blocks <= tc->slots[class_].count ? (size_t)blocks : 0;
}

/* Without ThreadSanitizer: the quarantine is its thread's, which needs no lock for it. */
__attribute__((no_sanitize("thread"))) static size_t quarantined_bytes(const struct tcache *tc) {
	return tc->quarantine != NULL ? tc->quarantine->bytes : 0;
}

static void count_blocks(const struct tcache *tc, size_t blocks[CLASS_COUNT]) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) blocks[c] += blocks_in(tc, c);
}

void tcache_stats_get(size_t *bytes, size_t *run_bytes, size_t *count) {
	size_t blocks[CLASS_COUNT] = { 0 };
	struct cache_walk walk;
	*bytes = *run_bytes = 0;
	cache_walk_begin(&walk);
	for (struct tcache *tc; (tc = cache_walk_next(&walk)) != NULL; cache_walk_leave(tc)) {
		count_blocks(tc, blocks);
		*bytes += quarantined_bytes(tc);
		*run_bytes += run_cache_bytes(&tc->run_cache);
	}
	*count = caches.count;
	lock_take(&caches.lock, RANK_THREADS);
	for (const struct tcache *tc = caches.orphans; tc != NULL; tc = tc->next) {
		count_blocks(tc, blocks);
		*bytes += quarantined_bytes(tc);
		*run_bytes += run_cache_bytes(&tc->run_cache);
	}
	lock_drop(&caches.lock, RANK_THREADS);
	heap_caches_count_all(blocks);
	depots_count(blocks);
	for (unsigned c = 1; c < CLASS_COUNT; c++) *bytes += blocks[c] * size_classes[c].size;
}

void tcache_blocks_get(size_t blocks[CLASS_COUNT]) {
	memset(blocks, 0, CLASS_COUNT * sizeof *blocks);
	struct cache_walk walk;
	cache_walk_begin(&walk);
	for (struct tcache *tc; (tc = cache_walk_next(&walk)) != NULL; cache_walk_leave(tc))
		count_blocks(tc, blocks);
	lock_take(&caches.lock, RANK_THREADS);
	for (const struct tcache *tc = caches.orphans; tc != NULL; tc = tc->next) count_blocks(tc, blocks);
	lock_drop(&caches.lock, RANK_THREADS);
	heap_caches_count_all(blocks);
	depots_count(blocks);
}
