#include "arena/huge.h"

#include "arena/heap.h"
#include "arena/huge_blocks.h"
#include "arena/huge_cache.h"
#include "arena/huge_stuck.h"
#include "arena/policy.h"
#include "arena/pressure.h"
#include "arena/report.h"
#include "arena/thp.h"
#include "base/cap.h"
#include "base/conf.h"
#include "base/gate.h"
#include "base/probe.h"

/* Origin 0: a new one. */
static bool add(void *block, size_t size, uint32_t origin) {
	lock_take(&huge.lock, RANK_HUGE);
	const bool done = huge_block_room();
	if (done) huge_block_put(block, size, (struct huge_more){ .origin = origin });
	lock_drop(&huge.lock, RANK_HUGE);
	return done;
}

static size_t take_out_to_resize(const void *block, struct huge_more *more) {
	lock_take(&huge.lock, RANK_HUGE);
	const size_t size = huge_block_take_out(block, more);
	huge.resizing += size > 0;
	lock_drop(&huge.lock, RANK_HUGE);
	return size;
}

static void put_back(void *block, size_t size, struct huge_more more) {
	lock_take(&huge.lock, RANK_HUGE);
	huge.resizing--;
	/* It has an entry without that, too; but it leaves a mark each time, and they must not fill the table. */
	huge_block_room();
	huge_block_put(block, size, more);
	lock_drop(&huge.lock, RANK_HUGE);
}

/* A share of what is in use, or what the tunable says. Large buffers come and go, and each page fault that
 * they are spared is worth more than the page. */
static size_t cache_limit(uint64_t now) {
	if (conf.dirty_max >= 0) return pressure_bound((size_t)conf.dirty_max);
	if (conf.decay == 0) return 0;
	const size_t share =
	    max_size(huge.bytes / 4 * HUGE_KEPT_QUARTERS, wave_room(&huge.wave, huge.bytes, now));
	return pressure_bound(max_size(share, DIRTY_MIN));
}

static struct piece take_cached(size_t size, size_t align) {
	lock_take(&huge.lock, RANK_HUGE);
	const struct piece p =
	    likely(align <= os_page_size) ? huge_cache_take(size) : huge_cache_take_aligned(size, align);
	lock_drop(&huge.lock, RANK_HUGE);
	return p;
}

static size_t take_cached_behind(struct piece block, size_t least, size_t most) {
	lock_take(&huge.lock, RANK_HUGE);
	size_t size = huge_cache_take_behind(block, least, most);
	lock_drop(&huge.lock, RANK_HUGE);
	return size;
}

/* Apart, for the compiler takes a probe for a long piece of code, and would not inline unmap_all, which
 * mostly has nothing to do. */
COLD static void unmap(struct mapping m, bool locked) {
	PROBE(huge_unmapped, m.address, m.size);
	cap_give(m.size); /* in either case: below, it is purged, if it can be */
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

/* Drops the lock, and unmaps what has left the cache: no fork comes in between. One that is under way
 * waits for the lock: then this is done first. */
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

/* Drops the lock, and unmaps a mapping that the program may have changed: nobody else can have it, and
 * where it cannot be unmapped, it is lost. */
static size_t drop_and_forget(struct mapping m) {
	const bool inside = gate_try_enter();
	PROBE(huge_unmapped, m.address, m.size);
	cap_give(m.size);
	if (!inside) os_unmap(m.address, m.size);
	lock_drop(&huge.lock, RANK_HUGE);
	if (inside) {
		os_unmap(m.address, m.size);
		gate_leave();
	}
	heap_count_purged(m.size);
	return m.size;
}

/* What is kept beyond so many bytes leaves the cache. Under the lock. Returns how many victims there are. */
static size_t keep_only(size_t bytes, struct mapping *victims) {
	return huge_cache_put((struct piece){ NULL, 0, 0 }, ALIGN_DOWN(bytes, os_page_size), victims);
}

size_t huge_purge(void) {
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	lock_take(&huge.lock, RANK_HUGE);
	size_t bytes = huge_cache_bytes();
	drop_and_unmap(victims, keep_only(0, victims));
	unmap_stuck();
	return bytes;
}

/* Half of what was kept for all of the last interval leaves the cache. Under the lock. Returns how many
 * victims there are. */
static size_t decay(struct mapping *victims, uint64_t now) {
	if (!wave_next(&huge.wave, huge.bytes, now)) return 0;
	pressure_tick(now);
	size_t unused = huge_cache_least();
	if (unused == 0 || conf.decay < 0) return 0;
	return keep_only(huge_cache_bytes() - decay_part(unused), victims);
}

/* Puts the mapping into the cache, drops the lock, and unmaps what has no place there any more. */
static void keep(struct piece p, uint64_t now) {
	struct mapping victims[2 * (HUGE_CACHE_ENTRIES + 1)];
	size_t count = decay(victims, now);
	count += huge_cache_put(p, cache_limit(now), victims + count);
	allowance_charge(drop_and_unmap(victims, count));
}

void huge_give_idle(void) {
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	if (conf.decay < 0 || conf.dirty_max >= 0) return;
	lock_take(&huge.lock, RANK_HUGE);
	const size_t unused = huge_cache_least();
	drop_and_unmap(victims, unused > 0 ? keep_only(huge_cache_bytes() - unused, victims) : 0);
}

size_t huge_decay(void) {
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	const uint64_t now = os_milliseconds(); /* nobody waits for the clock */
	lock_take(&huge.lock, RANK_HUGE);
	size_t count = decay(victims, now), left = huge_cache_bytes();
	drop_and_unmap(victims, count);
	unmap_stuck();
	return left;
}

COLD static void count_fresh(size_t bytes) {
	pressure_count(bytes);
	pressure_poke();
}

/* os_remap for a longer mapping, within the cap. */
static void *grow(void *address, size_t old_size, size_t size, bool may_move) {
	if (!cap_take(size - old_size)) return NULL;
	void *grown = os_remap(address, old_size, size, may_move);
	if (grown == NULL) cap_give(size - old_size);
	return grown;
}

/* From the cache: *size becomes what the mapping really has, *origin 0 if mremap moved it. The content of
 * the first *stale bytes is whatever it was. */
static void *map_cached(size_t *size, size_t align, uint32_t *origin, size_t *stale) {
	const struct piece p = take_cached(*size, align);
	*stale = p.size;
	*origin = p.origin;
	if (p.address == NULL) return NULL;
	if (p.size < *size) {
		void *grown = grow(p.address, p.size, *size, true);
		/* Refused, as where the program changed a part of it behind our back. Keeping it for smaller
		 * blocks costs more memory than the faults are worth. */
		if (grown == NULL) {
			PROBE(huge_unmapped, p.address, p.size);
			os_unmap(p.address, p.size);
			cap_give(p.size);
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
	if (!cap_take(size) && !(huge_purge() > 0 && cap_take(size))) return NULL;
	void *block = os_map(size, align);
	/* The limit that was hit may be one that the cache counts against. */
	if (block == NULL && huge_purge() > 0) block = os_map(size, align);
	if (block == NULL) block = map_stuck(size, align, stale);
	if (block == NULL) cap_give(size);
	if (block == NULL) return NULL;
	os_name(block, size, NAME_HUGE);
	thp_decline_block(block, size);
	PROBE(huge_mapped, block, size);
	count_fresh(size);
	return block;
}

void *huge_alloc(size_t size, size_t align, size_t *stale) {
	if (size > PTRDIFF_MAX - os_page_size) return NULL;
	size = ALIGN_UP(size, os_page_size);
	uint32_t origin = 0;
	void *block = map_cached(&size, align, &origin, stale);
	if (block == NULL) {
		origin = 0;
		block = map_fresh(size, max_size(align, os_page_size), stale);
	}
	if (block == NULL) return NULL;
	if (add(block, size, origin)) return block;
	os_unmap(block, size);
	cap_give(size);
	return NULL;
}

bool huge_free(void *block) {
	const uint64_t now = os_milliseconds();
	struct huge_more more;
	lock_take(&huge.lock, RANK_HUGE);
	const size_t size = huge_block_take_out(block, &more);
	if (size == 0)
		lock_drop(&huge.lock, RANK_HUGE);
	else if (unlikely(more.altered))
		allowance_charge(drop_and_forget((struct mapping){ block, size }));
	else
		keep((struct piece){ block, size, more.origin }, now);
	return size > 0;
}

/* The place of the block then; NULL: it is as it was. */
static void *resize(void *block, size_t size, bool may_move, const char *function) {
	if (size > PTRDIFF_MAX - os_page_size) return NULL;
	size = ALIGN_UP(size, os_page_size);
	/* Out of the table while it moves: its old address may be somebody else's before we know its new one. */
	struct huge_more more;
	gate_enter();
	const size_t old = take_out_to_resize(block, &more);
	if (unlikely(old == 0)) {
		gate_leave();
		report_pointer(function, block, NULL);
	}
	size_t roomy = ALIGN_UP(size + size / HUGE_GROWTH_SHARE, os_page_size);
	const bool may_join = size > old && roomy < PTRDIFF_MAX && !more.altered;
	const struct piece whole = { block, old, more.origin };
	const size_t behind = may_join ? take_cached_behind(whole, size - old, roomy - old) : 0;
	void *moved = NULL;
	if (behind > 0) {
		moved = block;
		size = old + behind;
	} else if (size > old && roomy < PTRDIFF_MAX) {
		moved = grow(block, old, roomy, may_move);
		if (moved != NULL) size = roomy;
	}
	if (moved == NULL)
		moved = size > old ? grow(block, old, size, may_move) : os_remap(block, old, size, may_move);
	if (moved != NULL && size < old) cap_give(old - size);
	if (moved != NULL && moved != block) more.origin = 0;
	put_back(moved != NULL ? moved : block, moved != NULL ? size : old, more);
	gate_leave();
	if (moved != NULL) PROBE(huge_resized, block, old, moved, size);
	if (moved != NULL && size < old) heap_count_purged(old - size);
	if (moved != NULL && size > old + behind) count_fresh(size - old - behind);
	return moved;
}

void *huge_resize(void *block, size_t size) { return resize(block, size, true, "realloc"); }

bool huge_resize_there(void *block, size_t size) {
	return resize(block, size, false, "arenal_expand") != NULL;
}
