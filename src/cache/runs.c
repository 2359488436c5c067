#include "cache/runs.h"

#include <string.h>

#include "arena/heap.h"
#include "cache/caches.h"

/* Takes out the entry; the caller holds the lock, and frees the run before it drops it: no fork comes in
 * between. */
static struct span *take_out(struct run_cache *rc, size_t i) {
	struct span *run = rc->runs[i];
	rc->bytes -= run->slices * SLICE_SIZE;
	rc->count--;
	memmove(&rc->runs[i], &rc->runs[i + 1], (rc->count - i) * sizeof *rc->runs);
	return run;
}

struct span *run_cache_take(struct tcache *tc, size_t slices) {
	struct run_cache *rc = &tc->run_cache;
	struct span *run = NULL;
	lock_take(&tc->lock, RANK_CACHE);
	rc->idle_looks = 0;
	for (size_t i = rc->count; i-- > 0 && run == NULL;)
		if (rc->runs[i]->slices == slices) run = take_out(rc, i);
	if (run != NULL) run->kind = SPAN_RUN;
	lock_drop(&tc->lock, RANK_CACHE);
	return run;
}

void run_cache_put(struct tcache *tc, struct span *run) {
	struct run_cache *rc = &tc->run_cache;
	struct span *dropped[RUN_CACHE_ENTRIES + 1];
	const size_t size = run->slices * SLICE_SIZE;
	const size_t limit = min_size(RUN_CACHE_BYTES, tcache_room() / RUN_CACHE_SHARE);
	size_t count = 0;
	lock_take(&tc->lock, RANK_CACHE);
	rc->idle_looks = 0;
	if (size <= limit) {
		while (rc->count == RUN_CACHE_ENTRIES || rc->bytes + size > limit) dropped[count++] = take_out(rc, 0);
		run->kind = SPAN_KEPT;
		rc->runs[rc->count++] = run;
		rc->bytes += size;
	} else {
		dropped[count++] = run;
	}
	if (count > 0) {
		const uint64_t begin = slow_call_of(tc);
		while (count > 0) heap_free(dropped[--count]);
		slow_call_ends(SLOW_FREE_LARGE, begin);
	}
	lock_drop(&tc->lock, RANK_CACHE);
}

bool run_cache_drain(struct tcache *tc, unsigned looks) {
	struct run_cache *rc = &tc->run_cache;
	struct span *dropped[RUN_CACHE_ENTRIES];
	size_t count = 0;
	if (rc->idle_looks >= looks)
		while (rc->count > 0) dropped[count++] = take_out(rc, 0);
	const bool left = rc->count > 0;
	rc->idle_looks += left;
	while (count > 0) heap_free(dropped[--count]);
	return left;
}

void run_cache_dispose(struct tcache *tc) {
	lock_take(&tc->lock, RANK_CACHE);
	run_cache_drain(tc, 0);
	lock_drop(&tc->lock, RANK_CACHE);
}
