#include "harden/hard_map.h"

#include <string.h>

#include "arena/clear.h"
#include "arena/policy.h"
#include "arena/pressure.h"
#include "arena/thp.h"
#include "base/cap.h"
#include "base/conf.h"
#include "base/gate.h"
#include "base/probe.h"
#include "harden/hard_large.h"
#include "harden/hard_waiting.h"

static struct waiting waiting_of(const struct hard_block *b) {
	return (struct waiting){
		.block = b->address,
		.pages = hard_pages(b->size),
		.guard = hard_guard(b),
		.altered = b->more.altered,
	};
}

/* The caller counts the pages of one that does not wait. */
static void unmap(struct waiting w) {
	if (w.block == NULL) return;
	cap_give(w.kept);
	os_unmap(w.block - w.guard, waiting_extent(w));
	PROBE(huge_unmapped, w.block, w.pages);
}

void hard_unmap(const struct hard_block *b) {
	unmap(waiting_of(b));
	cap_give(hard_pages(b->size));
}

/* Closes the block for those who still have its address: it waits with its memory, or without. To clear
 * what was hardly used would take more memory than it had. */
static bool close_block(struct waiting *w, bool keep) {
	if (keep && looks_written(w->block, w->pages)) {
		memset(w->block, 0, w->pages);
		if (os_guard(w->block, w->pages)) w->kept = w->pages;
	}
	if (w->kept > 0) return true;
	if (os_decommit(w->block, w->pages) != DECOMMITTED) return false;
	os_name(w->block, w->pages, NAME_HUGE);
	return true;
}

static bool may_keep(size_t pages) {
	harden_lock();
	const bool room =
	    waiting_kept_bytes + pages <= max_size(HARD_KEPT_BYTES, hard_blocks.bytes / HARD_KEPT_SHARE);
	harden_unlock();
	return room && pages <= HARD_KEPT_MAX && !pressure_is_on();
}

/* A closed block waits. In front of one with a large alignment lies a long guard, of which a page is
 * enough now. */
static void let_wait(struct waiting w) {
	if (w.guard > os_page_size) {
		os_unmap(w.block - w.guard, w.guard - os_page_size);
		w.guard = os_page_size;
	}
	const size_t share = os_address_space_limit() / WAITING_SHARE;
	harden_lock();
	struct waiting leaves = waiting_put(w, share);
	do {
		hard_blocks_tell_pressure();
		harden_unlock();
		unmap(leaves);
		harden_lock();
		leaves = waiting_take_excess(share);
	} while (leaves.block != NULL);
	harden_unlock();
}

void hard_keep_address(const struct hard_block *b) { let_wait(waiting_of(b)); }

void hard_retire(const struct hard_block *b) {
	struct waiting w = waiting_of(b);
	if (close_block(&w, w.guard > 0 && !w.altered && may_keep(w.pages))) {
		cap_give(w.pages - w.kept);
		let_wait(w);
	} else {
		unmap(w);
		cap_give(w.pages);
	}
}

/* Gives back what waits at the place. Returns the bytes of memory that it kept. */
static size_t drop_waiting(uint32_t place, bool only_kept) {
	gate_enter();
	harden_lock();
	const struct waiting w = waiting_take_at(place, only_kept);
	hard_blocks_tell_pressure();
	harden_unlock();
	unmap(w);
	gate_leave();
	return w.kept;
}

/* A block that waited with its memory; NULL: there is none of this length. */
static char *reopen(size_t pages) {
	harden_lock();
	const struct waiting w = waiting_take_kept(pages);
	hard_blocks_tell_pressure();
	harden_unlock();
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
	for (uint32_t i = 0; i < WAITING_PLACES && waiting_kept_bytes > 0; i++) bytes += drop_waiting(i, true);
	return bytes;
}

void hard_count_pressure(size_t bytes) {
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

bool hard_map(struct hard_block *b, size_t align) {
	const size_t guard = max_size(align, os_page_size), pages = hard_pages(b->size);
	const bool may_guard = guard / os_page_size <= UINT32_MAX && hard_blocks.guarded < HARD_LARGE_GUARDED_MAX;
	b->address = may_guard && guard == os_page_size ? reopen(pages) : NULL;
	const bool reopened = b->address != NULL;
	if (!reopened && !cap_take(pages)) return false;
	if (b->address == NULL && may_guard) b->address = map_guarded(pages, guard);
	b->more.guard = b->address != NULL ? (uint32_t)(guard / os_page_size) : 0;
	if (b->address == NULL) b->address = os_map(pages, guard);
	if (b->address == NULL) cap_give(pages);
	if (b->address == NULL) return false;
	if (!reopened) os_name(b->address - hard_guard(b), waiting_extent(waiting_of(b)), NAME_HUGE);
	thp_decline_block(b->address, pages);
	PROBE(huge_mapped, b->address, pages);
	return true;
}
