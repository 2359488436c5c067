#include "arena/depot.h"

#include <string.h>

#include "arena/pressure.h"
#include "base/annotate.h"
#include "base/conf.h"
#include "base/node.h"

/* Of one size class. */
struct depot {
	struct lock lock;            /* RANK_BIN */
	_Atomic uint32_t count;      /* of blocks. Written under the lock, as all that follows */
	uint64_t refills, flushes;   /* that it served, as a bin counts its own */
	bool used;                   /* somebody took one since the last look */
	uint8_t idle_looks;          /* looks that found it unused */
	void *blocks[DEPOT_LONGEST]; /* the last ones are the next to go */
} __attribute__((aligned(CACHE_LINE)));
static struct depot depots[CLASS_COUNT - DEPOT_FIRST];

/* There is no other lock than those that a fork awaits. */
static inline struct depot *depot_of(unsigned class_) {
	assert(has_depot(class_));
	return &depots[class_ - DEPOT_FIRST];
}

static uint32_t count_of(const struct depot *d) {
	return atomic_load_explicit(&d->count, memory_order_relaxed);
}

/* Under the lock. */
static void set_count(struct depot *d, size_t count) {
	atomic_store_explicit(&d->count, (uint32_t)count, memory_order_relaxed);
}

/* None where caches are not wanted. Blocks of a hardened thread come by chance, from its bins; those of a
 * node stay there. */
static inline bool may_use(const struct arena *arena) {
	return likely(arena->kind != REGION_GUARDED && conf.tcache_max > 0 && !node_matters());
}

/* How many more there may be. What all depots hold nobody counts: a counter for all threads cost a tenth. */
static size_t room_in(const struct depot *d, unsigned class_) {
	const size_t there = count_of(d), most = min_size(DEPOT_BYTES / size_classes[class_].size, DEPOT_LONGEST);
	return there < most && !pressure_is_on() ? most - there : 0;
}

size_t depot_put(const struct arena *arena, unsigned class_, void **blocks, size_t given) {
	struct depot *d = depot_of(class_);
	if (!may_use(arena) || room_in(d, class_) == 0 || !lock_try(&d->lock, RANK_BIN)) return 0;
	/* Once more: others came first; or the purger has just ended, and taken all that was there. */
	const size_t n = depot_is_open(class_) ? min_size(given, room_in(d, class_)) : 0;
	for (size_t i = 0; i < n; i++) annotate_freed(blocks[i]);
	memcpy(d->blocks + count_of(d), blocks, n * sizeof *blocks);
	set_count(d, count_of(d) + n);
	d->flushes += n == given; /* else the bins count it */
	lock_drop(&d->lock, RANK_BIN);
	return n;
}

size_t depot_take(const struct arena *arena, unsigned class_, void **end, size_t most) {
	struct depot *d = depot_of(class_);
	if (!may_use(arena) || count_of(d) == 0 || !lock_try(&d->lock, RANK_BIN)) return 0;
	const size_t n = min_size(most, count_of(d));
	set_count(d, count_of(d) - n);
	memcpy(end - n, d->blocks + count_of(d), n * sizeof *end);
	for (size_t i = 1; i <= n; i++) annotate_found(end[-i]);
	d->used = true;
	d->refills++;
	lock_drop(&d->lock, RANK_BIN);
	return n;
}

/* Takes all, if the depot is idle. Returns how many; *others: some stay. */
static size_t take_idle(unsigned class_, unsigned looks, void **blocks, bool *others) {
	struct depot *d = depot_of(class_);
	lock_take(&d->lock, RANK_BIN);
	const uint32_t there = count_of(d);
	d->idle_looks = d->used || there == 0 ? 0 : (uint8_t)(d->idle_looks + 1);
	d->used = false;
	const bool goes = d->idle_looks >= looks || pressure_is_on();
	if (goes) {
		memcpy(blocks, d->blocks, there * sizeof *blocks);
		set_count(d, 0);
		d->idle_looks = 0;
	}
	*others |= !goes && there > 0;
	lock_drop(&d->lock, RANK_BIN);
	return goes ? there : 0;
}

/* Inside of the gate: no fork comes while the blocks are in nobody's list. With 0 looks, whoever puts one
 * there now does so before us, or after us and knows what we know: that the purger has ended, for
 * instance. */
static bool drain(unsigned class_, unsigned looks) {
	void *blocks[DEPOT_LONGEST];
	bool more_later = false;
	if (looks > 0 && count_of(depot_of(class_)) == 0) return false;
	if (!gate_try_enter()) return true;
	const size_t taken = take_idle(class_, looks, blocks, &more_later);
	for (size_t i = 0; i < taken; i++) annotate_found(blocks[i]);
	if (taken > 0) arena_give(class_, blocks, taken);
	gate_leave();
	return more_later;
}

bool depots_drain(unsigned looks) {
	bool more_later = false;
	for (unsigned c = DEPOT_FIRST; c < CLASS_COUNT; c++) more_later |= drain(c, looks);
	return more_later;
}

bool depot_has(const struct span *s, const void *block) {
	if (!has_depot(s->class_)) return false;
	struct depot *d = depot_of(s->class_);
	bool found = false;
	if (!lock_try(&d->lock, RANK_BIN)) return false;
	for (size_t i = 0; i < count_of(d) && !found; i++) found = d->blocks[i] == block;
	lock_drop(&d->lock, RANK_BIN);
	return found;
}

void depots_count(size_t blocks[CLASS_COUNT]) {
	for (unsigned c = DEPOT_FIRST; c < CLASS_COUNT; c++) blocks[c] += count_of(depot_of(c));
}

void depot_add_batches(unsigned class_, uint64_t *refills, uint64_t *flushes) {
	if (!has_depot(class_)) return;
	struct depot *d = depot_of(class_);
	lock_take(&d->lock, RANK_BIN);
	*refills += d->refills;
	*flushes += d->flushes;
	lock_drop(&d->lock, RANK_BIN);
}

bool depots_are_empty(void) {
	bool empty = true;
	for (unsigned c = DEPOT_FIRST; c < CLASS_COUNT; c++) empty &= count_of(depot_of(c)) == 0;
	return empty;
}

void depots_await(void) {
	for (unsigned c = DEPOT_FIRST; c < CLASS_COUNT; c++) lock_await(&depot_of(c)->lock);
}

void depots_found(void) {
	for (unsigned c = DEPOT_FIRST; c < CLASS_COUNT; c++) lock_found(&depot_of(c)->lock);
}
