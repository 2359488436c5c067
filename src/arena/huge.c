#include "arena/huge.h"

#include <stdatomic.h>

#include "arena/heap.h"
#include "arena/huge_cache.h"
#include "arena/huge_stuck.h"
#include "arena/layout.h"
#include "arena/pressure.h"
#include "arena/report.h"
#include "arena/thp.h"
#include "arena/wave.h"
#include "base/conf.h"
#include "base/gate.h"
#include "base/lock.h"
#include "base/meta.h"
#include "base/probe.h"

/* Open addressing with linear probing; at most half of the entries are in use or deleted. */
#define CAPACITY_FIRST 64
#define ENTRY_FREE 0
#define ENTRY_DELETED 1

/* A block that grows is given so much more than asked for (address space, no memory), so that a program that appends
 * little by little makes few system calls. */
#define GROWTH_SHARE 8

/* What else is known of a block. */
struct more {
	uint32_t origin; /* see struct piece */
	bool altered;    /* huge_alter was called for it */
};

static struct {
	struct lock lock;
	uint32_t capacity;
	uint32_t filled;  /* entries that are used or deleted */
	uint32_t resizing; /* blocks taken out by huge_resize, inside of the gate: each will need an entry again, and must get it */
	struct huge_entry *entries;
	struct more *more; /* for each entry. Behind the entries, which tools read from outside */
	uint32_t origins;  /* given so far */
	size_t bytes, blocks;
	struct wave wave;
} huge;

/* All huge blocks that there ever were lie in [lowest, highest). Changed under the lock. */
static _Atomic uintptr_t lowest = UINTPTR_MAX, highest;

/* huge_alter could not get the lock: it may have been about any block. */
static _Atomic bool alter_all;

static uint32_t first_slot(uintptr_t address, uint32_t capacity) {
	return (uint32_t)((uint64_t)(address >> 12) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (capacity - 1);
}

static struct huge_entry *find(uintptr_t address) {
	if (huge.capacity == 0 || address <= ENTRY_DELETED) return NULL;
	for (uint32_t i = first_slot(address, huge.capacity);; i = (i + 1) & (huge.capacity - 1)) {
		if (huge.entries[i].address == address) return &huge.entries[i];
		if (huge.entries[i].address == ENTRY_FREE) return NULL;
	}
}

static struct more *more_of(struct huge_entry *entries, uint32_t capacity) { return (struct more *)(entries + capacity); }

static size_t table_size(uint32_t capacity) { return capacity * (sizeof(struct huge_entry) + sizeof(struct more)); }

static void place(struct huge_entry *entries, uint32_t capacity, uintptr_t address, size_t size, struct more more) {
	uint32_t i = first_slot(address, capacity);
	while (entries[i].address > ENTRY_DELETED) i = (i + 1) & (capacity - 1);
	if (entries[i].address == ENTRY_FREE && entries == huge.entries) huge.filled++;
	entries[i].size = size;
	entries[i].address = address;
	more_of(entries, capacity)[i] = more;
}

static void widen(uintptr_t start, uintptr_t end) {
	if (start < atomic_load_explicit(&lowest, memory_order_relaxed)) atomic_store_explicit(&lowest, start, memory_order_relaxed);
	if (end > atomic_load_explicit(&highest, memory_order_relaxed)) atomic_store_explicit(&highest, end, memory_order_relaxed);
}

/* Room for one more entry. */
static bool make_room(void) {
	if (huge.filled + huge.resizing + 1 <= huge.capacity / 2) return true;
	uint32_t capacity = huge.capacity == 0 ? CAPACITY_FIRST : huge.capacity;
	while (capacity < 4 * (huge.blocks + huge.resizing + 1)) capacity *= 2;
	struct huge_entry *entries = meta_alloc(table_size(capacity));
	if (entries == NULL) return false;
	uint32_t filled = 0;
	for (uint32_t i = 0; i < huge.capacity; i++) {
		if (huge.entries[i].address <= ENTRY_DELETED) continue;
		place(entries, capacity, huge.entries[i].address, huge.entries[i].size, huge.more[i]);
		filled++;
	}
	if (huge.entries != NULL) meta_free(huge.entries, table_size(huge.capacity));
	huge.entries = entries;
	huge.more = more_of(entries, capacity);
	huge.capacity = capacity;
	huge.filled = filled;
	arenal_layout.huge_table = (uintptr_t)entries;
	arenal_layout.huge_capacity = capacity;
	return true;
}

static void add_block(void *block, size_t size, struct more more) {
	place(huge.entries, huge.capacity, (uintptr_t)block, size, more);
	widen((uintptr_t)block, (uintptr_t)block + size);
	huge.bytes += size;
	huge.blocks++;
	wave_note(&huge.wave, huge.bytes);
}

/* Origin 0: a new one. */
static bool add(void *block, size_t size, uint32_t origin) {
	lock_take(&huge.lock, RANK_HUGE);
	bool done = make_room();
	if (done) add_block(block, size, (struct more){ origin != 0 ? origin : ++huge.origins, false });
	lock_drop(&huge.lock, RANK_HUGE);
	return done;
}

/* Takes the block out of the table and returns its size, 0 when it is not there. Under the lock. */
static size_t take_out(const void *block, bool resizing, struct more *more) {
	struct huge_entry *e = find((uintptr_t)block);
	if (unlikely(atomic_load_explicit(&alter_all, memory_order_relaxed)) && atomic_exchange(&alter_all, false))
		for (uint32_t i = 0; i < huge.capacity; i++) huge.more[i].altered = true;
	if (e == NULL) return 0;
	const size_t size = e->size;
	*more = huge.more[e - huge.entries];
	e->address = ENTRY_DELETED;
	huge.bytes -= size;
	huge.blocks--;
	huge.resizing += resizing;
	return size;
}

static size_t take_out_to_resize(const void *block, struct more *more) {
	lock_take(&huge.lock, RANK_HUGE);
	const size_t size = take_out(block, true, more);
	lock_drop(&huge.lock, RANK_HUGE);
	return size;
}

/* Origin 0: a new one. */
static void put_back(void *block, size_t size, struct more more) {
	lock_take(&huge.lock, RANK_HUGE);
	huge.resizing--;
	if (more.origin == 0) more.origin = ++huge.origins;
	add_block(block, size, more);
	lock_drop(&huge.lock, RANK_HUGE);
}

/* A share of what is in use, or what the tunable says. Three quarters: large buffers come and go, and each page
 * fault that they are spared is worth more than the page (see src/README.md). */
static size_t cache_limit(uint64_t now) {
	if (conf.dirty_max >= 0) return pressure_bound((size_t)conf.dirty_max);
	if (conf.decay == 0) return 0;
	return pressure_bound(max_size(max_size(huge.bytes / 4 * 3, wave_room(&huge.wave, huge.bytes, now)), DIRTY_MIN));
}

static struct piece take_cached(size_t size) {
	lock_take(&huge.lock, RANK_HUGE);
	struct piece p = huge_cache_take(size);
	lock_drop(&huge.lock, RANK_HUGE);
	return p;
}

static size_t take_cached_behind(struct piece block, size_t least, size_t most) {
	lock_take(&huge.lock, RANK_HUGE);
	size_t size = huge_cache_take_behind(block, least, most);
	lock_drop(&huge.lock, RANK_HUGE);
	return size;
}

/* Apart, for the compiler takes a probe for a long piece of code, and would not inline unmap_all, which mostly has nothing to do. */
COLD static void unmap(struct mapping m, bool locked) {
	PROBE(huge_unmapped, m.address, m.size);
	if (likely(os_try_unmap(m.address, m.size))) return;
	const bool clean = os_purge(m.address, m.size, false) == PURGED;
	if (!locked) lock_take(&huge.lock, RANK_HUGE);
	huge_stuck_add(m, clean);
	if (!locked) lock_drop(&huge.lock, RANK_HUGE);
}

static size_t unmap_all(const struct mapping *mappings, size_t count, bool locked) {
	size_t bytes = 0;
	for (size_t i = 0; i < count; i++) {
		unmap(mappings[i], locked);
		bytes += mappings[i].size;
	}
	return bytes;
}

/* Tries again to unmap what could not be unmapped. One at a time: a fork waits for no more. */
static void unmap_stuck(void) {
	lock_take(&huge.lock, RANK_HUGE);
	size_t left = huge_stuck_count();
	lock_drop(&huge.lock, RANK_HUGE);
	while (left-- > 0 && gate_try_enter()) {
		bool clean;
		lock_take(&huge.lock, RANK_HUGE);
		const struct mapping m = huge_stuck_take_last(left, &clean);
		lock_drop(&huge.lock, RANK_HUGE);
		const bool stays = m.size > 0 && !os_try_unmap(m.address, m.size);
		if (stays) {
			lock_take(&huge.lock, RANK_HUGE);
			huge_stuck_add(m, clean);
			lock_drop(&huge.lock, RANK_HUGE);
		}
		gate_leave();
		if (stays) return; /* so will the others, most likely */
	}
}

/* Drops the lock, and unmaps what has left the cache: no fork comes in between. One that is under way waits for the lock: then
 * this is done first. */
static size_t drop_and_unmap(const struct mapping *victims, size_t count) {
	const bool inside = count > 0 && gate_try_enter();
	size_t bytes = inside ? 0 : unmap_all(victims, count, true);
	lock_drop(&huge.lock, RANK_HUGE);
	if (inside) {
		bytes = unmap_all(victims, count, false);
		gate_leave();
	}
	if (bytes > 0) heap_count_purged(bytes);
	return bytes;
}

/* The same for one that the program may have changed: nobody else can have it, and where it cannot be unmapped, it is lost. */
static size_t drop_and_forget(struct mapping m) {
	const bool inside = gate_try_enter();
	PROBE(huge_unmapped, m.address, m.size);
	if (!inside) os_unmap(m.address, m.size);
	lock_drop(&huge.lock, RANK_HUGE);
	if (inside) {
		os_unmap(m.address, m.size);
		gate_leave();
	}
	heap_count_purged(m.size);
	return m.size;
}

size_t huge_purge(void) {
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	lock_take(&huge.lock, RANK_HUGE);
	size_t bytes = huge_cache_bytes();
	size_t count = huge_cache_put((struct piece){ NULL, 0, 0 }, 0, victims);
	drop_and_unmap(victims, count);
	unmap_stuck();
	return bytes;
}

/* Half of what was kept for all of the last interval leaves the cache. Under the lock. Returns how many victims there are. */
static size_t decay(struct mapping *victims, uint64_t now) {
	if (!wave_next(&huge.wave, huge.bytes, now)) return 0;
	pressure_tick(now);
	size_t unused = huge_cache_least();
	if (unused == 0 || conf.decay < 0) return 0;
	size_t left = huge_cache_bytes() - decay_part(unused);
	return huge_cache_put((struct piece){ NULL, 0, 0 }, ALIGN_DOWN(left, os_page_size), victims);
}

/* Puts the mapping into the cache, drops the lock, and unmaps what has no place there any more. */
static void keep(struct piece p, uint64_t now) {
	struct mapping victims[2 * (HUGE_CACHE_ENTRIES + 1)];
	size_t count = decay(victims, now);
	count += huge_cache_put(p, cache_limit(now), victims + count);
	allowance_charge(drop_and_unmap(victims, count));
}

size_t huge_decay(void) {
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	lock_take(&huge.lock, RANK_HUGE);
	size_t count = decay(victims, os_milliseconds()), left = huge_cache_bytes();
	drop_and_unmap(victims, count);
	unmap_stuck();
	return left;
}

COLD static void count_fresh(size_t bytes) {
	pressure_count(bytes);
	pressure_poke();
}

/* From the cache: *size becomes what the mapping really has, *origin 0 if mremap moved it. The content of the first *stale bytes is
 * whatever it was. */
static void *map_cached(size_t *size, uint32_t *origin, size_t *stale) {
	const struct piece p = take_cached(*size);
	*stale = p.size;
	*origin = p.origin;
	if (p.address == NULL) return NULL;
	if (p.size < *size) {
		void *grown = os_remap(p.address, p.size, *size, true);
		/* Refused, as where the program changed a part of it behind our back. Keeping it for smaller blocks costs more memory than
		 * the faults are worth. */
		if (grown == NULL) {
			PROBE(huge_unmapped, p.address, p.size);
			os_unmap(p.address, p.size);
			heap_count_purged(p.size);
		} else {
			count_fresh(*size - p.size);
		}
		if (grown != p.address) *origin = 0;
		return grown;
	}
	*size = p.size;
	return p.address;
}

static void *map_stuck(size_t size, size_t align, size_t *stale) {
	bool clean = false;
	lock_take(&huge.lock, RANK_HUGE);
	void *block = huge_stuck_take(size, align, &clean);
	lock_drop(&huge.lock, RANK_HUGE);
	*stale = clean ? 0 : size;
	return block;
}

static void *map_fresh(size_t size, size_t align, size_t *stale) {
	*stale = 0;
	void *block = os_map(size, align);
	/* The limit that was hit may be one that the cache counts against. */
	if (block == NULL && huge_purge() > 0) block = os_map(size, align);
	if (block == NULL) block = map_stuck(size, align, stale);
	if (block == NULL) return NULL;
	thp_decline_block(block, size);
	PROBE(huge_mapped, block, size);
	count_fresh(size);
	return block;
}

void *huge_alloc(size_t size, size_t align, size_t *stale) {
	if (size > PTRDIFF_MAX - os_page_size) return NULL;
	size = ALIGN_UP(size, os_page_size);
	uint32_t origin = 0;
	void *block = align <= os_page_size ? map_cached(&size, &origin, stale) : NULL;
	if (block == NULL) {
		origin = 0;
		block = map_fresh(size, max_size(align, os_page_size), stale);
	}
	if (block == NULL) return NULL;
	if (add(block, size, origin)) return block;
	os_unmap(block, size);
	return NULL;
}

bool huge_free(void *block) {
	const uint64_t now = os_milliseconds();
	struct more more;
	lock_take(&huge.lock, RANK_HUGE);
	const size_t size = take_out(block, false, &more);
	if (size == 0)
		lock_drop(&huge.lock, RANK_HUGE);
	else if (unlikely(more.altered))
		allowance_charge(drop_and_forget((struct mapping){ block, size }));
	else
		keep((struct piece){ block, size, more.origin }, now);
	return size > 0;
}

size_t huge_size(const void *block) {
	lock_take(&huge.lock, RANK_HUGE);
	struct huge_entry *e = find((uintptr_t)block);
	size_t size = e != NULL ? e->size : 0;
	lock_drop(&huge.lock, RANK_HUGE);
	return size;
}

void *huge_resize(void *block, size_t size) {
	if (size > PTRDIFF_MAX - os_page_size) return NULL;
	size = ALIGN_UP(size, os_page_size);
	/* Out of the table while it moves: its old address may be somebody else's before we know its new one. */
	struct more more;
	gate_enter();
	const size_t old = take_out_to_resize(block, &more);
	if (unlikely(old == 0)) {
		gate_leave();
		report_pointer("realloc", block, NULL);
	}
	size_t roomy = ALIGN_UP(size + size / GROWTH_SHARE, os_page_size);
	const bool may_join = size > old && roomy < PTRDIFF_MAX && !more.altered;
	size_t behind = may_join ? take_cached_behind((struct piece){ block, old, more.origin }, size - old, roomy - old) : 0;
	void *moved = NULL;
	if (behind > 0) {
		moved = block;
		size = old + behind;
	} else if (size > old && roomy < PTRDIFF_MAX) {
		moved = os_remap(block, old, roomy, true);
		if (moved != NULL) size = roomy;
	}
	if (moved == NULL) moved = os_remap(block, old, size, true);
	if (moved != NULL && moved != block) more.origin = 0;
	put_back(moved != NULL ? moved : block, moved != NULL ? size : old, more);
	gate_leave();
	if (moved != NULL) PROBE(huge_resized, block, old, moved, size);
	if (moved != NULL && size < old) heap_count_purged(old - size);
	if (moved != NULL && size > old + behind) count_fresh(size - old - behind);
	return moved;
}

/* Entries that are looked at between two holds of the lock. */
#define WALK 1024

static void alter_some(const struct huge_entry *entries, uint32_t from, uint32_t to, uintptr_t start, uintptr_t end, size_t least) {
	for (uint32_t i = from; i < to; i++) {
		const uintptr_t block = entries[i].address;
		const size_t size = entries[i].size;
		if (block > ENTRY_DELETED && block < end && start < block + size && size >= least) huge.more[i].altered = true;
	}
}

void huge_alter(const void *address, size_t size, size_t least) {
	const uintptr_t start = (uintptr_t)address, end = start + size < start ? UINTPTR_MAX : start + size;
	if (start >= atomic_load_explicit(&highest, memory_order_relaxed) || end <= atomic_load_explicit(&lowest, memory_order_relaxed))
		return;
	/* The table may be another one each time: then all over again. */
	const struct huge_entry *entries = NULL;
	for (uint32_t from = 0, capacity = 1; from < capacity; from += WALK) {
		if (!lock_try(&huge.lock, RANK_HUGE)) {
			atomic_store_explicit(&alter_all, true, memory_order_relaxed);
			return;
		}
		if (entries != huge.entries) from = 0;
		entries = huge.entries;
		capacity = huge.capacity;
		alter_some(entries, from, (uint32_t)min_size(from + WALK, capacity), start, end, least);
		lock_drop(&huge.lock, RANK_HUGE);
	}
}

void huge_stats_get(struct huge_stats *out) {
	lock_take(&huge.lock, RANK_HUGE);
	*out = (struct huge_stats){ huge.bytes, huge.blocks, huge_cache_bytes() };
	lock_drop(&huge.lock, RANK_HUGE);
}

/* Counts what there is, and writes it down as long as there is room. Returns how many there are then. */
static size_t note(struct mapping m, struct mapping *out, size_t room, size_t count) {
	if (m.size == 0) return count;
	if (count < room) out[count] = m;
	return count + 1;
}

size_t huge_mappings(struct mapping *out, size_t room) {
	size_t kept = 0, count = 0;
	lock_take(&huge.lock, RANK_HUGE);
	for (size_t i = 0; i < HUGE_CACHE_ENTRIES; i++) kept = note(huge_cache_entries[i], out, room, kept);
	lock_drop(&huge.lock, RANK_HUGE);
	const struct huge_entry *entries = NULL;
	for (uint32_t from = 0, capacity = 1; from < capacity; from += WALK) {
		lock_take(&huge.lock, RANK_HUGE);
		if (entries != huge.entries) from = 0;
		if (from == 0) count = kept;
		entries = huge.entries;
		capacity = huge.capacity;
		for (uint32_t i = from; i < min_size(from + WALK, capacity); i++)
			if (entries[i].address > ENTRY_DELETED)
				count = note((struct mapping){ (char *)entries[i].address, entries[i].size }, out, room, count);
		lock_drop(&huge.lock, RANK_HUGE);
	}
	return max_size(count, kept);
}

struct huge_place huge_find(const char *address) {
	struct huge_place found = { NULL, 0, false };
	lock_take(&huge.lock, RANK_HUGE);
	for (uint32_t i = 0; i < huge.capacity; i++) {
		const struct huge_entry *e = &huge.entries[i];
		if (e->address > ENTRY_DELETED && (uintptr_t)address - e->address < e->size)
			found = (struct huge_place){ (char *)e->address, e->size, false };
	}
	for (size_t i = 0; i < HUGE_CACHE_ENTRIES; i++) {
		const struct mapping *m = &huge_cache_entries[i];
		if ((uintptr_t)address - (uintptr_t)m->address < m->size) found = (struct huge_place){ m->address, m->size, true };
	}
	lock_drop(&huge.lock, RANK_HUGE);
	return found;
}

void huge_lock(void) { lock_take(&huge.lock, RANK_HUGE); }
void huge_unlock(void) { lock_drop(&huge.lock, RANK_HUGE); }
