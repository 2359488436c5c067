#include "arena/huge_blocks.h"

#include <stdatomic.h>

#include "arena/layout.h"

struct huge_blocks huge = { .table.record = sizeof(struct huge_more) };

/* All huge blocks that there ever were lie in [lowest, highest). Changed under the lock. */
static _Atomic uintptr_t lowest = UINTPTR_MAX, highest;

/* huge_alter could not get the lock: it may have been about any block. */
static _Atomic bool alter_all;

static void widen(uintptr_t start, uintptr_t end) {
	if (start < atomic_load_explicit(&lowest, memory_order_relaxed))
		atomic_store_explicit(&lowest, start, memory_order_relaxed);
	if (end > atomic_load_explicit(&highest, memory_order_relaxed))
		atomic_store_explicit(&highest, end, memory_order_relaxed);
}

bool huge_blocks_grow(void) {
	if (!address_table_grow(&huge.table, huge.resizing + 1)) return false;
	arenal_layout.huge_table = (uintptr_t)huge.table.entries;
	arenal_layout.huge_capacity = huge.table.capacity;
	return true;
}

static struct huge_more *more_of(const struct address_entry *e) {
	return (struct huge_more *)huge.table.records + address_index(&huge.table, e);
}

void huge_block_put(void *block, size_t size, struct huge_more more) {
	if (more.origin == 0) more.origin = ++huge.origins;
	*more_of(address_table_add(&huge.table, (uintptr_t)block, size)) = more;
	widen((uintptr_t)block, (uintptr_t)block + size);
	huge.bytes += size;
	wave_note(&huge.wave, huge.bytes);
}

static void alter_each(void) {
	for (uint32_t i = 0; i < huge.table.capacity; i++) more_of(&huge.table.entries[i])->altered = true;
}

size_t huge_block_take_out(const void *block, struct huge_more *more) {
	if (unlikely(atomic_load_explicit(&alter_all, memory_order_relaxed)))
		if (atomic_exchange(&alter_all, false)) alter_each();
	struct address_entry *e = address_table_find(&huge.table, (uintptr_t)block);
	if (e == NULL) return 0;
	const size_t size = e->size;
	*more = *more_of(e);
	address_table_remove(&huge.table, e);
	huge.bytes -= size;
	return size;
}

size_t huge_size(const void *block) {
	lock_take(&huge.lock, RANK_HUGE);
	const struct address_entry *e = address_table_find(&huge.table, (uintptr_t)block);
	const size_t size = e != NULL ? e->size : 0;
	lock_drop(&huge.lock, RANK_HUGE);
	return size;
}

void huge_alter(const void *address, size_t size, size_t least) {
	const uintptr_t start = (uintptr_t)address, end = start + size < start ? UINTPTR_MAX : start + size;
	if (start >= atomic_load_explicit(&highest, memory_order_relaxed) ||
	    end <= atomic_load_explicit(&lowest, memory_order_relaxed))
		return;
	struct address_walk walk = { 0 };
	for (bool more = true; more;) {
		if (!lock_try(&huge.lock, RANK_HUGE)) {
			atomic_store_explicit(&alter_all, true, memory_order_relaxed);
			return;
		}
		more = address_walk_next(&walk, &huge.table);
		for (uint32_t i = walk.from; i < walk.to; i++) {
			const struct address_entry *e = &huge.table.entries[i];
			if (address_is_used(e) && e->address < end && start < e->address + e->size && e->size >= least)
				more_of(e)->altered = true;
		}
		lock_drop(&huge.lock, RANK_HUGE);
	}
}

void huge_stats_get(struct huge_stats *out) {
	lock_take(&huge.lock, RANK_HUGE);
	*out = (struct huge_stats){ huge.bytes, huge.table.used, huge_cache_bytes() };
	lock_drop(&huge.lock, RANK_HUGE);
}

size_t huge_mappings(struct mapping *out, size_t room) {
	size_t kept = 0, count = 0;
	lock_take(&huge.lock, RANK_HUGE);
	for (size_t i = 0; i < HUGE_CACHE_ENTRIES; i++)
		kept = mapping_note(huge_cache_entries[i], out, room, kept);
	lock_drop(&huge.lock, RANK_HUGE);
	struct address_walk walk = { 0 };
	for (bool more = true; more;) {
		lock_take(&huge.lock, RANK_HUGE);
		more = address_walk_next(&walk, &huge.table);
		if (walk.from == 0) count = kept;
		for (uint32_t i = walk.from; i < walk.to; i++) {
			const struct address_entry *e = &huge.table.entries[i];
			const struct mapping m = { (char *)e->address, e->size };
			if (address_is_used(e)) count = mapping_note(m, out, room, count);
		}
		lock_drop(&huge.lock, RANK_HUGE);
	}
	return max_size(count, kept);
}

struct huge_place huge_find(const char *address) {
	struct huge_place found = { NULL, 0, false };
	lock_take(&huge.lock, RANK_HUGE);
	for (uint32_t i = 0; i < huge.table.capacity; i++) {
		const struct address_entry *e = &huge.table.entries[i];
		if (address_is_used(e) && (uintptr_t)address - e->address < e->size)
			found = (struct huge_place){ (char *)e->address, e->size, false };
	}
	for (size_t i = 0; i < HUGE_CACHE_ENTRIES; i++) {
		const struct mapping *m = &huge_cache_entries[i];
		if ((uintptr_t)address - (uintptr_t)m->address < m->size)
			found = (struct huge_place){ m->address, m->size, true };
	}
	lock_drop(&huge.lock, RANK_HUGE);
	return found;
}

void huge_lock(void) { lock_take(&huge.lock, RANK_HUGE); }
void huge_unlock(void) { lock_drop(&huge.lock, RANK_HUGE); }
