#include "harden/hard_large.h"

#include "arena/clear.h"
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
#include "cache/own_thread.h"
#include "cache/purger.h"
#include "harden/canary.h"

/* Open addressing with linear probing; at most half of the entries are in use or deleted. */
#define CAPACITY_FIRST 64
#define ENTRY_FREE 0
#define ENTRY_DELETED 1

/* Each guarded block is two mappings to the kernel, whose number is limited: beyond this, blocks have no guards. */
#define GUARDED_MAX 8192

/* Freed blocks whose addresses wait: each takes the place of a random one, and all together are no longer than this. No address
 * comes back before LATE_TURNS other blocks have been freed. */
#define WAITING 256
#define WAITING_BYTES (128 * MIB)
#define WAITING_EACH (8 * MIB) /* longer ones do not wait */
#define LATE_TURNS 8
static_assert(LATE_TURNS * WAITING_EACH < WAITING_BYTES, "there are others to give back");

/* Blocks up to KEPT_MAX keep their memory while they wait, zeroed and closed, and serve those of the same length again: page
 * faults and the kernel's zeroing would cost more than ours. A quarter of what is in use is kept, or KEPT_BYTES. */
#define KEPT_MAX MIB
#define KEPT_BYTES DIRTY_MIN

struct entry {
	uintptr_t address; /* 0: free, 1: deleted */
	size_t size;       /* bytes asked for */
	uint32_t guard;    /* bytes of the guard in front, in pages; one page follows the block; 0: no guards */
	uint16_t family;
	bool resizing;     /* by realloc, which owns the block until it is done */
	bool altered;      /* large_hard_alter was called for it */
};

struct waiting {
	char *block;
	size_t pages; /* bytes of the block, in whole pages */
	size_t guard; /* bytes in front */
	uint64_t turn; /* the number of the free */
	bool altered;  /* of its entry */
	bool kept;     /* with its memory */
};

static struct {
	struct lock lock;
	uint32_t capacity;
	uint32_t filled; /* entries that are used or deleted */
	struct entry *entries;
	size_t bytes, blocks;   /* bytes: in pages */
	struct wave wave;
	_Atomic size_t guarded; /* of the blocks; also read without the lock */
	struct waiting waiting[WAITING];
	_Atomic size_t waiting_bytes; /* of addresses; also read without the lock */
	_Atomic size_t kept_bytes;    /* of memory, of those that wait with theirs; also read without the lock */
	uint64_t turn;                /* counts frees */
	struct random random;
	int random_process;           /* whose random numbers these are; 0: none were drawn yet */
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
	return true;
}

static size_t pages_of(size_t size) { return ALIGN_UP(max_size(size, 1), os_page_size); }
static size_t guard_of(const struct entry *e) { return e->guard * os_page_size; }

/* Under the lock. */
static void tell_pressure(void) {
	atomic_store_explicit(&pressure.above, large.bytes + large.kept_bytes, memory_order_relaxed);
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

/* Takes the block out: the caller owns it then, alone. False when it is not there, or another thread resizes it; *freed tells
 * whether it was there. `resized`: the caller is who resizes it. */
static bool take_out(const void *block, struct entry *out, bool resized, bool *freed) {
	lock_take(&large.lock, RANK_HUGE);
	struct entry *e = find(block);
	*freed = e != NULL && e->resizing && !resized;
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
		for (size_t i = 0; i < WAITING; i++) *freed |= large.waiting[i].block == block;
	}
	lock_drop(&large.lock, RANK_HUGE);
	return e != NULL;
}

/* Marks the block as being resized, so that nobody else may free or resize it, or takes the mark back; *out becomes its entry. False
 * when it is not there, or another thread came first. */
static bool set_resizing(const void *block, bool resizing, struct entry *out) {
	lock_take(&large.lock, RANK_HUGE);
	struct entry *e = find(block);
	const bool mine = e != NULL && e->resizing != resizing;
	if (mine) {
		e->resizing = resizing;
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

static size_t extent(struct waiting w) { return w.guard + w.pages + (w.guard > 0 ? os_page_size : 0); }

static void unmap(struct waiting w) {
	if (w.block == NULL) return;
	os_unmap(w.block - w.guard, extent(w));
	PROBE(huge_unmapped, w.block, w.pages);
}

#define NOTHING_WAITS ((struct waiting){ .block = NULL })

static size_t kept(struct waiting w) { return w.kept ? w.pages : 0; }

/* Its address is not to come back yet, by the kernel neither. Under the lock. */
static bool is_recent(struct waiting w) { return w.block != NULL && large.turn - w.turn < LATE_TURNS; }

/* Returns what waited there. Under the lock. */
static struct waiting exchange_waiting(uint32_t i, struct waiting by) {
	const struct waiting w = large.waiting[i];
	large.waiting[i] = by;
	if (w.block != NULL) large.waiting_bytes -= extent(w);
	if (by.block != NULL) large.waiting_bytes += extent(by);
	large.kept_bytes += kept(by) - kept(w);
	tell_pressure();
	return w;
}

/* Gives back what waits there, if it is one of those. Returns the bytes of memory that it kept. */
static size_t drop_waiting(uint32_t i, bool (*one_of)(struct waiting)) {
	struct waiting w = NOTHING_WAITS;
	gate_enter();
	lock_take(&large.lock, RANK_HUGE);
	if (one_of(large.waiting[i])) w = exchange_waiting(i, NOTHING_WAITS);
	lock_drop(&large.lock, RANK_HUGE);
	unmap(w);
	gate_leave();
	return kept(w);
}

static bool waits(struct waiting w) { return w.block != NULL; }
static bool is_kept(struct waiting w) { return w.kept; }
static bool has_waited(struct waiting w) { return w.block != NULL && !is_recent(w); }

/* Closes the block for those who still have its address: it waits with its memory, or without. To clear what was hardly used would
 * take more memory than it had. */
static bool close_block(struct waiting *w, bool keep) {
	if (keep && looks_written(w->block, w->pages)) {
		memset(w->block, 0, w->pages);
		w->kept = os_guard(w->block, w->pages);
	}
	return w->kept || os_decommit(w->block, w->pages) == DECOMMITTED;
}

/* The number of a random place, or of the next one whose block has waited long enough. Under the lock. */
static uint32_t choose_place(void) {
	const int process = os_process_id();
	if (large.random_process != process) large.random.state = os_random();
	large.random_process = process;
	uint32_t i = random_below(&large.random, WAITING);
	while (is_recent(large.waiting[i])) i = (i + 1) % WAITING;
	return i;
}
static_assert(LATE_TURNS < WAITING, "there is such a place");

static bool may_keep(size_t pages) {
	lock_take(&large.lock, RANK_HUGE);
	const bool room = large.kept_bytes + pages <= max_size(KEPT_BYTES, large.bytes / 4);
	lock_drop(&large.lock, RANK_HUGE);
	return room && pages <= KEPT_MAX && !pressure_is_on();
}

static void retire(struct waiting w) {
	/* The addresses of others are given back. */
	if (w.guard == 0 || extent(w) > WAITING_EACH || !close_block(&w, !w.altered && may_keep(w.pages))) {
		unmap(w);
		return;
	}
	lock_take(&large.lock, RANK_HUGE);
	w.turn = ++large.turn;
	const uint32_t place = choose_place();
	const struct waiting before = exchange_waiting(place, w);
	lock_drop(&large.lock, RANK_HUGE);
	unmap(before);
	for (uint32_t n = 1; n < WAITING && large.waiting_bytes > WAITING_BYTES; n++) drop_waiting((place + n) % WAITING, has_waited);
}

/* A block that waited with its memory; NULL: there is none of this length. */
static char *reopen(size_t pages) {
	char *block = NULL;
	lock_take(&large.lock, RANK_HUGE);
	for (uint32_t i = 0; i < WAITING && block == NULL; i++) {
		const struct waiting w = large.waiting[i];
		if (kept(w) != pages || w.guard != os_page_size || is_recent(w)) continue;
		block = exchange_waiting(i, NOTHING_WAITS).block;
	}
	lock_drop(&large.lock, RANK_HUGE);
	if (block == NULL || os_commit(block, pages)) return block;
	unmap((struct waiting){ .block = block, .pages = pages, .guard = os_page_size });
	return NULL;
}

bool large_hard_release(void) {
	const bool any = large.waiting_bytes > 0;
	for (uint32_t i = 0; any && i < WAITING; i++) drop_waiting(i, waits);
	return any;
}

size_t large_hard_purge(void) {
	size_t bytes = 0;
	for (uint32_t i = 0; i < WAITING; i++) bytes += drop_waiting(i, is_kept);
	return bytes;
}

/* Before the program writes to so many bytes more. While memory is short, none is kept. */
static void count_pressure(size_t bytes) {
	pressure_count(bytes);
	pressure_poke();
	if (pressure_is_on() && large.kept_bytes > 0) large_hard_purge();
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
static uint64_t last_word(const char *block, size_t size) {
	const uint64_t word = load_word(block + pages_of(size) - CANARY_SIZE);
	if (size == pages_of(size)) return word;
	const uint64_t mask = ~UINT64_C(0) << size % CANARY_SIZE * 8;
	return (word & ~mask) | (canary_of(block) & mask);
}

static void fill_tail(char *block, size_t size) {
	if (has_word_behind(size))
		canary_fill(block, size, pages_of(size));
	else
		store_word(block + pages_of(size) - CANARY_SIZE, last_word(block, size));
}

static bool tail_intact(const char *block, size_t size) {
	if (has_word_behind(size)) return canary_intact(block, size, pages_of(size));
	return last_word(block, size) == load_word(block + pages_of(size) - CANARY_SIZE);
}

/* ---- blocks ---- */

void *large_hard_alloc(size_t align, size_t size, enum family family) {
	if (size > PTRDIFF_MAX - 2 * os_page_size || align > PTRDIFF_MAX - size - 2 * os_page_size) return NULL;
	struct entry e = { .size = size, .family = (uint16_t)family };
	if (!map(&e, align) && !(large_hard_release() && map(&e, align))) return NULL;
	char *block = (char *)e.address;
	count_pressure(pages_of(size));
	fill_tail(block, size);
	const bool added = add(&e);
	cache_hook_call(&cache_hooks.slow_moment);
	if (added) return block;
	unmap((struct waiting){ .block = block, .pages = pages_of(size), .guard = guard_of(&e) });
	return NULL;
}

/* Of a block that the program closed, or a part of it, the canary cannot be read. */
static void check(const struct entry *e, const char *function) {
	if (unlikely(!e->altered && !tail_intact((const char *)e->address, e->size)))
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

bool large_hard_size(const void *block, size_t *size, enum family *family) {
	struct entry e;
	if (!look_up(block, &e)) return false;
	*size = e.size;
	*family = e.family;
	return true;
}

/* What was canary is the program's now. */
static void settle(char *block, size_t old, size_t size) {
	if (size > old) memset(block + old, 0, min_size(size, pages_of(old)) - old);
	fill_tail(block, size);
}

/* Moves it between new guards; *e is its new entry. False: it is as it was. */
static bool move_block(const struct entry *old, struct entry *e) {
	const size_t pages = pages_of(e->size), all = pages + 2 * os_page_size;
	char *block = (char *)old->address, *start = os_reserve(all, os_page_size);
	if (start == NULL) return false;
	e->address = (uintptr_t)start + os_page_size;
	e->guard = 1;
	e->resizing = false;
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
	if (!set_resizing(block, true, &old)) report_end("realloc", block, "the large block was freed already");
	check(&old, "realloc");
	e = old;
	e.size = size;
	if (pages_of(size) == pages_of(old.size)) {
		settle(block, old.size, size);
		lock_take(&large.lock, RANK_HUGE);
		struct entry *in_place = find(block);
		in_place->size = size;
		in_place->resizing = false;
		lock_drop(&large.lock, RANK_HUGE);
		gate_leave();
		return block;
	}
	if (old.guard == 0 || !move_block(&old, &e)) {
		set_resizing(block, false, &left);
		gate_leave();
		return NULL;
	}
	/* The kernel has moved the pages: what is left at the old place are its guards. Its entry goes first. */
	take_out(block, &left, true, &freed);
	os_unmap((char *)block - guard_of(&old), guard_of(&old));
	os_unmap((char *)block + pages_of(old.size), os_page_size);
	gate_leave();
	char *moved = (char *)e.address;
	PROBE(huge_resized, block, pages_of(old.size), moved, pages_of(size));
	settle(moved, old.size, size);
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
	*kept_bytes = large.kept_bytes;
	lock_drop(&large.lock, RANK_HUGE);
}

void harden_lock(void) { lock_take(&large.lock, RANK_HUGE); }
void harden_unlock(void) { lock_drop(&large.lock, RANK_HUGE); }
