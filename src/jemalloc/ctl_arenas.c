/* The nodes arena.<i>.* and arenas.*. Free memory is of all arenas together, and so is how long it stays:
 * what is set for one arena holds for all. */
#include "arena/arena.h"
#include "arena/holes.h"
#include "arena/huge.h"
#include "arenal/arenal.h"
#include "cache/tcache.h"
#include "jemalloc/ctl.h"
#include "jemalloc/made_arenas.h"

#include <string.h>

enum {
	INITIALIZED,
	PURGE,
	DECAY,
	RESET,
	DESTROY,
	DSS,
	DIRTY_DECAY,
	MUZZY_DECAY,
	OF_ALL, /* from here on, no number of an arena is in the name */
	DIRTY_DECAY_OF_ALL,
	MUZZY_DECAY_OF_ALL,
	ARENAS,
	PAGE,
	BIN_SIZE,
	BIN_BLOCKS,
	BIN_SPAN,
	BIN_SHARDS,
	CREATE,
	LOOK_UP,
};

/* ---- what is done ---- */

/* The first arena stands for what belongs to none. Of another one, the holes in its spans go, and all slices
 * that are free. */
static int purge(size_t number) {
	if (ctl_is_all(number) || number == 0) {
		arenal_purge();
		return 0;
	}
	for (unsigned c = 1; c < CLASS_COUNT; c++) holes_purge_bin(&arena_list[number]->bins[c]);
	heap_purge();
	return 0;
}

static int decay(void) {
	heap_decay(false);
	huge_decay();
	return 0;
}

static int reset(size_t number) {
	if (!made_is(number)) return EFAULT;
	made_reset((uint32_t)number);
	return 0;
}

static int destroy(size_t number) { return made_is(number) && made_destroy((uint32_t)number) ? 0 : EFAULT; }

/* ---- values ---- */

static const char *dss_of(size_t number) {
	const struct arena *arena = arena_by_number(number);
	return arena == NULL || arena->kind == REGION_BRK ? "primary" : "secondary";
}

/* Where an arena likes its memory cannot be changed; what it is may be said again. */
static int set_dss(size_t number, const char *asked) {
	return asked != NULL && strcmp(asked, dss_of(number)) == 0 ? 0 : EFAULT;
}

static int set_dirty_decay(int64_t milliseconds) {
	const int64_t most = 1000 * 1000 * 1000;
	if (arenal_set("decay", milliseconds > most ? most : milliseconds) != 0) return EFAULT;
	if (milliseconds != 0) return 0;
	huge_purge();
	heap_purge();
	return 0;
}

static int set_muzzy_decay(int64_t milliseconds) {
	if (milliseconds < -1) return EFAULT;
	return arenal_set("lazy_purge", milliseconds == -1) == 0 ? 0 : EFAULT;
}

static int get_of_bin(const struct ctl_at *at, uint64_t *value) {
	if (at->numbers[0] >= CLASS_COUNT - 1) return ENOENT;
	const struct size_class *c = &size_classes[at->numbers[0] + 1];
	switch (at->node->detail) {
	case BIN_SIZE: *value = c->size; return 0;
	case BIN_BLOCKS: *value = c->blocks; return 0;
	case BIN_SPAN: *value = c->slices * SLICE_SIZE; return 0;
	default: *value = 1; return 0;
	}
}

static int get(const struct ctl_at *at, uint64_t *value) {
	if (at->node->detail < OF_ALL && !ctl_is_arena(at->numbers[0])) return ENOENT;
	switch (at->node->detail) {
	case INITIALIZED: *value = true; return 0;
	case DSS: *value = (uintptr_t)dss_of(at->numbers[0]); return 0;
	case DIRTY_DECAY:
	case DIRTY_DECAY_OF_ALL: *value = (uint64_t)conf.decay; return 0;
	case MUZZY_DECAY:
	case MUZZY_DECAY_OF_ALL: *value = ctl_muzzy_decay(); return 0;
	case ARENAS: *value = ctl_arena_count(); return 0;
	case PAGE: *value = os_page_size; return 0;
	default: return get_of_bin(at, value);
	}
}

static int set(const struct ctl_at *at, uint64_t value) {
	if (at->node->detail < OF_ALL && !ctl_is_arena(at->numbers[0])) return ENOENT;
	switch (at->node->detail) {
	case PURGE: return purge(at->numbers[0]);
	case DECAY: return decay();
	case RESET: return reset(at->numbers[0]);
	case DESTROY: return destroy(at->numbers[0]);
	case DSS: return set_dss(at->numbers[0], (const char *)(uintptr_t)value);
	case DIRTY_DECAY:
	case DIRTY_DECAY_OF_ALL: return set_dirty_decay((int64_t)value);
	default: return set_muzzy_decay((int64_t)value);
	}
}

/* ---- arenas of the program's ---- */

/* Hooks that would bring memory of the program's own cannot be had. */
static int create(bool is_given, uint64_t *value) {
	if (is_given && *value != 0) return ENOENT;
	const uint32_t number = made_create();
	*value = number;
	return number != 0 ? 0 : EAGAIN;
}

static int ask(const struct ctl_at *at, bool is_given, uint64_t *value) {
	if (at->node->detail == CREATE) return create(is_given, value);
	if (!is_given) return EINVAL;
	return made_of_block((const void *)(uintptr_t)*value, value) ? 0 : EINVAL;
}

static const struct ctl_node nodes[] = {
	{ .name = "arena.*.initialized", CTL_BOOL, CTL_OWN, INITIALIZED },
	{ .name = "arena.*.purge", CTL_VOID, .detail = PURGE },
	{ .name = "arena.*.decay", CTL_VOID, .detail = DECAY },
	{ .name = "arena.*.reset", CTL_VOID, .detail = RESET },
	{ .name = "arena.*.destroy", CTL_VOID, .detail = DESTROY },
	{ .name = "arena.*.dss", CTL_STRING, CTL_OWN, DSS, .sets = true },
	{ .name = "arena.*.dirty_decay_ms", CTL_SIGNED, CTL_OWN, DIRTY_DECAY, .sets = true },
	{ .name = "arena.*.muzzy_decay_ms", CTL_SIGNED, CTL_OWN, MUZZY_DECAY, .sets = true },
	{ .name = "arenas.narenas", CTL_UNSIGNED, CTL_OWN, ARENAS },
	{ .name = "arenas.dirty_decay_ms", CTL_SIGNED, CTL_OWN, DIRTY_DECAY_OF_ALL, .sets = true },
	{ .name = "arenas.muzzy_decay_ms", CTL_SIGNED, CTL_OWN, MUZZY_DECAY_OF_ALL, .sets = true },
	{ .name = "arenas.quantum", CTL_SIZE, CTL_CONSTANT, MIN_ALIGN },
	{ .name = "arenas.page", CTL_SIZE, CTL_OWN, PAGE },
	{ .name = "arenas.tcache_max", CTL_SIZE, CTL_CONSTANT, SMALL_MAX },
	{ .name = "arenas.nbins", CTL_UNSIGNED, CTL_CONSTANT, CLASS_COUNT - 1 },
	{ .name = "arenas.nhbins", CTL_UNSIGNED, CTL_CONSTANT, CLASS_COUNT - 1 },
	{ .name = "arenas.bin.*.size", CTL_SIZE, CTL_OWN, BIN_SIZE },
	{ .name = "arenas.bin.*.nregs", CTL_UINT32, CTL_OWN, BIN_BLOCKS },
	{ .name = "arenas.bin.*.slab_size", CTL_SIZE, CTL_OWN, BIN_SPAN },
	{ .name = "arenas.bin.*.nshards", CTL_UINT32, CTL_OWN, BIN_SHARDS },
	/* large blocks have any number of slices: there are no classes of them */
	{ .name = "arenas.nlextents", CTL_UNSIGNED, CTL_CONSTANT, 0 },
	{ .name = "arenas.create", CTL_UNSIGNED, .detail = CREATE, .asks = true, .asked = CTL_POINTER },
	{ .name = "arenas.lookup", CTL_UNSIGNED, .detail = LOOK_UP, .asks = true, .asked = CTL_POINTER },
};
const struct ctl_subject ctl_arenas = { nodes, sizeof nodes / sizeof *nodes, get, set, ask };
