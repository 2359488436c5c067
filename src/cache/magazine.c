#include "cache/magazine.h"

#include <stdatomic.h>
#include <string.h>

#include "arena/depot.h"
#include "arena/policy.h"
#include "base/annotate.h"
#include "base/meta.h"
#include "base/probe.h"
#include "cache/caches.h"
#include "cache/purger.h"

static_assert(MAGAZINE_LIMIT_BYTES / SMALL_MAX >= MAGAZINE_LEAST_SLOTS, "long blocks have their least slots");

static size_t slots_in(size_t bytes, size_t slots, unsigned class_) {
	return max_size(min_size(bytes / size_classes[class_].size, slots), MAGAZINE_LEAST_SLOTS);
}

uint64_t magazine_no_block[2];
void *magazine_no_slots[1] = { magazine_no_block };

void magazines_init(struct tcache *tc) {
	for (unsigned c = 0; c < CLASS_COUNT; c++) {
		tc->magazines[c] = (struct magazine)MAGAZINE_WITHOUT_SLOTS;
		tc->magazines[c].start_test = size_classes[c].start_test;
	}
}

/* An array of slots has one more in front, for magazine_no_block. */
static void **new_array(size_t slots) {
	void **array = meta_alloc((slots + 1) * sizeof *array);
	if (array == NULL) return NULL;
	annotate_unchecked(array, (slots + 1) * sizeof *array);
	array[0] = magazine_no_block;
	return array + 1;
}

static void free_array(void **first, size_t slots) {
	annotate_checked(first - 1, (slots + 1) * sizeof *first);
	meta_free(first - 1, (slots + 1) * sizeof *first);
}

/* The blocks move down to the first slot, which a drain or a short batch may have left unused. A drain that
 * waits for its barrier leaves this magazine alone. */
static void settle(struct tcache *tc, unsigned class_) {
	struct magazine *m = &tc->magazines[class_];
	void **first = magazine_first_slot(tc, class_);
	if (unlikely(tc->slots[class_].begun > 0)) magazine_call_off_drain(tc, class_);
	if (m->empty == first) return;
	size_t blocks = (size_t)(m->top - m->empty);
	memmove(first, m->empty, blocks * sizeof *first);
	first[-1] = magazine_no_block;
	m->empty = first;
	m->top = first + blocks;
}

/* Blocks for which the thread has no room: who is to have them next may be another one. */
static inline void give_on(const struct tcache *tc, unsigned class_, void **batch, size_t count) {
	const size_t put = depot_is_open(class_) ? depot_put(tc->arena, class_, batch, count) : 0;
	if (put < count) arena_give(class_, batch + put, count - put);
}

/* Gives the oldest `count` blocks back, out of their slots: a copy of them would take two kilobytes of what
 * may be a small stack. They leave the magazine before they reach the arena: a child that is forked in
 * between may lose them, but never finds one in two places. And a handler of a signal that allocates now does
 * not get below them: the last one moves in front of the others, where no block lies, and leaves its
 * place. `on`: what could wait for other threads does. */
static inline void flush(struct tcache *tc, unsigned class_, size_t count, bool on) {
	struct magazine *m = &tc->magazines[class_];
	while (count > 0) {
		void **batch = m->empty - 1;
		const size_t n = min_size(count, BATCH_MAX);
		batch[0] = batch[n];
		*(void *volatile *)&batch[n] = magazine_no_block;
		m->empty += n;
		if (on)
			give_on(tc, class_, batch, n);
		else
			arena_give(class_, batch, n);
		count -= n;
	}
	settle(tc, class_);
}

/* Changes the number of slots; there must be no more blocks than that. Stays as it is when out of memory. */
static void resize(struct tcache *tc, unsigned class_, size_t slots) {
	struct magazine *m = &tc->magazines[class_];
	settle(tc, class_);
	void **array = slots > 0 ? new_array(slots) : magazine_no_slots + 1;
	if (array == NULL) return;
	size_t blocks = (size_t)(m->top - m->empty), old = tc->slots[class_].count;
	void **old_array = m->empty;
	if (blocks > 0) memcpy(array, old_array, blocks * sizeof *array);
	m->empty = array;
	m->top = array + blocks;
	m->full = array + slots;
	tc->slots[class_].count = (uint16_t)slots;
	tc->room = tc->room - old * size_classes[class_].size + slots * size_classes[class_].size;
	if (unlikely(tc->extra > 0)) cache_count_extra(tc, false);
	if (old > 0) free_array(old_array, old);
}

/* Halves a magazine, for instance, and gives the blocks back that have no room any more. */
static void shrink(struct tcache *tc, unsigned class_, size_t slots) {
	struct magazine *m = &tc->magazines[class_];
	size_t blocks = (size_t)(m->top - m->empty);
	if (blocks > slots) flush(tc, class_, blocks - slots, false);
	resize(tc, class_, slots);
}

/* Magazines without a refill or flush, and as full as at the last look, lie idle: give half of each back, or
 * all of it, and half of the slots. A drain that has begun gives more. */
static void look_for_idle(struct tcache *tc, bool all) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct magazine *m = &tc->magazines[c];
		struct magazine_slots *slots = &tc->slots[c];
		if (unlikely(slots->begun > 0)) continue;
		const size_t blocks = (size_t)(m->top - m->empty);
		if (slots->events == 0 && slots->seen == blocks && (all || slots->count > MAGAZINE_LEAST_SLOTS)) {
			flush(tc, c, all ? blocks : (blocks + 1) / 2, false);
			if (slots->count > MAGAZINE_LEAST_SLOTS)
				resize(tc, c, max_size(slots->count / 2, MAGAZINE_LEAST_SLOTS));
		}
		slots->events = 0;
		slots->seen = (uint16_t)(m->top - m->empty);
	}
}

void magazines_give_idle(struct tcache *tc) {
	cache_lock(tc);
	look_for_idle(tc, true);
	lock_drop(tc->lock, RANK_CACHE);
}

static size_t slots_at_first(unsigned class_, size_t room) {
	return slots_in(min_size(MAGAZINE_START_BYTES, room / MAGAZINE_START_SHARE), MAGAZINE_START_SLOTS,
	                class_);
}

static size_t most_slots(const struct tcache *tc, unsigned class_) {
	const size_t threads = cache_is_hot(tc) ? tcache_hot_count() : max_size(tcache_count(), 1);
	return slots_in(max_size(MAGAZINE_LIMIT_BYTES, MAGAZINE_SHARED_BYTES / threads),
	                max_size(MAGAZINE_LIMIT_SLOTS, MAGAZINE_SHARED_SLOTS / threads), class_);
}

/* Called when the magazine turned out too short. */
static void grow(struct tcache *tc, unsigned class_) {
	const size_t have = tc->slots[class_].count;
	if (++tc->events % MAGAZINE_EVENTS_BETWEEN_LOOKS == 0) look_for_idle(tc, false);
	tc->slots[class_].events++;
	const size_t size = size_classes[class_].size;
	const bool hot = cache_is_hot(tc) && (have > 0 || cache_may_start(tc));
	const size_t room = hot ? cache_hot_room(tc) : tcache_room(false);
	if (have > 0 && tc->room > room) {
		shrink(tc, class_, have / 2);
	} else if (tc->room + size <= room) {
		const size_t slots =
		    have == 0 ? slots_at_first(class_, room) : min_size(have * 2 + 1, most_slots(tc, class_));
		if (slots > have && tc->room + (slots - have) * size <= room) resize(tc, class_, slots);
		if (hot) cache_count_extra(tc, true);
	}
}

/* Blocks that a refill is for; 0: without slots. */
static size_t batch_of(const struct magazine_slots *slots) { return min_size(slots->count / 2, BATCH_MAX); }

/* Fetches blocks into the free slots of an empty magazine, or only one where there are none. Returns the one
 * with the lowest address, which is not in the magazine; the next lowest is the next to go. The bin writes
 * them there from the top down: of a short batch, the lowest slots stay unused (settle). When they are bare,
 * none is in the magazine: see magazine_refill. */
static void *refill(struct tcache *tc, unsigned class_, struct bare_blocks *bare) {
	struct magazine *m = &tc->magazines[class_];
	const size_t wanted = max_size(batch_of(&tc->slots[class_]), 1);
	void *single, **end = m->top < m->full ? m->top + wanted : &single + 1;
	size_t n = depot_is_open(class_) ? depot_take(tc->arena, class_, end, wanted) : 0;
	if (n == 0) n = arena_take_bare(tc->arena, class_, end, wanted, bare);
	if (n == 0) return NULL;
	tc->slots[class_].gained = (uint16_t)(tc->slots[class_].gained + n);
	guard_count(&tc->guard, n);
	if (bare->count > 0 || n == 1) return end[-1];
	m->empty = end - n;
	m->empty[-1] = magazine_no_block;
	m->top = end - 1;
	return end[-1];
}

static void *pop_or_refill(struct tcache *tc, unsigned class_, struct bare_blocks *bare) {
	struct magazine *m = &tc->magazines[class_];
	settle(tc, class_);
	void *block = magazine_pop(m);
	if (block != NULL) return block;
	/* New blocks come by the page: that it is empty soon is not the magazine's fault. */
	struct magazine_slots *slots = &tc->slots[class_];
	if (slots->gained >= batch_of(slots)) {
		slots->gained = 0;
		grow(tc, class_);
	} else {
		slots->events++;
	}
	return refill(tc, class_, bare);
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
		if (magazine_is_full(m)) flush(tc, class_, ((size_t)tc->slots[class_].count + 1) / 2, true);
		if (magazine_is_full(m)) {
			give_on(tc, class_, &block, 1);
			return;
		}
	}
	magazine_push(m, block);
}

/* What malloc returns, and what is in a magazine, has a mark. To write one to a new page is a page fault, for
 * which nobody should have to wait: so it is done without the lock, as if the thread freed these blocks, one
 * by one, whatever a handler of a signal does in between. */
static void mark_and_push(struct tcache *tc, unsigned class_, const struct bare_blocks *bare) {
	struct magazine *m = &tc->magazines[class_];
	arena_mark_bare(bare);
	for (char *block = bare->first + (bare->count - 1) * bare->size; block > bare->first; block -= bare->size)
		if (likely(!magazine_is_full(m)))
			magazine_put_marked_on(m, m->top, block);
		else
			magazine_flush(tc, class_, block);
}

void *magazine_refill(struct tcache *tc, unsigned class_) {
	struct bare_blocks bare = { .count = 0 };
	lock_take(tc->lock, RANK_CACHE);
	cache_stirs(tc);
	cache_warms(tc);
	void *block = pop_or_refill(tc, class_, &bare);
	lock_drop(tc->lock, RANK_CACHE);
	if (bare.count > 0) mark_and_push(tc, class_, &bare);
	cache_hook_call(&cache_hooks.slow_moment);
	return block;
}

void magazine_flush(struct tcache *tc, unsigned class_, void *block) {
	lock_take(tc->lock, RANK_CACHE);
	cache_stirs(tc);
	cache_warms(tc);
	push_or_flush(tc, class_, block);
	lock_drop(tc->lock, RANK_CACHE);
	purger_poke();
}

void magazines_shorten(struct tcache *tc) {
	cache_lock(tc);
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		const size_t most = slots_in(MAGAZINE_START_BYTES, MAGAZINE_START_SLOTS, c);
		if (tc->slots[c].count > most) shrink(tc, c, most);
	}
	cache_starts_no_more(tc);
	lock_drop(tc->lock, RANK_CACHE);
}

void magazines_look_too_long(struct tcache *tc) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) tc->slots[c].gained = UINT16_MAX;
}

void magazine_dispose(struct tcache *tc, unsigned class_) {
	struct magazine *m = &tc->magazines[class_];
	if (tc->slots[class_].count == 0) return; /* of most classes, in most threads */
	lock_take(tc->lock, RANK_CACHE);
	settle(tc, class_);
	flush(tc, class_, (size_t)(m->top - m->empty), false);
	resize(tc, class_, 0);
	lock_drop(tc->lock, RANK_CACHE);
}

/* Below the top there are free blocks at any moment: malloc lowers it before it hands one out, free raises it
 * after it stored one. In another order of stores, some may be the program's: then all of them are left to be
 * lost. */
void magazine_inherit(struct tcache *tc, unsigned class_) {
	struct magazine *m = &tc->magazines[class_];
	if (!STORES_ARE_SEEN_IN_ORDER || m->top < m->empty || m->top > m->full) m->top = m->empty;
	for (void **slot = m->empty; slot < m->top; slot++) annotate_found(*slot);
}
