#include "harden/guard.h"

#include <string.h>

#include "arena/huge_cache.h"
#include "arena/size_class.h"
#include "base/cap.h"
#include "base/gate.h"
#include "base/lock.h"
#include "base/meta.h"
#include "base/os.h"
#include "base/probe.h"
#include "base/sandbox.h"
#include "cache/guard_turn.h"
#include "cache/hooks.h"

/* Of the freed slots, the one that waited longest is the next: a block is told from the one before it for
 * as long as possible. A third of them always waits, whatever lives for ever in the others. */
#define SLOTS 128
#define LIVE_MAX 96

/* Slots alternate with gaps of the same size, so that they are aligned to slices: address space only. */
#define SLOT_SIZE SLICE_SIZE
#define POOL_SIZE ((2 * SLOTS + 1) * SLOT_SIZE)
static_assert(GUARD_MAX <= SLOT_SIZE, "a block fits its slot");

/* A process with an address-space limit keeps it for itself: no pool below 64 times its size. */
#define POOL_LIMIT (POOL_SIZE * 64)

/* What lies between the block and the ends of its pages; checked when it is freed. */
#define PADDING 0xCA

static struct {
	struct lock lock;
	_Atomic uintptr_t base; /* 0: there is none yet. Written once, under the lock */
	struct guard_slot *slots;
	uint16_t free[SLOTS]; /* a queue of slot numbers: [first, first + count) */
	uint32_t first, count;
	struct guard_stats stats;
} pool;

void guard_lock(void) { lock_take(&pool.lock, RANK_GUARD); }
void guard_unlock(void) { lock_drop(&pool.lock, RANK_GUARD); }

/* ---- slots ---- */

static uintptr_t slot_start(size_t number) { return pool.base + (2 * number + 1) * SLOT_SIZE; }

bool guard_owns(const void *address) {
	uintptr_t base = atomic_load_explicit(&pool.base, memory_order_acquire);
	return base != 0 && (uintptr_t)address - base < POOL_SIZE;
}

/* Under the lock. */
static bool create_pool(void) {
	if (os_address_space_limit() < POOL_LIMIT) return false;
	pool.slots = meta_alloc(SLOTS * sizeof *pool.slots);
	if (pool.slots == NULL) return false;
	void *base = os_reserve(POOL_SIZE, SLOT_SIZE);
	if (base == NULL) {
		meta_free(pool.slots, SLOTS * sizeof *pool.slots);
		return false;
	}
	os_name(base, POOL_SIZE, NAME_GUARDED);
	for (unsigned i = 0; i < SLOTS; i++) pool.free[i] = (uint16_t)i;
	pool.count = SLOTS;
	atomic_store_explicit(&pool.base, (uintptr_t)base, memory_order_release);
	fault_catch();
	return true;
}

/* NULL when there is none. */
static struct guard_slot *take_slot(void) {
	struct guard_slot *slot = NULL;
	guard_lock();
	const bool there = atomic_load_explicit(&pool.base, memory_order_relaxed) != 0 || create_pool();
	if (there && pool.count > SLOTS - LIVE_MAX) {
		slot = &pool.slots[pool.free[pool.first]];
		pool.first = (pool.first + 1) % SLOTS;
		pool.count--;
		slot->state = SLOT_UNUSED;
	}
	guard_unlock();
	return slot;
}

/* Under the lock. */
static void return_slot(struct guard_slot *slot) {
	pool.free[(pool.first + pool.count) % SLOTS] = (uint16_t)(slot - pool.slots);
	pool.count++;
}

/* At random, the block ends where its pages end, but for its alignment, or begins where they begin. */
static void place(struct guard_slot *slot, size_t size, bool at_end) {
	const size_t aligned = ALIGN_UP(max_size(size, 1), MIN_ALIGN);
	slot->size = size;
	slot->pages_size = ALIGN_UP(aligned, os_page_size);
	slot->pages = slot_start((size_t)(slot - pool.slots)) + (at_end ? SLOT_SIZE - slot->pages_size : 0);
	slot->block = slot->pages + (at_end ? slot->pages_size - aligned : 0);
}

static void fill_padding(const struct guard_slot *slot) {
	const uintptr_t end = slot->block + slot->size;
	memset((void *)slot->pages, PADDING, slot->block - slot->pages);
	memset((void *)end, PADDING, slot->pages + slot->pages_size - end);
}

/* False when the kernel refuses. */
static bool make_block(struct guard_slot *slot, size_t size, bool at_end) {
	place(slot, size, at_end);
	if (!cap_take(slot->pages_size)) return false;
	if (!os_commit((void *)slot->pages, slot->pages_size)) {
		cap_give(slot->pages_size);
		return false;
	}
	fill_padding(slot);
	stack_take(&slot->allocated, 0);
	slot->freed.thread = 0;
	return true;
}

static _Atomic bool sizes_are_rounded;

void guard_round_sizes(void) { atomic_store_explicit(&sizes_are_rounded, true, memory_order_relaxed); }

static size_t rounded(size_t size) {
	return size <= SMALL_MAX ? size_classes[class_of_size(size)].size : ALIGN_UP(size, SLICE_SIZE);
}

/* See guard_turn_take, which comes here. */
static void *guard_alloc(struct guard_turn *turn, size_t size) {
	if (atomic_load_explicit(&sizes_are_rounded, memory_order_relaxed)) size = rounded(size);
	if (size > GUARD_MAX || turn->busy) return NULL;
	/* To catch faults takes calls that a sandbox kills for. */
	if (sandbox_is_on() && atomic_load_explicit(&pool.base, memory_order_relaxed) == 0) return NULL;
	guard_turn_begin(turn);
	/* A child of a fork, also of a process with one thread, has to know that the actions kept for its
	 * parent are its own now (action.c). */
	if (atomic_load_explicit(&pool.base, memory_order_relaxed) == 0)
		cache_hook_call(&cache_hooks.second_cache);
	gate_enter();
	struct guard_slot *slot = take_slot();
	const bool made = slot != NULL && make_block(slot, size, random_next(&turn->random) >> 63);
	guard_turn_end(turn);
	if (slot == NULL) {
		gate_leave();
		return NULL;
	}
	guard_lock();
	if (made) {
		slot->state = SLOT_LIVE;
		pool.stats.blocks++;
		pool.stats.bytes += size;
		pool.stats.pages += slot->pages_size;
		pool.stats.total++;
	} else {
		return_slot(slot);
	}
	guard_unlock();
	gate_leave();
	if (made) PROBE(guard_made, slot->block, size);
	return made ? (void *)slot->block : NULL;
}

/* Are there stacks at all? To find out, tables are read that a process without guarded blocks never needs.
 * The answer is for good. While a fork is under way it might be wrong (fde_header_by_list), so the next one
 * asks. */
static void *guard_first(struct guard_turn *turn, size_t size) {
	if (!gate_try_enter()) return NULL;
	const bool possible = stack_is_possible();
	gate_leave();
	atomic_store(&cache_hooks.guard, possible ? guard_alloc : NULL);
	return possible ? guard_alloc(turn, size) : NULL;
}

void guard_start(void) { atomic_store(&cache_hooks.guard, guard_first); }

/* The first byte of [from, to) that was overwritten; 0 when none was. */
static uintptr_t overwritten(uintptr_t from, uintptr_t to) {
	for (; from < to; from++)
		if (*(const unsigned char *)from != PADDING) return from;
	return 0;
}

static void check_padding(const struct guard_slot *slot) {
	const uintptr_t end = slot->block + slot->size;
	uintptr_t at = overwritten(end, slot->pages + slot->pages_size);
	if (at != 0) fault_end("overflow, found when the block was freed", at, slot);
	at = overwritten(slot->pages, slot->block);
	if (at != 0) fault_end("underflow, found when the block was freed", at, slot);
}

/* Marks the block as being freed: from now on nobody else may. Ends the program when it is none. */
static struct guard_slot *take_block(uintptr_t block) {
	const size_t number = min_size((block - pool.base) / (2 * SLOT_SIZE), SLOTS - 1);
	struct guard_slot *slot = &pool.slots[number], nearest;
	guard_lock();
	const uint32_t state = slot->state;
	const bool same = slot->block == block;
	if (same && state == SLOT_LIVE) slot->state = SLOT_FREEING;
	guard_unlock();
	if (same && state == SLOT_LIVE) return slot;
	const bool known = guard_find(block, &nearest);
	fault_end(same && known ? "double free" : "free of what is not the start of a block", block, &nearest);
}

bool guard_free(void *block) {
	if (!guard_owns(block)) return false;
	gate_enter();
	struct guard_slot *slot = take_block((uintptr_t)block);
	check_padding(slot);
	stack_take(&slot->freed, 0);
	/* A slot that the kernel does not close or does not clear is not used again: what touches its block
	 * would go unnoticed into the next one, which is to read as zero. */
	const bool closed = os_decommit((void *)slot->pages, slot->pages_size) == DECOMMITTED;
	os_name((void *)slot->pages, slot->pages_size, NAME_GUARDED);
	PROBE(guard_freed, block, slot->size);
	guard_lock();
	slot->state = SLOT_FREED;
	pool.stats.blocks--;
	pool.stats.bytes -= slot->size;
	pool.stats.pages -= slot->pages_size;
	cap_give(slot->pages_size);
	if (closed) return_slot(slot);
	guard_unlock();
	gate_leave();
	return true;
}

size_t guard_size(const void *block) {
	if (!guard_owns(block)) return GUARD_NONE;
	struct guard_slot slot;
	const bool known = guard_find((uintptr_t)block, &slot);
	const bool same = known && slot.block == (uintptr_t)block;
	if (same && slot.state == SLOT_LIVE) return slot.size;
	fault_end(same ? "realloc or malloc_usable_size of a freed block"
	               : "realloc or malloc_usable_size of what is not the start of a block",
	          (uintptr_t)block, &slot);
}

/* ---- questions ---- */

/* How far the address is from the block; SIZE_MAX when the slot has had none. */
static size_t distance(const struct guard_slot *slot, uintptr_t address) {
	if (slot->state == SLOT_UNUSED) return SIZE_MAX;
	if (address < slot->block) return slot->block - address;
	return address < slot->block + slot->size ? 0 : address - (slot->block + slot->size);
}

bool guard_find(uintptr_t address, struct guard_slot *out) {
	if (!guard_owns((void *)address)) return false;
	/* In a gap, it is the block before or the one behind: the nearer one. */
	const size_t position = (address - pool.base) / SLOT_SIZE;
	const size_t before = position > 0 ? (position - 1) / 2 : 0, behind = min_size(position / 2, SLOTS - 1);
	guard_lock();
	const struct guard_slot *slot = &pool.slots[before], *other = &pool.slots[behind];
	if (distance(other, address) < distance(slot, address)) slot = other;
	*out = *slot;
	guard_unlock();
	return true;
}

size_t guard_blocks(struct mapping *out, size_t room) {
	size_t count = 0;
	guard_lock();
	for (size_t i = 0; pool.slots != NULL && i < SLOTS; i++) {
		const struct guard_slot *slot = &pool.slots[i];
		if (slot->state != SLOT_LIVE) continue;
		if (count < room) out[count] = (struct mapping){ (char *)slot->block, slot->size };
		count++;
	}
	guard_unlock();
	return count;
}

void guard_stats_get(struct guard_stats *out) {
	guard_lock();
	*out = pool.stats;
	guard_unlock();
}
