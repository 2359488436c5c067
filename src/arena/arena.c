#include "arena/arena.h"

#include "arena/bin.h"
#include "arena/depot.h"
#include "arena/hard_span.h"
#include "arena/holes.h"
#include "arena/huge.h"
#include "arena/shelf.h"
#include "arena/thp.h"
#include "base/conf.h"
#include "base/cpus.h"
#include "base/meta.h"

struct arena *arena_list[ARENAS_MAX];
_Atomic uint32_t arena_count;
uint32_t arena_generation;

static struct arena main_arena;
struct arena *_Atomic arena_of_samples;

uint64_t hard_span_generation;

/* What arenas are made of: regions, or guarded ones in hardened mode. */
static enum region_kind kind_of_arenas = REGION_MAPPED;

static void seed(struct arena *a) {
	struct random seeds = { os_random() };
	for (unsigned c = 0; c < CLASS_COUNT; c++) {
		lock_take(&a->bins[c].lock, RANK_BIN);
		a->random[c].state = random_next(&seeds);
		lock_drop(&a->bins[c].lock, RANK_BIN);
	}
}

void arena_reseed(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	for (uint32_t i = 0; i < count; i++)
		if (arena_list[i]->kind == REGION_GUARDED) seed(arena_list[i]);
}

static void setup(struct arena *a, enum region_kind kind, bool apart) {
	a->apart = apart;
	a->kind = kind;
	for (unsigned c = 0; c < CLASS_COUNT; c++) a->bins[c].arena = a;
	if (kind == REGION_GUARDED) seed(a);
}

void arena_init(void) {
	thp_start();
	setup(&main_arena, REGION_BRK, false);
	arena_list[0] = &main_arena;
	atomic_store_explicit(&arena_count, 1, memory_order_release);
}

/* Those that threads may use. */
static uint32_t count_in_use(uint32_t count) {
	uint32_t in_use = 0;
	for (uint32_t i = 0; i < count; i++) in_use += !arena_list[i]->apart && !arena_list[i]->inherited;
	return in_use;
}

static struct arena *add_arena(enum region_kind kind, bool apart) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	if (count >= ARENAS_MAX) return NULL;
	struct arena *a = meta_alloc(sizeof *a);
	if (a == NULL) return NULL;
	setup(a, kind, apart);
	a->number = count;
	atomic_store_explicit(&a->epoch, 1, memory_order_relaxed);
	arena_list[count] = a;
	atomic_store_explicit(&arena_count, count + 1, memory_order_release);
	return a;
}

struct arena *arena_create(void) {
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	uint32_t limit = conf.arena_max > 0 ? (uint32_t)conf.arena_max : cpus_count();
	if (count_in_use(count) >= limit) return NULL;
	return add_arena(kind_of_arenas, false);
}

struct arena *arena_create_apart(void) {
	return add_arena(kind_of_arenas, true);
}

bool arena_for_samples(void) {
	/* The break first: a program with one thread needs no region for it. */
	if (arena_of_samples == NULL) arena_of_samples = add_arena(REGION_BRK, true);
	return arena_of_samples != NULL;
}

bool arena_harden(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	struct arena *first = count < ARENAS_MAX ? meta_alloc(sizeof *first) : NULL;
	if (first == NULL) return false;
	kind_of_arenas = REGION_GUARDED;
	setup(first, REGION_GUARDED, false);
	/* The others stay at the end, for the blocks that came from there. */
	arena_list[count] = arena_list[0];
	arena_list[count]->number = count;
	arena_list[0] = first;
	atomic_store_explicit(&arena_count, count + 1, memory_order_release);
	return true;
}

bool arena_harden_anew(void) {
	if (!arena_harden()) return false;
	hard_span_generation++;
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	for (uint32_t i = 1; i < count; i++) arena_list[i]->inherited = arena_list[i]->kind == REGION_GUARDED;
	return true;
}

size_t arena_purge_all_holes(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	size_t purged = 0;
	for (uint32_t a = 0; a < count; a++)
		for (unsigned c = 1; c < CLASS_COUNT; c++) purged += holes_purge_bin(&arena_list[a]->bins[c]);
	return purged;
}

void arena_release_all(size_t wanted) {
	depots_drain(0);
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	for (uint32_t a = 0; a < count; a++)
		for (unsigned c = 1; c < CLASS_COUNT; c++) bin_retire_empty(&arena_list[a]->bins[c], c);
	shelves_drain(0);
	huge_purge();
	heap_release(wanted);
}

size_t arena_purge_all(size_t keep_top) {
	depots_drain(0);
	shelves_drain(0);
	size_t purged = arena_purge_all_holes() + heap_trim(keep_top) + huge_purge();
	return purged + heap_purge();
}

void arena_lock_all(void) {
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	lock_close(RANK_BIN);
	depots_await();
	for (uint32_t a = 0; a < count; a++) {
		lock_await(&arena_list[a]->shelf.lock);
		for (unsigned c = 1; c < CLASS_COUNT; c++) lock_await(&arena_list[a]->bins[c].lock);
	}
	heap_lock();
}

void arena_unlock_all(void) { heap_unlock(); }

void arena_after_fork(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	arena_generation++;
	depots_found();
	for (uint32_t a = 0; a < count; a++) {
		lock_found(&arena_list[a]->shelf.lock);
		for (unsigned c = 1; c < CLASS_COUNT; c++) lock_found(&arena_list[a]->bins[c].lock);
	}
}
