#include "harden/hard_large.h"

#include <string.h>

#include "arena/report.h"
#include "base/cap.h"
#include "base/gate.h"
#include "base/probe.h"
#include "cache/hooks.h"
#include "cache/purger.h"
#include "cache/slow_calls.h"
#include "harden/canary.h"
#include "harden/hard_blocks.h"
#include "harden/hard_map.h"

/* ---- canaries ---- */

/* Less than a word of the last page may be left behind the block, or nothing. */
static bool has_word_behind(size_t size) { return hard_pages(size) - size >= CANARY_SIZE; }

/* The last word of the page, with its canary in place behind the block. */
static uint64_t last_word(const struct hard_block *b) {
	const uint64_t word = load_word(b->address + hard_pages(b->size) - CANARY_SIZE);
	if (b->size == hard_pages(b->size)) return word;
	const uint64_t mask = ~UINT64_C(0) << b->size % CANARY_SIZE * 8;
	return (word & ~mask) | (b->more.canary & mask);
}

static void fill_tail(const struct hard_block *b) {
	char *block = b->address;
	if (has_word_behind(b->size))
		canary_fill(block, b->more.canary, b->size, hard_pages(b->size));
	else
		store_word(block + hard_pages(b->size) - CANARY_SIZE, last_word(b));
}

static bool tail_intact(const struct hard_block *b) {
	const char *block = b->address;
	if (has_word_behind(b->size)) return canary_intact(block, b->more.canary, b->size, hard_pages(b->size));
	return last_word(b) == load_word(block + hard_pages(b->size) - CANARY_SIZE);
}

/* ---- blocks ---- */

void *large_hard_alloc(size_t align, size_t size, enum family family) {
	if (size > PTRDIFF_MAX - 2 * os_page_size || align > PTRDIFF_MAX - size - 2 * os_page_size) return NULL;
	struct hard_block b = { .size = size, .more.family = (uint16_t)family };
	const uint64_t begin = slow_call_begins();
	if (!hard_map(&b, align) && !(large_hard_release() && hard_map(&b, align))) return NULL;
	hard_count_pressure(hard_pages(size));
	b.more.canary = hard_block_draw_canary(b.address);
	fill_tail(&b);
	const bool added = hard_block_add(&b);
	cache_hook_call(&cache_hooks.slow_moment);
	if (!added) {
		hard_unmap(&b);
		return NULL;
	}
	slow_call_ends(SLOW_MALLOC_LARGE, begin);
	return b.address;
}

/* Of a block that the program closed, or a part of it, the canary cannot be read. */
static void check(const struct hard_block *b, const char *function) {
	if (unlikely(!b->more.altered && !tail_intact(b)))
		report_end(function, b->address, "something wrote behind the block's %zu bytes", b->size);
}

bool large_hard_free(void *block, const struct claim *claim) {
	struct hard_block b;
	bool freed;
	const uint64_t begin = slow_call_begins();
	gate_enter();
	if (!hard_block_take_out(block, &b, false, &freed)) {
		gate_leave();
		if (freed) report_end(claim->function, block, "the large block was freed already");
		return false;
	}
	harden_check_claim(block, b.size, b.more.family, claim);
	check(&b, claim->function);
	hard_retire(&b);
	gate_leave();
	slow_call_ends(SLOW_FREE_LARGE, begin);
	purger_poke();
	return true;
}

bool large_hard_hold(void *block, size_t *size, enum family *family) {
	struct hard_block b;
	bool freed;
	gate_enter();
	const bool mine = hard_block_set_held(block, true, &b, &freed);
	gate_leave();
	if (!mine && freed) report_end("realloc", block, "the large block was freed already");
	if (!mine) return false;
	check(&b, "realloc");
	*size = b.size;
	*family = b.more.family;
	return true;
}

void large_hard_let_go(void *block) {
	struct hard_block b;
	bool freed;
	hard_block_set_held(block, false, &b, &freed);
}

void large_hard_free_held(void *block) {
	struct hard_block b;
	bool freed;
	const uint64_t begin = slow_call_begins();
	gate_enter();
	if (hard_block_take_out(block, &b, true, &freed)) hard_retire(&b);
	gate_leave();
	slow_call_ends(SLOW_FREE_LARGE, begin);
	purger_poke();
}

bool large_hard_size(const void *block, size_t *size, enum family *family) {
	struct hard_block b;
	if (!hard_block_look_up(block, &b)) return false;
	*size = b.size;
	*family = b.more.family;
	return true;
}

/* What was canary is the program's now. */
static void settle(const struct hard_block *b, size_t old) {
	if (b->size > old) memset(b->address + old, 0, min_size(b->size, hard_pages(old)) - old);
	fill_tail(b);
}

/* Moves it between new guards; *b becomes what it is then. False: it is as it was. */
static bool move_to_new(const struct hard_block *old, struct hard_block *b) {
	const size_t pages = hard_pages(b->size), all = pages + 2 * os_page_size;
	char *block = old->address, *start = os_reserve(all, os_page_size);
	if (start == NULL) return false;
	os_name(start, all, NAME_HUGE);
	b->address = start + os_page_size;
	b->more.guard = 1;
	b->more.held = false;
	/* In the table before it is there, for nothing may fail afterwards. Nobody else knows the address yet. */
	const bool added = hard_block_add(b);
	if (!added || !os_remap_to(block, hard_pages(old->size), pages, b->address)) {
		bool freed;
		struct hard_block none;
		if (added) hard_block_take_out(b->address, &none, false, &freed);
		os_unmap(start, all);
		return false;
	}
	return true;
}

static bool move_block(const struct hard_block *old, struct hard_block *b) {
	const size_t before = hard_pages(old->size), pages = hard_pages(b->size);
	if (pages > before && !cap_take(pages - before)) return false;
	const bool moved = move_to_new(old, b);
	if (moved && pages < before) cap_give(before - pages);
	if (!moved && pages > before) cap_give(pages - before);
	return moved;
}

void *large_hard_resize(void *block, size_t size) {
	struct hard_block old, b, left;
	bool freed;
	if (size > PTRDIFF_MAX - 2 * os_page_size) return NULL;
	const uint64_t begin = slow_call_begins();
	gate_enter();
	if (!hard_block_look_up(block, &old)) report_end("realloc", block, "the large block was freed already");
	b = old;
	b.size = size;
	if (hard_pages(size) == hard_pages(old.size)) {
		settle(&b, old.size);
		hard_block_set_size(block, size);
		gate_leave();
		slow_call_ends(SLOW_REALLOC_LARGE, begin);
		return block;
	}
	if (old.more.guard == 0 || !move_block(&old, &b)) {
		gate_leave();
		return NULL;
	}
	/* The kernel has moved the pages: what is left at the old place are its guards. Its entry goes first.
	 * The old address waits like a freed one, unless somebody else has it already. */
	hard_block_take_out(block, &left, true, &freed);
	if (os_map_at(block, hard_pages(old.size), false)) {
		hard_keep_address(&old);
	} else {
		os_unmap((char *)block - hard_guard(&old), hard_guard(&old));
		os_unmap((char *)block + hard_pages(old.size), os_page_size);
	}
	gate_leave();
	char *moved = b.address;
	PROBE(huge_resized, block, hard_pages(old.size), moved, hard_pages(size));
	settle(&b, old.size);
	if (size > old.size) hard_count_pressure(hard_pages(size) - hard_pages(old.size));
	cache_hook_call(&cache_hooks.slow_moment);
	slow_call_ends(SLOW_REALLOC_LARGE, begin);
	return moved;
}
