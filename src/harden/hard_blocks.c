#include "harden/hard_blocks.h"

#include "arena/huge.h"
#include "arena/layout.h"
#include "arena/pressure.h"
#include "base/random.h"
#include "harden/canary.h"
#include "harden/hard_large.h"
#include "harden/hard_waiting.h"

struct hard_blocks hard_blocks = { .table.record = sizeof(struct hard_more) };

/* large_hard_alter could not get the lock: it may have been about any block. */
static _Atomic bool alter_all;

void harden_lock(void) { lock_take(&hard_blocks.lock, RANK_HUGE); }
void harden_unlock(void) { lock_drop(&hard_blocks.lock, RANK_HUGE); }

/* ---- one block ---- */

void hard_blocks_tell_pressure(void) {
	atomic_store_explicit(&pressure.above, hard_blocks.bytes + waiting_kept_bytes, memory_order_relaxed);
}

static struct address_entry *find(const void *block) {
	return address_table_find(&hard_blocks.table, (uintptr_t)block);
}

static struct hard_more *more_of(const struct address_entry *e) {
	return (struct hard_more *)hard_blocks.table.records + address_index(&hard_blocks.table, e);
}

static struct hard_block copy_of(const struct address_entry *e) {
	return (struct hard_block){ (char *)e->address, e->size, *more_of(e) };
}

/* Room for one entry more. */
static bool make_room(void) {
	if (address_table_has_room(&hard_blocks.table, 1)) return true;
	if (!address_table_grow(&hard_blocks.table, 1)) return false;
	arenal_layout.hard_table = (uintptr_t)hard_blocks.table.entries;
	arenal_layout.hard_capacity = hard_blocks.table.capacity;
	return true;
}

bool hard_block_add(const struct hard_block *b) {
	harden_lock();
	const bool done = make_room();
	if (done) {
		*more_of(address_table_add(&hard_blocks.table, (uintptr_t)b->address, b->size)) = b->more;
		hard_blocks.guarded += b->more.guard > 0;
		hard_blocks.bytes += hard_pages(b->size);
		hard_blocks_tell_pressure();
		wave_note(&hard_blocks.wave, hard_blocks.bytes); /* a process with such blocks is not small */
	}
	harden_unlock();
	return done;
}

static void alter_each(void) {
	for (uint32_t i = 0; i < hard_blocks.table.capacity; i++)
		more_of(&hard_blocks.table.entries[i])->altered = true;
}

bool hard_block_take_out(const void *block, struct hard_block *out, bool held, bool *freed) {
	harden_lock();
	if (unlikely(atomic_load_explicit(&alter_all, memory_order_relaxed)))
		if (atomic_exchange(&alter_all, false)) alter_each();
	struct address_entry *e = find(block);
	*freed = e != NULL && more_of(e)->held && !held;
	if (*freed) e = NULL;
	if (e != NULL) {
		*out = copy_of(e);
		address_table_remove(&hard_blocks.table, e);
		hard_blocks.guarded -= out->more.guard > 0;
		hard_blocks.bytes -= hard_pages(out->size);
		hard_blocks_tell_pressure();
	} else {
		*freed |= waiting_has(block);
	}
	harden_unlock();
	return e != NULL;
}

bool hard_block_set_held(const void *block, bool held, struct hard_block *out, bool *freed) {
	harden_lock();
	const struct address_entry *e = find(block);
	const bool mine = e != NULL && more_of(e)->held != held;
	*freed = e != NULL || waiting_has(block);
	if (mine) {
		more_of(e)->held = held;
		*out = copy_of(e);
	}
	harden_unlock();
	return mine;
}

void hard_block_set_size(const void *block, size_t size) {
	harden_lock();
	struct address_entry *e = find(block);
	e->size = size;
	more_of(e)->held = false;
	harden_unlock();
}

bool hard_block_look_up(const void *block, struct hard_block *out) {
	harden_lock();
	const struct address_entry *e = find(block);
	if (e != NULL) *out = copy_of(e);
	harden_unlock();
	return e != NULL;
}

/* ---- keys and canaries ---- */

void large_hard_draw_key(void) {
	struct random random = { os_random() };
	harden_lock();
	for (size_t i = 0; i < sizeof hard_blocks.key / sizeof *hard_blocks.key; i++)
		hard_blocks.key[i] = random_next(&random);
	harden_unlock();
}

uint64_t hard_block_draw_canary(const char *address) {
	harden_lock();
	const uint64_t nonce = ++hard_blocks.total << ADDRESS_BITS;
	const uint64_t canary = canary_of(hard_blocks.key, (uintptr_t)address | nonce);
	harden_unlock();
	return canary;
}

/* ---- all of them ---- */

void large_hard_start(void) {
	large_hard_draw_key();
	arenal_layout.hard_stride = sizeof(struct address_entry);
	arenal_layout.hard_kept_table = (uintptr_t)waiting_places;
	arenal_layout.hard_kept_capacity = WAITING_PLACES;
	arenal_layout.hard_kept_stride = sizeof(struct waiting);
}
static_assert(offsetof(struct address_entry, address) == 0 && offsetof(struct address_entry, size) == 8 &&
                  offsetof(struct waiting, block) == 0 && offsetof(struct waiting, kept) == 8,
              "the records of layout version 3");

void large_hard_alter(const void *address, size_t size) {
	const uintptr_t start = (uintptr_t)address, end = start + size < start ? UINTPTR_MAX : start + size;
	const bool locked = lock_try(&hard_blocks.lock, RANK_HUGE);
	if (!locked) atomic_store_explicit(&alter_all, true, memory_order_relaxed);
	for (uint32_t i = 0; locked && i < hard_blocks.table.capacity; i++) {
		const struct address_entry *e = &hard_blocks.table.entries[i];
		if (address_is_used(e) && e->address < end && start < e->address + hard_pages(e->size))
			more_of(e)->altered = true;
	}
	if (locked) harden_unlock();
}

void harden_large_stats(size_t *bytes, size_t *blocks, size_t *kept_bytes) {
	harden_lock();
	*bytes = hard_blocks.bytes;
	*blocks = hard_blocks.table.used;
	*kept_bytes = waiting_kept_bytes;
	harden_unlock();
}

/* A block, or one that waits, with its guards. */
static struct mapping whole(char *block, size_t pages, size_t guard) {
	return (struct mapping){ block - guard, guard + pages + (guard > 0 ? os_page_size : 0) };
}

size_t harden_large_mappings(struct mapping *out, size_t room) {
	size_t kept = 0, count = 0;
	harden_lock();
	for (uint32_t i = 0; i < WAITING_PLACES; i++) {
		const struct waiting w = waiting_places[i];
		if (w.kept > 0) kept = mapping_note(whole(w.block, w.pages, w.guard), out, room, kept);
	}
	harden_unlock();
	struct address_walk walk = { 0 };
	for (bool more = true; more;) {
		harden_lock();
		more = address_walk_next(&walk, &hard_blocks.table);
		if (walk.from == 0) count = kept;
		for (uint32_t i = walk.from; i < walk.to; i++) {
			const struct address_entry *e = &hard_blocks.table.entries[i];
			if (!address_is_used(e)) continue;
			const struct hard_block b = copy_of(e);
			const struct mapping m = whole(b.address, hard_pages(b.size), hard_guard(&b));
			count = mapping_note(m, out, room, count);
		}
		harden_unlock();
	}
	return max_size(count, kept);
}
