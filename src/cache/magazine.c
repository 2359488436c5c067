#include "cache/magazine.h"

#include <string.h>

#include "arena/policy.h"
#include "base/annotate.h"
#include "base/meta.h"
#include "base/probe.h"
#include "cache/purger.h"

static_assert(MAGAZINE_LIMIT_BYTES / SMALL_MAX >= MAGAZINE_LEAST_SLOTS, "long blocks have their least slots");

static size_t slots_in(size_t bytes, size_t slots, unsigned class_) {
	return max_size(min_size(bytes / size_classes[class_].size, slots), MAGAZINE_LEAST_SLOTS);
}

/* The blocks move down to the first slot, which drain may have left unused. */
static void settle(struct tcache *tc, unsigned class_) {
	struct magazine *m = &tc->magazines[class_];
	void **first = m->full - tc->slots[class_].count;
	if (m->empty == first) return;
	size_t blocks = (size_t)(m->top - m->empty);
	memmove(first, m->empty, blocks * sizeof *first);
	m->empty = first;
	m->top = first + blocks;
}

/* Gives the oldest `count` blocks back, out of their slots: a copy of them would take two kilobytes of what
 * may be a small stack. They leave the magazine before they reach the arena: a child that is forked in
 * between may lose them, but never finds one in two places. */
static void flush(struct tcache *tc, unsigned class_, size_t count) {
	struct magazine *m = &tc->magazines[class_];
	while (count > 0) {
		void **batch = m->empty;
		const size_t n = min_size(count, BATCH_MAX);
		m->empty += n;
		arena_give(class_, batch, n);
		count -= n;
	}
	settle(tc, class_);
}

/* Changes the number of slots; there must be no more blocks than that. Stays as it is when out of memory. */
static void resize(struct tcache *tc, unsigned class_, size_t slots) {
	struct magazine *m = &tc->magazines[class_];
	settle(tc, class_);
	void **array = slots > 0 ? meta_alloc(slots * sizeof *array) : NULL;
	if (array == NULL && slots > 0) return;
	annotate_unchecked(array, slots * sizeof *array);
	size_t blocks = (size_t)(m->top - m->empty), old = tc->slots[class_].count;
	void **old_array = m->empty;
	if (array != NULL && blocks > 0) memcpy(array, old_array, blocks * sizeof *array);
	m->empty = array;
	m->top = array + blocks;
	m->full = array + slots;
	tc->slots[class_].count = (uint16_t)slots;
	tc->room = tc->room - old * size_classes[class_].size + slots * size_classes[class_].size;
	annotate_checked(old_array, old * sizeof *array);
	if (old > 0) meta_free(old_array, old * sizeof *array);
}

/* Halves a magazine, for instance, and gives the blocks back that have no room any more. */
static void shrink(struct tcache *tc, unsigned class_, size_t slots) {
	struct magazine *m = &tc->magazines[class_];
	size_t blocks = (size_t)(m->top - m->empty);
	if (blocks > slots) flush(tc, class_, blocks - slots);
	resize(tc, class_, slots);
}

/* Magazines without a refill or flush, and as full as at the last look, lie idle: give half of each back. */
static void look_for_idle(struct tcache *tc) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct magazine *m = &tc->magazines[c];
		struct magazine_slots *slots = &tc->slots[c];
		size_t blocks = (size_t)(m->top - m->empty);
		if (slots->count > MAGAZINE_LEAST_SLOTS && slots->events == 0 && slots->seen == blocks) {
			flush(tc, c, (blocks + 1) / 2);
			resize(tc, c, max_size(slots->count / 2, MAGAZINE_LEAST_SLOTS));
		}
		slots->events = 0;
		slots->seen = (uint16_t)(m->top - m->empty);
	}
}

/* Called when the magazine turned out too short. */
static void grow(struct tcache *tc, unsigned class_) {
	const size_t have = tc->slots[class_].count;
	if (++tc->events % MAGAZINE_EVENTS_BETWEEN_LOOKS == 0) look_for_idle(tc);
	tc->slots[class_].events++;
	size_t threads = max_size(tcache_count(), 1);
	const size_t limit_bytes = max_size(MAGAZINE_LIMIT_BYTES, MAGAZINE_SHARED_BYTES / threads);
	const size_t limit_slots = max_size(MAGAZINE_LIMIT_SLOTS, MAGAZINE_SHARED_SLOTS / threads);
	const size_t limit = slots_in(limit_bytes, limit_slots, class_);
	size_t room = tcache_room(), start = min_size(MAGAZINE_START_BYTES, room / MAGAZINE_START_SHARE);
	size_t slots = have == 0 ? slots_in(start, MAGAZINE_START_SLOTS, class_) : min_size(have * 2, limit);
	if (slots > have && tc->room + (slots - have) * size_classes[class_].size <= room)
		resize(tc, class_, slots);
	else if (tc->room > room)
		shrink(tc, class_, have / 2);
}

/* Fetches blocks into the free slots of an empty magazine, or only one where there are none. Returns the one
 * with the lowest address, which is not in the magazine; the next lowest is the next to go. */
static void *refill(struct tcache *tc, unsigned class_) {
	struct magazine *m = &tc->magazines[class_];
	void *single, **batch = m->top < m->full ? m->top : &single;
	const size_t wanted = max_size(min_size(tc->slots[class_].count / 2, BATCH_MAX), 1);
	const size_t n = arena_take(tc->arena, class_, batch, wanted);
	if (n == 0) return NULL;
	guard_count(&tc->guard, n);
	void *lowest = batch[0];
	for (size_t low = 0, high = n - 1; low < high; low++, high--) {
		void *block = batch[low];
		batch[low] = batch[high];
		batch[high] = block;
	}
	if (batch != &single) m->top += n - 1;
	return lowest;
}

static void *pop_or_refill(struct tcache *tc, unsigned class_) {
	struct magazine *m = &tc->magazines[class_];
	settle(tc, class_);
	void *block = magazine_pop(m);
	if (block != NULL) return block;
	grow(tc, class_);
	return refill(tc, class_);
}

static void push_or_flush(struct tcache *tc, unsigned class_, void *block) {
	struct magazine *m = &tc->magazines[class_];
	settle(tc, class_);
	if (magazine_is_full(m)) {
		bool first = tc->slots[class_].count == 0;
		grow(tc, class_);
		/* A thread that starts by freeing what another one gave it would get that block back at once, and
		 * write to the cache line of its neighbours, which are still with the other thread. */
		if (first && span_of(block)->bin->arena != tc->arena) {
			arena_give(class_, &block, 1);
			return;
		}
		if (magazine_is_full(m)) flush(tc, class_, ((size_t)tc->slots[class_].count + 1) / 2);
		if (magazine_is_full(m)) {
			arena_give(class_, &block, 1);
			return;
		}
	}
	magazine_push(m, block);
}

void *magazine_refill(struct tcache *tc, unsigned class_) {
	lock_take(&tc->lock, RANK_CACHE);
	void *block = pop_or_refill(tc, class_);
	lock_drop(&tc->lock, RANK_CACHE);
	cache_hook_call(&cache_hooks.slow_moment);
	return block;
}

void magazine_flush(struct tcache *tc, unsigned class_, void *block) {
	lock_take(&tc->lock, RANK_CACHE);
	push_or_flush(tc, class_, block);
	lock_drop(&tc->lock, RANK_CACHE);
	purger_poke();
}

void magazines_shorten(struct tcache *tc) {
	lock_take(&tc->lock, RANK_CACHE);
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		const size_t most = slots_in(MAGAZINE_START_BYTES, MAGAZINE_START_SLOTS, c);
		if (tc->slots[c].count > most) shrink(tc, c, most);
	}
	lock_drop(&tc->lock, RANK_CACHE);
}

void magazine_dispose(struct tcache *tc, unsigned class_) {
	struct magazine *m = &tc->magazines[class_];
	lock_take(&tc->lock, RANK_CACHE);
	settle(tc, class_);
	flush(tc, class_, (size_t)(m->top - m->empty));
	resize(tc, class_, 0);
	lock_drop(&tc->lock, RANK_CACHE);
}

/* Below the top there are free blocks at any moment: malloc lowers it before it hands one out, free raises it
 * after it stored one. In another order of stores, some may be the program's: then all of them are left to be
 * lost. */
void magazine_inherit(struct tcache *tc, unsigned class_) {
	struct magazine *m = &tc->magazines[class_];
	if (!STORES_ARE_SEEN_IN_ORDER || m->top < m->empty || m->top > m->full) m->top = m->empty;
	for (void **slot = m->empty; slot < m->top; slot++) annotate_found(*slot);
}

/* Takes blocks out of magazines whose thread may use them at any moment, without the lock. It is the protocol
 * of a work-stealing deque (Frigo, Leiserson and Randall, 1998; Chase and Lev, 2005), whose owner takes from
 * the top.
 *
 * What it leans on is written at magazine_pop and magazine_push (magazine.h).
 *
 * `empty` goes up to just below the top. After the barrier, every call that starts sees that. One call may
 * have read the old value before, and have been interrupted: it takes the block below the top that is read
 * now, or writes above it. So all blocks below that one are ours. The barrier is dear: one serves all
 * magazines of the cache that are due.
 *
 * The owner may have filled some of these slots since then. Where a thread's stores may be seen in another
 * order, the top may be seen before them: a second barrier is between the two. tests/models/drain.pml shows
 * what goes wrong otherwise.
 *
 * Race detectors know no membarrier. Here ThreadSanitizer looks away, and there is no barrier under it
 * (os_thread.c): then nothing is taken. Helgrind is told what is handed over. */
__attribute__((no_sanitize("thread"))) static void drain(struct tcache *tc, const bool *due) {
	void **first[CLASS_COUNT], **tops[CLASS_COUNT];
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct magazine *m = &tc->magazines[c];
		void **top = *(void **volatile *)&m->top;
		first[c] = m->empty;
		if (due[c] && top - first[c] > 1) *(void **volatile *)&m->empty = top - 1;
	}
	bool passed = os_barrier_in_all_threads();
	for (unsigned c = 1; c < CLASS_COUNT; c++) tops[c] = *(void **volatile *)&tc->magazines[c].top;
	if (passed && !STORES_ARE_SEEN_IN_ORDER) passed = os_barrier_in_all_threads();
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct magazine *m = &tc->magazines[c];
		if (m->empty == first[c]) continue;
		void **end = passed ? tops[c] - 1 : first[c];
		if (end > m->empty) end = m->empty;
		if (end < first[c]) end = first[c];
		*(void **volatile *)&m->empty = end;
		if (end > first[c]) PROBE(drain, size_classes[c].size, end - first[c]);
		/* Nobody else writes to these slots: whoever moves blocks down there has the lock. */
		for (void **from = first[c]; from < end;) {
			const size_t n = min_size((size_t)(end - from), BATCH_MAX);
			for (size_t i = 0; i < n; i++) annotate_found(from[i]);
			arena_give(c, from, n);
			from += n;
		}
	}
}

/* Without ThreadSanitizer: it reads the two pointers while their thread may change them. The difference is
 * only a hint whether the magazine is idle; what is taken, drain decides. */
__attribute__((no_sanitize("thread"))) bool magazine_drain(struct tcache *tc, unsigned looks) {
	bool due[CLASS_COUNT] = { false }, any_due = false, more_later = false;
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct magazine *m = &tc->magazines[c];
		ptrdiff_t blocks = *(void **volatile *)&m->top - *(void **volatile *)&m->empty;
		if (blocks <= 1) continue;
		bool same = tc->idle_blocks[c] == (uint16_t)blocks;
		tc->idle_blocks[c] = (uint16_t)blocks;
		tc->idle_looks[c] = same ? tc->idle_looks[c] + 1 : 0;
		due[c] = tc->idle_looks[c] >= looks;
		if (due[c]) tc->idle_looks[c] = 0;
		any_due |= due[c];
		more_later |= !due[c];
	}
	if (any_due) drain(tc, due);
	return more_later;
}
