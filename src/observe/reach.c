/* Roots are found in the text of /proc/self/maps (reach_roots.c), and the rest is a search through a graph,
 * with a list of what is still to be looked at. Marks are bitmaps, one bit for each 16 bytes, which come by
 * the windows of 64 MiB in which there are blocks. All of it stays mapped: the process is about to end. */
#include "observe/reach.h"

#include "arena/heap.h"
#include "arena/huge.h"
#include "base/bitmap.h"
#include "base/conf.h"
#include "base/os.h"
#include "base/sandbox.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "observe/reach_inner.h"

/* Milliseconds that it takes at most, while threads stand still. */
#define PATIENCE 20000

/* So many small blocks are looked at at once: it is the calls of the kernel that cost. */
#define PIECES 128
#define PIECE_MOST 512

#define WINDOWS ((size_t)1 << (47 - REGION_SHIFT))
#define MARKS (REGION_SIZE / 16 / 8) /* bytes of marks for a window */

struct reach_state reach;

/* One pass: finds what has no mark in `barred` or `marks`, and marks it there. */
static struct { uint64_t **marks, **barred; } pass;

static uint64_t **found, **behind; /* the marks of the two passes */

static uintptr_t *todo; /* starts of blocks that are to be looked at */
static size_t todo_count, todo_room;

/* ---- marks ---- */

static bool is_marked(uint64_t *const *marks, uintptr_t address) {
	const uint64_t *map = marks[address >> REGION_SHIFT];
	return map != NULL && bit_get(map, (address & (REGION_SIZE - 1)) / 16);
}

static void unmark(uint64_t *const *marks, uintptr_t address) {
	uint64_t *map = marks[address >> REGION_SHIFT];
	if (map != NULL) bit_clear(map, (address & (REGION_SIZE - 1)) / 16);
}

static void mark(uint64_t **marks, uintptr_t address) {
	uint64_t **map = &marks[address >> REGION_SHIFT];
	if (*map == NULL) *map = os_map(MARKS, os_page_size);
	if (*map == NULL)
		reach.problem = "there is no memory for it";
	else
		bit_set(*map, (address & (REGION_SIZE - 1)) / 16);
}

/* ---- blocks ---- */

static bool small_block(const struct span *s, uintptr_t address, struct mapping *out) {
	const struct size_class *c = &size_classes[s->class_];
	const size_t number = (address - (uintptr_t)s->start) / c->size;
	if (s->hard || number >= c->blocks || bit_get(s->free_blocks, number)) return false;
	*out = (struct mapping){ s->start + number * c->size, c->size };
	return true;
}

/* What is freed and lies in a thread's cache looks like a block in use: it may lead to others that are lost,
 * and only if something points to it. */
static bool block_in_region(const struct region *r, uintptr_t address, struct mapping *out) {
	const size_t n = slice_number(address);
	const struct span *s = &r->spans[n];
	if (!bit_get(r->ours, n)) return false;
	if (s->kind == SPAN_CONTINUED) s -= s->head;
	if (s->kind == SPAN_NONE && bit_get(r->free, n)) return false;
	while (s->kind == SPAN_NONE && s > r->spans) s--; /* the inside of a run */
	if (s->kind == SPAN_SMALL) return s + s->slices > &r->spans[n] && small_block(s, address, out);
	if (s->kind != SPAN_RUN || s + s->slices <= &r->spans[n]) return false;
	*out = (struct mapping){ s->start, s->slices * SLICE_SIZE };
	return true;
}

const struct mapping *reach_next_place(uintptr_t address) {
	size_t from = 0, to = reach.place_count;
	while (from < to) {
		const size_t middle = (from + to) / 2;
		if ((uintptr_t)reach.places[middle].address + reach.places[middle].size <= address)
			from = middle + 1;
		else
			to = middle;
	}
	return from < reach.place_count ? &reach.places[from] : NULL;
}

static bool block_at(uintptr_t address, struct mapping *out) {
	if (address >> REGION_SHIFT >= WINDOWS) return false;
	const struct region *r = page_map_region(address);
	if (r != NULL && block_in_region(r, address, out)) return true;
	const struct mapping *place = reach_next_place(address);
	if (place == NULL || (uintptr_t)place->address > address) return false;
	*out = *place;
	return true;
}

/* ---- the search ---- */

static void put(uintptr_t block) {
	if (todo_count == todo_room) {
		const size_t room = todo_room > 0 ? 2 * todo_room : 64 * KIB;
		uintptr_t *more = todo_room > 0 ? os_remap(todo, todo_room * sizeof *todo, room * sizeof *todo, true)
		                                : os_map(room * sizeof *todo, os_page_size);
		if (more == NULL) {
			reach.problem = "there is no memory for it";
			return;
		}
		todo = more;
		todo_room = room;
	}
	todo[todo_count++] = block;
}

void reach_word(uintptr_t word) {
	struct mapping block;
	if (word < reach.lowest || word >= reach.highest || !block_at(word, &block)) return;
	const uintptr_t start = (uintptr_t)block.address;
	if (is_marked(pass.marks, start) || (pass.barred != NULL && is_marked(pass.barred, start))) return;
	mark(pass.marks, start);
	put(start);
}

static bool is_late(void) {
	if (os_milliseconds() >= reach.until) reach.problem = "it takes too long";
	return reach.problem != NULL;
}

static void follow(void) {
	struct os_piece pieces[PIECES];
	while (todo_count > 0 && !is_late()) {
		size_t count = 0;
		struct mapping block;
		while (count < PIECES && todo_count > 0) {
			if (!block_at(todo[--todo_count], &block)) continue;
			if (block.size > PIECE_MOST)
				reach_look_through((uintptr_t)block.address, (uintptr_t)block.address + block.size);
			else
				pieces[count++] = (struct os_piece){ (uintptr_t)block.address, block.size };
		}
		reach_look_at_pieces(pieces, count);
	}
}

static void follow_block(const struct reach_block *block) {
	reach_look_through(block->address, block->address + block->size);
	follow();
}

/* ---- what there is ---- */

static void widen(uintptr_t from, uintptr_t to) {
	if (from < reach.lowest) reach.lowest = from;
	if (to > reach.highest) reach.highest = to;
}

/* By address; heap sort. */
static void sift(struct mapping *list, size_t at, size_t count) {
	for (size_t child; (child = 2 * at + 1) < count; at = child) {
		if (child + 1 < count && list[child + 1].address > list[child].address) child++;
		if (list[at].address >= list[child].address) return;
		const struct mapping larger = list[child];
		list[child] = list[at];
		list[at] = larger;
	}
}

static void sort(struct mapping *list, size_t count) {
	for (size_t i = count / 2; i-- > 0;) sift(list, i, count);
	for (size_t end = count; end-- > 1;) {
		const struct mapping last = list[end];
		list[end] = list[0];
		list[0] = last;
		sift(list, 0, end);
	}
}

/* Huge and guarded blocks, of which there is a list. What comes meanwhile is missed. */
static bool collect_places(void) {
	const size_t room = huge_mappings(NULL, 0) + guard_blocks(NULL, 0) + 1024;
	reach.places = os_map(ALIGN_UP(room * sizeof *reach.places, os_page_size), os_page_size);
	if (reach.places == NULL) return false;
	reach.places_end = reach.places + room;
	size_t count = min_size(huge_mappings(reach.places, room), room);
	count += min_size(guard_blocks(reach.places + count, room - count), room - count);
	reach.place_count = count;
	sort(reach.places, count);
	for (size_t i = 0; i < count; i++)
		widen((uintptr_t)reach.places[i].address, (uintptr_t)reach.places[i].address + reach.places[i].size);
	for (const struct region *r = heap_regions(); r != NULL; r = r->next)
		widen(r->base, r->base + REGION_SIZE);
	return true;
}

static void sort_out(struct reach_block *blocks, size_t count, const uint64_t *ignored) {
	pass.marks = found;
	reach_roots();
	follow();
	for (size_t i = 0; i < count && reach.problem == NULL; i++) {
		if (is_marked(found, blocks[i].address) || !bit_get(ignored, blocks[i].stack)) continue;
		blocks[i].reach = REACH_IGNORED;
		follow_block(&blocks[i]);
	}
	pass.marks = behind;
	pass.barred = found;
	for (size_t i = 0; i < count && reach.problem == NULL; i++) {
		struct reach_block *b = &blocks[i];
		if (b->reach == REACH_IGNORED) continue;
		b->reach = is_marked(found, b->address) ? REACH_FOUND : REACH_LOST;
		if (b->reach == REACH_FOUND || is_marked(behind, b->address)) continue;
		mark(found, b->address); /* for now: a ring does not lead to its first one */
		follow_block(b);
		unmark(found, b->address);
	}
	for (size_t i = 0; i < count; i++)
		if (blocks[i].reach == REACH_LOST && is_marked(behind, blocks[i].address))
			blocks[i].reach = REACH_LOST_BEHIND;
}

const char *reach_find(struct reach_block *blocks, size_t count, const uint64_t *ignored, size_t *missing) {
	if (harden_is_on) return "in hardened mode, it is not known what points to what";
	/* A filter may end the process for what nobody else calls, unless somebody knows that it does not. */
	if (sandbox_is_on() || (conf.sandbox != 0 && os_is_filtered()))
		return "there is a filter of system calls";
	reach = (struct reach_state){ .lowest = UINTPTR_MAX, .until = os_milliseconds() + PATIENCE };
	found = os_map(WINDOWS * sizeof *found, os_page_size);
	behind = os_map(WINDOWS * sizeof *behind, os_page_size);
	if (found == NULL || behind == NULL || !collect_places()) return "there is no memory for it";
	reach.own = blocks;
	reach.own_end = blocks + count;
	if (!standstill_begin(&reach.others)) return "the other threads could not be made to stand still";
	reach.pagemap = os_open_file("/proc/self/pagemap");
	sort_out(blocks, count, ignored);
	if (reach.pagemap >= 0) os_close(reach.pagemap);
	standstill_end();
	*missing = reach.others.missing;
	return reach.problem;
}
