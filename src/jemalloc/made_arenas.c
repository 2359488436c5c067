#include "jemalloc/made_arenas.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "api/malloc.h"
#include "arena/holes.h"
#include "arena/huge.h"
#include "arena/large.h"
#include "arena/mark.h"
#include "arena/zero.h"
#include "base/address_table.h"
#include "cache/heap_cache.h"
#include "cache/magazine.h"
#include "cache/purger.h"
#include "cache/tcache.h"
#include "harden/guard.h"
#include "harden/hard_large.h"
#include "harden/harden.h"
#include "harden/misuse.h"
#include "jemalloc/thread.h"

/* Beside a block's address and size: its neighbours in the list of its arena, by their addresses; 0: none. */
struct written {
	uintptr_t next, prev;
	uint32_t arena;
	enum family family; /* so a reset frees it */
};

/* By the arena's number. Owner: the threads lock, which fork takes as well. */
struct made {
	bool exists, destroyed;
	pid_t destroys;      /* the process that is about to; 0: none is */
	uint32_t generation; /* so many had this number so far */
	uintptr_t first;     /* of the blocks that are written down */
	struct made_figures figures;
};
static struct made made[ARENAS_MAX];
static struct address_table written = { .record = sizeof(struct written) };
_Atomic size_t made_blocks_count;
static _Atomic uint32_t
    destroying; /* how many have made.destroys. Changed under the lock, or by its thread */

/* ---- arenas ---- */

struct arena *arena_by_number(size_t number) {
	return number < atomic_load_explicit(&arena_count, memory_order_acquire) ? arena_list[number] : NULL;
}

/* One that was destroyed, or else a new one. Under the lock. */
static uint32_t find_number(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	for (uint32_t i = 1; i < count; i++)
		if (made[i].destroyed && !arena_list[i]->inherited) return i;
	return arena_create_apart() != NULL ? count : 0;
}

/* Under the lock. */
static uint32_t create(void) {
	const uint32_t number = find_number();
	if (number != 0)
		made[number] = (struct made){ .exists = true, .generation = made[number].generation + 1 };
	return number;
}

static void free_all(uint32_t number, bool keep);

/* One that somebody destroys, who is not in this process: another thread of the parent's, at the fork. Who
 * calls this is to finish it. 0: there is none. */
static uint32_t find_interrupted(void) {
	uint32_t found = 0;
	const pid_t process = getpid();
	tcache_lock();
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	for (uint32_t i = 1; i < count && found == 0; i++)
		if (made[i].destroys != 0 && made[i].destroys != process) found = i;
	if (found != 0) made[found].destroys = process;
	tcache_unlock();
	return found;
}

static void finish_destroying(uint32_t number) {
	free_all(number, false);
	tcache_lock();
	made[number].destroys = 0;
	made[number].destroyed = true;
	tcache_unlock();
	atomic_fetch_sub_explicit(&destroying, 1, memory_order_relaxed);
}

static void finish_interrupted(void) {
	if (likely(atomic_load_explicit(&destroying, memory_order_relaxed) == 0)) return;
	for (uint32_t number; (number = find_interrupted()) != 0;) finish_destroying(number);
}

uint32_t made_create(void) {
	if (!counting_front_begin()) return 0;
	finish_interrupted();
	tcache_lock();
	const uint32_t number = create();
	tcache_unlock();
	return number;
}

uintptr_t made_create_heap(const char *name) {
	if (!counting_front_begin()) return 0;
	finish_interrupted();
	uintptr_t heap = 0;
	tcache_lock();
	const uint32_t number = create();
	if (number != 0) {
		struct arena *arena = arena_list[number];
		heap = (uintptr_t)made[number].generation << HEAP_NUMBER_BITS | number;
		if (name != NULL) strncpy(arena->name, name, sizeof arena->name - 1);
		atomic_store_explicit(&arena->heap, heap, memory_order_release);
	}
	tcache_unlock();
	return heap;
}

bool made_is(size_t number) {
	if (arena_by_number(number) == NULL) return false;
	tcache_lock();
	const bool is = made[number].exists;
	tcache_unlock();
	return is;
}

/* ---- what is written down ---- */

static struct written *record_of(const struct address_entry *e) {
	return (struct written *)written.records + address_index(&written, e);
}

static struct written *record_at(uintptr_t address) {
	return record_of(address_table_find(&written, address));
}

/* There is room for it. Under the lock. */
static void put(uint32_t number, void *block, size_t size, enum family family) {
	const struct address_entry *e = address_table_add(&written, (uintptr_t)block, size);
	*record_of(e) = (struct written){ .next = made[number].first, .arena = number, .family = family };
	if (made[number].first != 0) record_at(made[number].first)->prev = (uintptr_t)block;
	made[number].first = (uintptr_t)block;
	made[number].figures.bytes += size;
	made[number].figures.blocks++;
	atomic_fetch_add_explicit(&made_blocks_count, 1, memory_order_relaxed);
}

bool made_put(uint32_t number, void *block, size_t size, enum family family) {
	tcache_lock();
	const bool exists = made[number].exists, done = !exists || address_table_room(&written, 1);
	if (exists && done) put(number, block, size, family);
	tcache_unlock();
	return done;
}

/* Half of the table is more than ever is under way at once. */
void made_put_back(uint32_t number, void *block, size_t size) {
	tcache_lock();
	if (made[number].exists && (address_table_room(&written, 1) || written.filled + 1 < written.capacity))
		put(number, block, size, FAMILY_MALLOC);
	tcache_unlock();
}

/* Under the lock. */
static void take_out(struct address_entry *e) {
	const struct written w = *record_of(e);
	struct made *m = &made[w.arena];
	if (w.prev != 0)
		record_at(w.prev)->next = w.next;
	else
		m->first = w.next;
	if (w.next != 0) record_at(w.next)->prev = w.prev;
	m->figures.bytes -= e->size;
	m->figures.blocks--;
	address_table_remove(&written, e);
	atomic_fetch_sub_explicit(&made_blocks_count, 1, memory_order_relaxed);
}

uint32_t made_take_out_slowly(const void *block) {
	tcache_lock();
	struct address_entry *e = address_table_find(&written, (uintptr_t)block);
	const uint32_t number = e != NULL ? record_of(e)->arena : 0;
	if (e != NULL) take_out(e);
	tcache_unlock();
	return number;
}

struct made_figures made_figures(uint32_t number) {
	tcache_lock();
	const struct made_figures figures = made[number].figures;
	tcache_unlock();
	return figures;
}

struct arena *made_heap_of_block(const void *block) {
	const struct span *s = span_of(block);
	const struct bin *bin =
	    s != NULL && s->kind == SPAN_SMALL ? *(struct bin *const volatile *)&s->bin : NULL;
	struct arena *arena = bin != NULL && s->sampled ? bin->arena : NULL;
	if (arena == NULL && atomic_load_explicit(&made_blocks_count, memory_order_relaxed) > 0) {
		tcache_lock();
		const struct address_entry *e = address_table_find(&written, (uintptr_t)block);
		if (e != NULL) arena = arena_list[record_of(e)->arena];
		tcache_unlock();
	}
	const bool is_heap = arena != NULL && atomic_load_explicit(&arena->heap, memory_order_relaxed) != 0;
	return is_heap ? arena : NULL;
}

bool made_of_block(const void *block, uint64_t *number) {
	tcache_lock();
	const struct address_entry *e = address_table_find(&written, (uintptr_t)block);
	*number = e != NULL ? record_of(e)->arena : 0;
	tcache_unlock();
	if (*number != 0) return true;
	const struct span *s = span_of(block);
	const struct bin *bin = s != NULL && s->kind == SPAN_SMALL ? s->bin : NULL;
	if (bin != NULL) *number = bin->arena->number;
	size_t size;
	enum family family;
	return s != NULL || zero_owns(block) || guard_owns(block) || huge_find(block).start != NULL ||
	       (harden_is_on && large_hard_size(block, &size, &family));
}

/* ---- all at once ---- */

/* The next one that is written down, and is not any more; NULL: there is none. */
static void *take_first(uint32_t number, enum family *family) {
	tcache_lock();
	void *block = (void *)made[number].first;
	struct address_entry *e = block != NULL ? address_table_find(&written, (uintptr_t)block) : NULL;
	if (e != NULL) {
		*family = record_of(e)->family;
		take_out(e);
	}
	tcache_unlock();
	return block;
}

/* What threads keep of it is forgotten first: it is free with all others. Under the lock, so that nobody is
 * giving some of it back (heap_caches_drain). */
static void free_all(uint32_t number, bool keep) {
	struct claim claim = { "arena.<i>.reset", FAMILY_MALLOC, SIZE_UNKNOWN };
	struct arena *arena = arena_list[number];
	tcache_lock();
	atomic_fetch_add_explicit(&arena->epoch, 1, memory_order_relaxed);
	tcache_unlock();
	for (void *block; (block = take_first(number, &claim.family)) != NULL;) release(block, &claim);
	if (arena->inherited) return; /* of a hardened parent: nothing was taken from it */
	arena_reset(arena, atomic_load_explicit(&sample_hooks.freed, memory_order_relaxed), keep);
}

/* As after a free: the purger wakes up; without one, it is looked at what was idle for a while. And what has
 * fallen due goes: it may be much, and no other free may follow. */
static void see_to_memory(void) {
	if (wave_is_large()) holes_count_time();
	heap_purge_all_due();
	purger_start();
}

void made_reset(uint32_t number) {
	free_all(number, true);
	see_to_memory();
}

/* Under the lock. */
static void end_heap(struct arena *arena) {
	atomic_store_explicit(&arena->heap, 0, memory_order_relaxed);
	heap_caches_detach(arena);
	memset(arena->name, 0, sizeof arena->name);
}

bool made_destroy(uint32_t number) {
	tcache_lock();
	const bool existed = made[number].exists;
	made[number].exists = false;
	if (existed) {
		end_heap(arena_list[number]);
		made[number].destroys = getpid();
		atomic_fetch_add_explicit(&destroying, 1, memory_order_relaxed);
	}
	tcache_unlock();
	if (!existed) return false;
	finish_destroying(number);
	see_to_memory();
	return true;
}

/* ---- of a thread ---- */

/* Its own, for no other arena's block is ever in the thread's cache: that is freed with others, if at all. */
uint32_t made_of_thread(void) {
	const uint32_t number = thread_counts.arena;
	if (number == 0) return 0;
	tcache_lock();
	const bool same = made[number].exists && made[number].generation == thread_counts.generation;
	tcache_unlock();
	return same ? number : 0;
}

uint32_t arena_of_thread(void) {
	const uint32_t number = made_of_thread();
	return number != 0 ? number : tcache_arena()->number;
}

static int choose_made(uint32_t number) {
	if (!thread_calls_come()) return EAGAIN;
	tcache_lock();
	thread_counts.generation = made[number].generation;
	thread_counts.arena = number;
	tcache_unlock();
	return 0;
}

int arena_choose_for_thread(uint32_t number) {
	if (made_is(number)) return choose_made(number);
	struct arena *arena = arena_by_number(number);
	if (arena == NULL || arena->apart || arena->inherited) return EFAULT;
	if (thread_counts.arena != 0) thread_calls_come_no_more();
	thread_counts.arena = 0;
	/* In hardened mode, threads stay with arenas of hardened blocks. */
	if (arena->kind == REGION_GUARDED || !harden_is_on) tcache_move_to(arena);
	return 0;
}

/* ---- a block ---- */

/* One without its mark was misused, and is left alone, as in malloc. */
static void *take_marked(struct arena *arena, unsigned class_) {
	for (;;) {
		void *block = arena_take_one(arena, class_);
		if (block == NULL || likely(mark_take(block)) || mark_was_wiped(block)) return block;
		misuse_lost_mark("mallocx", block);
	}
}

static void *take_small(struct arena *arena, unsigned class_, size_t size, bool zero) {
	const uint64_t begin = slow_call_begins();
	void *block = take_marked(arena, class_);
	if (block == NULL && harden_reclaim(size)) block = take_marked(arena, class_);
	if (block == NULL) return NULL;
	cache_hook_call(&cache_hooks.slow_moment);
	slow_call_ends(SLOW_MALLOC_SMALL, begin);
	if (zero) memset(block, 0, size_classes[class_].size);
	/* Of arenas that are not apart, free would take it by its tag, and the heap profile not hear of it. */
	return arena->apart ? sample_allocated(block, size) : block;
}

static void *take_large(const struct arena *arena, size_t size, size_t align, bool zero) {
	const enum region_kind kind = (enum region_kind)arena->kind;
	const uint64_t begin = slow_call_begins();
	void *block = large_alloc(size, align, zero, kind);
	if (block == NULL && harden_reclaim(size)) block = large_alloc(size, align, zero, kind);
	cache_hook_call(&cache_hooks.slow_moment);
	slow_call_ends(SLOW_MALLOC_LARGE, begin);
	return sample_allocated(block, size);
}

/* As the front that serves has it. */
static void *take_other(const struct front *serves, size_t size, size_t align, bool zero,
                        enum family family) {
	if (align <= MIN_ALIGN) return zero ? serves->allocate_zeroed(size) : serves->allocate(size, family);
	void *block = serves->allocate_aligned(align, size, family);
	if (block != NULL && zero) memset(block, 0, size);
	return block;
}

static void *write_down(uint32_t number, void *block, enum family family) {
	const struct claim claim = { "mallocx", family, SIZE_UNKNOWN };
	if (block == NULL || made_put(number, block, usable_size(block, "mallocx"), family)) return block;
	release(block, &claim);
	return NULL;
}

static void *take(uint32_t number, size_t size, size_t align, bool zero, enum family family) {
	struct arena *arena = arena_list[number];
	const struct front *serves = front_behind_counting();
	if (serves != NULL) return write_down(number, take_other(serves, size, align, zero, family), family);
	const size_t rounded = ALIGN_UP(max_size(size, 1), align);
	if (rounded <= SMALL_MAX)
		return take_small(arena, class_of_aligned(align, rounded), max_size(size, 1), zero);
	size = max_size(size, SMALL_MAX + 1);
	return write_down(number, take_large(arena, size, align, zero), family);
}

/* What is allocated on the way, by libc for a thread of ours perhaps, is none of the program's. */
void *made_allocate(uint32_t number, size_t size, size_t align, bool zero, enum family family) {
	if (size > PTRDIFF_MAX || align > PTRDIFF_MAX) return NULL;
	const bool inside = thread_counts.inside;
	thread_counts.inside = true;
	void *block = take(number, size, align, zero, family);
	thread_counts.inside = inside;
	return block;
}
