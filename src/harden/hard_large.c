#include "harden/hard_large.h"

#include "arena/clear.h"
#include "arena/layout.h"
#include "arena/pressure.h"
#include "arena/report.h"
#include "arena/thp.h"
#include "arena/wave.h"
#include "base/gate.h"
#include "base/lock.h"
#include "base/conf.h"
#include "base/meta.h"
#include "base/probe.h"
#include "base/random.h"
#include "cache/hooks.h"
#include "cache/purger.h"
#include "harden/canary.h"
#include "harden/hard_waiting.h"

/* Open addressing with linear probing; at most half of the entries are in use or deleted. */
#define CAPACITY_FIRST 64
#define ENTRY_FREE 0
#define ENTRY_DELETED 1

/* Each guarded block is two mappings to the kernel, whose number is limited: beyond this, blocks have no guards. */
#define GUARDED_MAX 8192

/* Addresses that wait, of each kind, are no more than this share of what the process may have, if there is a limit. */
#define WAITING_SHARE 16

/* Blocks up to KEPT_MAX keep their memory while they wait, zeroed and closed, and serve those of the same length again: page
 * faults and the kernel's zeroing would cost more than ours. A quarter of what is in use is kept, or KEPT_BYTES. */
#define KEPT_MAX MIB
#define KEPT_BYTES DIRTY_MIN

/* Entries that are looked at in one hold of the lock. */
#define WALK 1024

struct entry {
	uintptr_t address; /* 0: free, 1: deleted */
	size_t size;       /* bytes asked for. Tools read this and the address from outside (arena/layout.h) */
	uint64_t canary;
	uint32_t guard;    /* bytes of the guard in front, in pages; one page follows the block; 0: no guards */
	uint16_t family;
	bool held;         /* by realloc, which owns the block until it is done */
	bool altered;      /* large_hard_alter was called for it */
};

static struct {
	struct lock lock;
	uint32_t capacity;
	uint32_t filled; /* entries that are used or deleted */
	struct entry *entries;
	size_t bytes, blocks;   /* bytes: in pages */
	struct wave wave;
	_Atomic size_t guarded; /* of the blocks; also read without the lock */
	uint64_t key[4];              /* of canaries */
	uint64_t blocks_total;        /* since the start: the next one at the same address has another canary */
	_Atomic bool alter_all;       /* large_hard_alter could not get the lock: it may have been about any block */
} large;

/* ---- the table; all under the lock ---- */

static uint32_t first_slot(uintptr_t address, uint32_t capacity) {
	return (uint32_t)((uint64_t)(address >> 12) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (capacity - 1);
}

static struct entry *find(const void *block) {
	const uintptr_t address = (uintptr_t)block;
	if (large.capacity == 0 || address <= ENTRY_DELETED) return NULL;
	for (uint32_t i = first_slot(address, large.capacity);; i = (i + 1) & (large.capacity - 1)) {
		if (large.entries[i].address == address) return &large.entries[i];
		if (large.entries[i].address == ENTRY_FREE) return NULL;
	}
}

static bool place(struct entry *entries, uint32_t capacity, const struct entry *e) {
	uint32_t i = first_slot(e->address, capacity);
	while (entries[i].address > ENTRY_DELETED) i = (i + 1) & (capacity - 1);
	const bool fresh = entries[i].address == ENTRY_FREE;
	entries[i] = *e;
	return fresh;
}

static bool make_room(void) {
	if (large.filled + 1 <= large.capacity / 2) return true;
	uint32_t capacity = large.capacity == 0 ? CAPACITY_FIRST : large.capacity;
	while (capacity < 4 * (large.blocks + 1)) capacity *= 2;
	struct entry *entries = meta_alloc(capacity * sizeof *entries);
	if (entries == NULL) return false;
	uint32_t filled = 0;
	for (uint32_t i = 0; i < large.capacity; i++)
		if (large.entries[i].address > ENTRY_DELETED) filled += place(entries, capacity, &large.entries[i]);
	if (large.entries != NULL) meta_free(large.entries, large.capacity * sizeof *entries);
	large.entries = entries;
	large.capacity = capacity;
	large.filled = filled;
	arenal_layout.hard_table = (uintptr_t)entries;
	arenal_layout.hard_capacity = capacity;
	return true;
}

static size_t pages_of(size_t size) { return ALIGN_UP(max_size(size, 1), os_page_size); }
static size_t guard_of(const struct entry *e) { return e->guard * os_page_size; }

/* Under the lock. */
static void tell_pressure(void) {
	atomic_store_explicit(&pressure.above, large.bytes + waiting_kept_bytes, memory_order_relaxed);
}

static bool add(const struct entry *e) {
	lock_take(&large.lock, RANK_HUGE);
	const bool done = make_room();
	if (done) {
		large.filled += place(large.entries, large.capacity, e);
		large.blocks++;
		large.guarded += e->guard > 0;
		large.bytes += pages_of(e->size);
		tell_pressure();
		wave_note(&large.wave, large.bytes); /* a process with such blocks is not small */
	}
	lock_drop(&large.lock, RANK_HUGE);
	return done;
}

/* Takes the block out: the caller owns it then, alone. False when it is not there, or another thread's realloc holds it; *freed tells
 * whether it was there. `held`: the caller is that realloc. */
static bool take_out(const void *block, struct entry *out, bool held, bool *freed) {
	lock_take(&large.lock, RANK_HUGE);
	struct entry *e = find(block);
	*freed = e != NULL && e->held && !held;
	if (*freed) e = NULL;
	if (unlikely(atomic_load_explicit(&large.alter_all, memory_order_relaxed)) && atomic_exchange(&large.alter_all, false))
		for (uint32_t i = 0; i < large.capacity; i++) large.entries[i].altered = true;
	if (e != NULL) {
		*out = *e;
		e->address = ENTRY_DELETED;
		large.blocks--;
		large.guarded -= out->guard > 0;
		large.bytes -= pages_of(out->size);
		tell_pressure();
	} else {
		*freed |= waiting_has(block);
	}
	lock_drop(&large.lock, RANK_HUGE);
	return e != NULL;
}

/* Marks the block as realloc's, so that nobody else may free or resize it, or takes the mark back; *out becomes its entry. False
 * when it is not there, or another thread came first; *freed tells whether it was there. */
static bool set_held(const void *block, bool held, struct entry *out, bool *freed) {
	lock_take(&large.lock, RANK_HUGE);
	struct entry *e = find(block);
	const bool mine = e != NULL && e->held != held;
	*freed = e != NULL || waiting_has(block);
	if (mine) {
		e->held = held;
		*out = *e;
	}
	lock_drop(&large.lock, RANK_HUGE);
	return mine;
}

static bool look_up(const void *block, struct entry *out) {
	lock_take(&large.lock, RANK_HUGE);
	const struct entry *e = find(block);
	if (e != NULL) *out = *e;
	lock_drop(&large.lock, RANK_HUGE);
	return e != NULL;
}

/* ---- mappings ---- */

static void unmap(struct waiting w) {
	if (w.block == NULL) return;
	os_unmap(w.block - w.guard, waiting_extent(w));
	PROBE(huge_unmapped, w.block, w.pages);
}

/* Closes the block for those who still have its address: it waits with its memory, or without. To clear what was hardly used would
 * take more memory than it had. */
static bool close_block(struct waiting *w, bool keep) {
	if (keep && looks_written(w->block, w->pages)) {
		memset(w->block, 0, w->pages);
		if (os_guard(w->block, w->pages)) w->kept = w->pages;
	}
	return w->kept > 0 || os_decommit(w->block, w->pages) == DECOMMITTED;
}

static bool may_keep(size_t pages) {
	lock_take(&large.lock, RANK_HUGE);
	const bool room = waiting_kept_bytes + pages <= max_size(KEPT_BYTES, large.bytes / 4);
	lock_drop(&large.lock, RANK_HUGE);
	return room && pages <= KEPT_MAX && !pressure_is_on();
}

/* A closed block waits. In front of one with a large alignment lies a long guard, of which a page is enough now. */
static void keep_address(struct waiting w) {
	if (w.guard > os_page_size) {
		os_unmap(w.block - w.guard, w.guard - os_page_size);
		w.guard = os_page_size;
	}
	const size_t share = os_address_space_limit() / WAITING_SHARE;
	lock_take(&large.lock, RANK_HUGE);
	struct waiting leaves = waiting_put(w, share);
	do {
		tell_pressure();
		lock_drop(&large.lock, RANK_HUGE);
		unmap(leaves);
		lock_take(&large.lock, RANK_HUGE);
		leaves = waiting_take_excess(share);
	} while (leaves.block != NULL);
	lock_drop(&large.lock, RANK_HUGE);
}

static void retire(struct waiting w) {
	if (close_block(&w, w.guard > 0 && !w.altered && may_keep(w.pages)))
		keep_address(w);
	else
		unmap(w);
}

/* Gives back what waits at the place. Returns the bytes of memory that it kept. */
static size_t drop_waiting(uint32_t place, bool only_kept) {
	gate_enter();
	lock_take(&large.lock, RANK_HUGE);
	const struct waiting w = waiting_take_at(place, only_kept);
	tell_pressure();
	lock_drop(&large.lock, RANK_HUGE);
	unmap(w);
	gate_leave();
	return w.kept;
}

/* A block that waited with its memory; NULL: there is none of this length. */
static char *reopen(size_t pages) {
	lock_take(&large.lock, RANK_HUGE);
	const struct waiting w = waiting_take_kept(pages);
	tell_pressure();
	lock_drop(&large.lock, RANK_HUGE);
	if (w.block == NULL || os_commit(w.block, pages)) return w.block;
	unmap(w);
	return NULL;
}

bool large_hard_release(void) {
	const bool any = waiting_count > 0;
	for (uint32_t i = 0; any && i < WAITING_PLACES; i++) drop_waiting(i, false);
	return any;
}

size_t large_hard_purge(void) {
	size_t bytes = 0;
	for (uint32_t i = 0; i < WAITING_PLACES; i++) bytes += drop_waiting(i, true);
	return bytes;
}

/* Before the program writes to so many bytes more. While memory is short, none is kept. */
static void count_pressure(size_t bytes) {
	pressure_count(bytes);
	pressure_poke();
	if (pressure_is_on() && waiting_kept_bytes > 0) large_hard_purge();
}

static char *map_guarded(size_t pages, size_t guard) {
	char *start = os_reserve(guard + pages + os_page_size, guard);
	if (start == NULL) return NULL;
	if (os_commit(start + guard, pages)) return start + guard;
	os_unmap(start, guard + pages + os_page_size);
	return NULL;
}

/* Sets the entry's address and guard. */
static bool map(struct entry *e, size_t align) {
	const size_t guard = max_size(align, os_page_size);
	const bool may_guard = guard / os_page_size <= UINT32_MAX && large.guarded < GUARDED_MAX;
	char *block = may_guard && guard == os_page_size ? reopen(pages_of(e->size)) : NULL;
	if (block == NULL && may_guard) block = map_guarded(pages_of(e->size), guard);
	e->guard = block != NULL ? (uint32_t)(guard / os_page_size) : 0;
	if (block == NULL) block = os_map(pages_of(e->size), guard);
	e->address = (uintptr_t)block;
	if (block == NULL) return false;
	thp_decline_block(block, pages_of(e->size));
	PROBE(huge_mapped, block, pages_of(e->size));
	return true;
}

/* ---- canaries ---- */

/* Less than a word of the last page may be left behind the block, or nothing. */
static bool has_word_behind(size_t size) { return pages_of(size) - size >= CANARY_SIZE; }

/* The last word of the page, with its canary in place behind the block. */
static uint64_t last_word(const struct entry *e) {
	const uint64_t word = load_word((const char *)e->address + pages_of(e->size) - CANARY_SIZE);
	if (e->size == pages_of(e->size)) return word;
	const uint64_t mask = ~UINT64_C(0) << e->size % CANARY_SIZE * 8;
	return (word & ~mask) | (e->canary & mask);
}

static void fill_tail(const struct entry *e) {
	char *block = (char *)e->address;
	if (has_word_behind(e->size))
		canary_fill(block, e->canary, e->size, pages_of(e->size));
	else
		store_word(block + pages_of(e->size) - CANARY_SIZE, last_word(e));
}

static bool tail_intact(const struct entry *e) {
	const char *block = (const char *)e->address;
	if (has_word_behind(e->size)) return canary_intact(block, e->canary, e->size, pages_of(e->size));
	return last_word(e) == load_word(block + pages_of(e->size) - CANARY_SIZE);
}

void large_hard_draw_key(void) {
	struct random random = { os_random() };
	lock_take(&large.lock, RANK_HUGE);
	for (size_t i = 0; i < sizeof large.key / sizeof *large.key; i++) large.key[i] = random_next(&random);
	lock_drop(&large.lock, RANK_HUGE);
}

void large_hard_start(void) {
	large_hard_draw_key();
	arenal_layout.hard_stride = sizeof(struct entry);
	arenal_layout.hard_kept_table = (uintptr_t)waiting_places;
	arenal_layout.hard_kept_capacity = WAITING_PLACES;
	arenal_layout.hard_kept_stride = sizeof(struct waiting);
}
static_assert(offsetof(struct entry, address) == 0 && offsetof(struct entry, size) == 8 && offsetof(struct waiting, block) == 0 &&
                  offsetof(struct waiting, kept) == 8,
              "the records of layout version 3");

static void draw_canary(struct entry *e) {
	lock_take(&large.lock, RANK_HUGE);
	e->canary = canary_of(large.key, e->address | ++large.blocks_total << ADDRESS_BITS);
	lock_drop(&large.lock, RANK_HUGE);
}

/* ---- blocks ---- */

void *large_hard_alloc(size_t align, size_t size, enum family family) {
	if (size > PTRDIFF_MAX - 2 * os_page_size || align > PTRDIFF_MAX - size - 2 * os_page_size) return NULL;
	struct entry e = { .size = size, .family = (uint16_t)family };
	if (!map(&e, align) && !(large_hard_release() && map(&e, align))) return NULL;
	char *block = (char *)e.address;
	count_pressure(pages_of(size));
	draw_canary(&e);
	fill_tail(&e);
	const bool added = add(&e);
	cache_hook_call(&cache_hooks.slow_moment);
	if (added) return block;
	unmap((struct waiting){ .block = block, .pages = pages_of(size), .guard = guard_of(&e) });
	return NULL;
}

/* Of a block that the program closed, or a part of it, the canary cannot be read. */
static void check(const struct entry *e, const char *function) {
	if (unlikely(!e->altered && !tail_intact(e)))
		report_end(function, (void *)e->address, "something wrote behind the block's %zu bytes", e->size);
}

bool large_hard_free(void *block, const struct claim *claim) {
	struct entry e;
	bool freed;
	gate_enter();
	if (!take_out(block, &e, false, &freed)) {
		gate_leave();
		if (freed) report_end(claim->function, block, "the large block was freed already");
		return false;
	}
	harden_check_claim(block, e.size, e.family, claim);
	check(&e, claim->function);
	retire((struct waiting){ .block = block, .pages = pages_of(e.size), .guard = guard_of(&e), .altered = e.altered });
	gate_leave();
	purger_poke();
	return true;
}

bool large_hard_hold(void *block, size_t *size, enum family *family) {
	struct entry e;
	bool freed;
	gate_enter();
	const bool mine = set_held(block, true, &e, &freed);
	gate_leave();
	if (!mine && freed) report_end("realloc", block, "the large block was freed already");
	if (!mine) return false;
	check(&e, "realloc");
	*size = e.size;
	*family = e.family;
	return true;
}

void large_hard_let_go(void *block) {
	struct entry e;
	bool freed;
	set_held(block, false, &e, &freed);
}

void large_hard_free_held(void *block) {
	struct entry e;
	bool freed;
	gate_enter();
	if (take_out(block, &e, true, &freed))
		retire((struct waiting){ .block = block, .pages = pages_of(e.size), .guard = guard_of(&e), .altered = e.altered });
	gate_leave();
	purger_poke();
}

bool large_hard_size(const void *block, size_t *size, enum family *family) {
	struct entry e;
	if (!look_up(block, &e)) return false;
	*size = e.size;
	*family = e.family;
	return true;
}

/* What was canary is the program's now. */
static void settle(const struct entry *e, size_t old) {
	if (e->size > old) memset((char *)e->address + old, 0, min_size(e->size, pages_of(old)) - old);
	fill_tail(e);
}

/* Moves it between new guards; *e is its new entry. False: it is as it was. */
static bool move_block(const struct entry *old, struct entry *e) {
	const size_t pages = pages_of(e->size), all = pages + 2 * os_page_size;
	char *block = (char *)old->address, *start = os_reserve(all, os_page_size);
	if (start == NULL) return false;
	e->address = (uintptr_t)start + os_page_size;
	e->guard = 1;
	e->held = false;
	/* In the table before it is there, for nothing may fail afterwards. Nobody else knows the address yet. */
	const bool added = add(e);
	if (!added || !os_remap_to(block, pages_of(old->size), pages, (void *)e->address)) {
		bool freed;
		struct entry none;
		if (added) take_out((void *)e->address, &none, false, &freed);
		os_unmap(start, all);
		return false;
	}
	return true;
}

void *large_hard_resize(void *block, size_t size) {
	struct entry old, e, left;
	bool freed;
	if (size > PTRDIFF_MAX - 2 * os_page_size) return NULL;
	gate_enter();
	if (!look_up(block, &old)) report_end("realloc", block, "the large block was freed already");
	e = old;
	e.size = size;
	if (pages_of(size) == pages_of(old.size)) {
		settle(&e, old.size);
		lock_take(&large.lock, RANK_HUGE);
		struct entry *in_place = find(block);
		in_place->size = size;
		in_place->held = false;
		lock_drop(&large.lock, RANK_HUGE);
		gate_leave();
		return block;
	}
	if (old.guard == 0 || !move_block(&old, &e)) {
		gate_leave();
		return NULL;
	}
	/* The kernel has moved the pages: what is left at the old place are its guards. Its entry goes first. The old address waits like a freed
	 * one, unless somebody else has it already. */
	take_out(block, &left, true, &freed);
	const struct waiting place = { .block = block, .pages = pages_of(old.size), .guard = guard_of(&old) };
	if (os_map_at(block, place.pages, false)) {
		keep_address(place);
	} else {
		os_unmap((char *)block - place.guard, place.guard);
		os_unmap((char *)block + place.pages, os_page_size);
	}
	gate_leave();
	char *moved = (char *)e.address;
	PROBE(huge_resized, block, pages_of(old.size), moved, pages_of(size));
	settle(&e, old.size);
	if (size > old.size) count_pressure(pages_of(size) - pages_of(old.size));
	cache_hook_call(&cache_hooks.slow_moment);
	return moved;
}

void large_hard_alter(const void *address, size_t size) {
	const uintptr_t start = (uintptr_t)address, end = start + size < start ? UINTPTR_MAX : start + size;
	const bool locked = lock_try(&large.lock, RANK_HUGE);
	if (!locked) atomic_store_explicit(&large.alter_all, true, memory_order_relaxed);
	for (uint32_t i = 0; locked && i < large.capacity; i++) {
		struct entry *e = &large.entries[i];
		if (e->address > ENTRY_DELETED && e->address < end && start < e->address + pages_of(e->size)) e->altered = true;
	}
	if (locked) lock_drop(&large.lock, RANK_HUGE);
}

void harden_large_stats(size_t *bytes, size_t *blocks, size_t *kept_bytes) {
	lock_take(&large.lock, RANK_HUGE);
	*bytes = large.bytes;
	*blocks = large.blocks;
	*kept_bytes = waiting_kept_bytes;
	lock_drop(&large.lock, RANK_HUGE);
}

/* Counts what there is, and writes it down as long as there is room. Returns how many there are then. */
static size_t note(char *block, size_t pages, size_t guard, struct mapping *out, size_t room, size_t count) {
	if (count < room) out[count] = (struct mapping){ block - guard, guard + pages + (guard > 0 ? os_page_size : 0) };
	return count + 1;
}

size_t harden_large_mappings(struct mapping *out, size_t room) {
	size_t kept = 0, count = 0;
	lock_take(&large.lock, RANK_HUGE);
	for (uint32_t i = 0; i < WAITING_PLACES; i++) {
		const struct waiting w = waiting_places[i];
		if (w.kept > 0) kept = note(w.block, w.pages, w.guard, out, room, kept);
	}
	lock_drop(&large.lock, RANK_HUGE);
	const struct entry *entries = NULL;
	for (uint32_t from = 0, capacity = 1; from < capacity; from += WALK) {
		lock_take(&large.lock, RANK_HUGE);
		if (entries != large.entries) from = 0; /* it is another table: all over again */
		if (from == 0) count = kept;
		entries = large.entries;
		capacity = large.capacity;
		for (uint32_t i = from; i < min_size(from + WALK, capacity); i++)
			if (entries[i].address > ENTRY_DELETED)
				count = note((char *)entries[i].address, pages_of(entries[i].size), guard_of(&entries[i]), out, room, count);
		lock_drop(&large.lock, RANK_HUGE);
	}
	return max_size(count, kept);
}

void harden_lock(void) { lock_take(&large.lock, RANK_HUGE); }
void harden_unlock(void) { lock_drop(&large.lock, RANK_HUGE); }
