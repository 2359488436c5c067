#include "arena/huge.h"

#include "arena/heap.h"
#include "arena/huge_cache.h"
#include "arena/layout.h"
#include "arena/pressure.h"
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

static struct {
	struct lock lock;
	uint32_t capacity;
	uint32_t filled;  /* entries that are used or deleted */
	uint32_t resizing; /* blocks taken out by huge_resize, inside of the gate: each will need an entry again, and must get it */
	struct huge_entry *entries;
	size_t bytes, blocks;
	struct wave wave;
} huge;

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

static void place(struct huge_entry *entries, uint32_t capacity, uintptr_t address, size_t size) {
	uint32_t i = first_slot(address, capacity);
	while (entries[i].address > ENTRY_DELETED) i = (i + 1) & (capacity - 1);
	if (entries[i].address == ENTRY_FREE && entries == huge.entries) huge.filled++;
	entries[i].size = size;
	entries[i].address = address;
}

/* Room for one more entry. */
static bool make_room(void) {
	if (huge.filled + huge.resizing + 1 <= huge.capacity / 2) return true;
	uint32_t capacity = huge.capacity == 0 ? CAPACITY_FIRST : huge.capacity;
	while (capacity < 4 * (huge.blocks + huge.resizing + 1)) capacity *= 2;
	struct huge_entry *entries = meta_alloc(capacity * sizeof *entries);
	if (entries == NULL) return false;
	uint32_t filled = 0;
	for (uint32_t i = 0; i < huge.capacity; i++) {
		if (huge.entries[i].address <= ENTRY_DELETED) continue;
		place(entries, capacity, huge.entries[i].address, huge.entries[i].size);
		filled++;
	}
	if (huge.entries != NULL) meta_free(huge.entries, huge.capacity * sizeof *entries);
	huge.entries = entries;
	huge.capacity = capacity;
	huge.filled = filled;
	arenal_layout.huge_table = (uintptr_t)entries;
	arenal_layout.huge_capacity = capacity;
	return true;
}

static void count_block(size_t size) {
	huge.bytes += size;
	huge.blocks++;
	wave_note(&huge.wave, huge.bytes);
}

static bool add(void *block, size_t size) {
	lock_take(&huge.lock, RANK_HUGE);
	bool done = make_room();
	if (done) {
		place(huge.entries, huge.capacity, (uintptr_t)block, size);
		count_block(size);
	}
	lock_drop(&huge.lock, RANK_HUGE);
	return done;
}

/* Takes the block out of the table and returns its size, 0 when it is not there. Under the lock. */
static size_t take_out(const void *block, bool resizing) {
	struct huge_entry *e = find((uintptr_t)block);
	if (e == NULL) return 0;
	const size_t size = e->size;
	e->address = ENTRY_DELETED;
	huge.bytes -= size;
	huge.blocks--;
	huge.resizing += resizing;
	return size;
}

static size_t take_out_to_resize(const void *block) {
	lock_take(&huge.lock, RANK_HUGE);
	const size_t size = take_out(block, true);
	lock_drop(&huge.lock, RANK_HUGE);
	return size;
}

static void put_back(void *block, size_t size) {
	lock_take(&huge.lock, RANK_HUGE);
	huge.resizing--;
	place(huge.entries, huge.capacity, (uintptr_t)block, size);
	count_block(size);
	lock_drop(&huge.lock, RANK_HUGE);
}

/* A share of what is in use, or what the tunable says. Three quarters: large buffers come and go, and each page
 * fault that they are spared is worth more than the page (see src/README.md). */
static size_t cache_limit(uint64_t now) {
	if (conf.dirty_max >= 0) return pressure_bound((size_t)conf.dirty_max);
	if (conf.decay == 0) return 0;
	return pressure_bound(max_size(max_size(huge.bytes / 4 * 3, wave_room(&huge.wave, huge.bytes, now)), DIRTY_MIN));
}

static struct mapping take_cached(size_t size) {
	lock_take(&huge.lock, RANK_HUGE);
	struct mapping m = huge_cache_take(size);
	lock_drop(&huge.lock, RANK_HUGE);
	return m;
}

static size_t take_cached_at(const char *address, size_t least, size_t most) {
	lock_take(&huge.lock, RANK_HUGE);
	size_t size = huge_cache_take_at(address, least, most);
	lock_drop(&huge.lock, RANK_HUGE);
	return size;
}

/* Apart, for the compiler takes a probe for a long piece of code, and would not inline unmap_all, which mostly has nothing to do. */
COLD static void unmap(struct mapping m) {
	os_unmap(m.address, m.size);
	PROBE(huge_unmapped, m.address, m.size);
}

static size_t unmap_all(const struct mapping *mappings, size_t count) {
	size_t bytes = 0;
	for (size_t i = 0; i < count; i++) {
		unmap(mappings[i]);
		bytes += mappings[i].size;
	}
	return bytes;
}

/* Drops the lock, and unmaps what has left the cache: no fork comes in between. One that is under way waits for the lock: then
 * this is done first. */
static size_t drop_and_unmap(const struct mapping *victims, size_t count) {
	const bool inside = count > 0 && gate_try_enter();
	size_t bytes = inside ? 0 : unmap_all(victims, count);
	lock_drop(&huge.lock, RANK_HUGE);
	if (inside) {
		bytes = unmap_all(victims, count);
		gate_leave();
	}
	if (bytes > 0) heap_count_purged(bytes);
	return bytes;
}

size_t huge_purge(void) {
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	lock_take(&huge.lock, RANK_HUGE);
	size_t bytes = huge_cache_bytes();
	size_t count = huge_cache_put((struct mapping){ NULL, 0 }, 0, victims);
	drop_and_unmap(victims, count);
	return bytes;
}

/* Half of what was kept for all of the last interval leaves the cache. Under the lock. Returns how many victims there are. */
static size_t decay(struct mapping *victims, uint64_t now) {
	if (!wave_next(&huge.wave, huge.bytes, now)) return 0;
	pressure_tick(now);
	size_t unused = huge_cache_least();
	if (unused == 0 || conf.decay < 0) return 0;
	size_t left = huge_cache_bytes() - decay_part(unused);
	return huge_cache_put((struct mapping){ NULL, 0 }, ALIGN_DOWN(left, os_page_size), victims);
}

/* Puts the mapping into the cache, drops the lock, and unmaps what has no place there any more. */
static void keep(struct mapping m, uint64_t now) {
	struct mapping victims[2 * (HUGE_CACHE_ENTRIES + 1)];
	size_t count = decay(victims, now);
	count += huge_cache_put(m, cache_limit(now), victims + count);
	allowance_charge(drop_and_unmap(victims, count));
}

size_t huge_decay(void) {
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	lock_take(&huge.lock, RANK_HUGE);
	size_t count = decay(victims, os_milliseconds()), left = huge_cache_bytes();
	drop_and_unmap(victims, count);
	return left;
}

COLD static void count_fresh(size_t bytes) {
	pressure_count(bytes);
	pressure_poke();
}

/* From the cache: *size becomes what the mapping really has. Its content is whatever it was. */
static void *map_cached(size_t *size) {
	struct mapping m = take_cached(*size);
	if (m.address == NULL) return NULL;
	if (m.size < *size) {
		void *grown = os_remap(m.address, m.size, *size, true);
		/* Refused for what the kernel sees as several mappings. Keeping it for smaller blocks costs more memory than the
		 * faults are worth. */
		if (grown == NULL)
			heap_count_purged(unmap_all(&m, 1));
		else
			count_fresh(*size - m.size);
		return grown;
	}
	*size = m.size;
	return m.address;
}

static void *map_fresh(size_t size, size_t align) {
	void *block = os_map(size, align);
	/* The limit that was hit may be one that the cache counts against. */
	if (block == NULL && huge_purge() > 0) block = os_map(size, align);
	if (block == NULL) return NULL;
	PROBE(huge_mapped, block, size);
	count_fresh(size);
	return block;
}

void *huge_alloc(size_t size, size_t align, bool *zeroed) {
	if (size > PTRDIFF_MAX - os_page_size) return NULL;
	size = ALIGN_UP(size, os_page_size);
	void *block = align <= os_page_size ? map_cached(&size) : NULL;
	*zeroed = block == NULL;
	if (block == NULL) block = map_fresh(size, max_size(align, os_page_size));
	if (block == NULL) return NULL;
	if (add(block, size)) return block;
	os_unmap(block, size);
	return NULL;
}

bool huge_free(void *block) {
	const uint64_t now = os_milliseconds();
	lock_take(&huge.lock, RANK_HUGE);
	const size_t size = take_out(block, false);
	if (size > 0)
		keep((struct mapping){ block, size }, now);
	else
		lock_drop(&huge.lock, RANK_HUGE);
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
	gate_enter();
	const size_t old = take_out_to_resize(block);
	size_t roomy = ALIGN_UP(size + size / GROWTH_SHARE, os_page_size);
	size_t behind = size > old && roomy < PTRDIFF_MAX ? take_cached_at((char *)block + old, size - old, roomy - old) : 0;
	void *moved = NULL;
	if (behind > 0) {
		moved = block;
		size = old + behind;
	} else if (size > old && roomy < PTRDIFF_MAX) {
		moved = os_remap(block, old, roomy, true);
		if (moved != NULL) size = roomy;
	}
	if (moved == NULL) moved = os_remap(block, old, size, true);
	put_back(moved != NULL ? moved : block, moved != NULL ? size : old);
	gate_leave();
	if (moved != NULL) PROBE(huge_resized, block, old, moved, size);
	if (moved != NULL && size < old) heap_count_purged(old - size);
	if (moved != NULL && size > old + behind) count_fresh(size - old - behind);
	return moved;
}

void huge_stats_get(struct huge_stats *out) {
	lock_take(&huge.lock, RANK_HUGE);
	*out = (struct huge_stats){ huge.bytes, huge.blocks, huge_cache_bytes() };
	lock_drop(&huge.lock, RANK_HUGE);
}

size_t huge_resident(void) {
	size_t resident = 0;
	lock_take(&huge.lock, RANK_HUGE);
	for (uint32_t i = 0; i < huge.capacity; i++)
		if (huge.entries[i].address > ENTRY_DELETED)
			resident += os_resident((void *)huge.entries[i].address, huge.entries[i].size);
	lock_drop(&huge.lock, RANK_HUGE);
	return resident;
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
