/* All blocks of an arena at once. */
#include "arena/arena.h"

#include "arena/bare.h"
#include "arena/bin.h"
#include "base/bitmap.h"
#include "base/gate.h"

/* Takes the span out of its bin as if all its blocks had come back. Its bitmap still says which ones were
 * out. Under the bin's lock. */
static void take_out(struct bin *bin, struct span *s, struct span **taken) {
	span_leave_alone(s);
	bin->blocks_out -= size_classes[s->class_].blocks - s->free_count;
	bin->spans--;
	s->listed = false;
	span_set_bin(s, NULL);
	s->next = *taken;
	*taken = s;
}

static void take_list(struct bin *bin, struct span *list, struct span **taken) {
	for (struct span *s = list, *next; s != NULL; s = next) {
		next = s->next;
		take_out(bin, s, taken);
	}
}

/* Those that are away, being purged by somebody else, are not among them. Returns how many these are. */
static uint32_t take_all(struct arena *arena, unsigned class_, struct span **taken) {
	struct bin *bin = &arena->bins[class_];
	lock_take(&bin->lock, RANK_BIN);
	take_list(bin, bin->partial, taken);
	take_list(bin, arena->full[class_], taken);
	bin->partial = bin->last = arena->full[class_] = NULL;
	bin_walk(bin)->next = bin_walk(bin)->next_piece = NULL;
	bin->low_blocks = 0; /* that so many are free now is nothing to look for holes for */
	const uint32_t away = bin->spans;
	lock_drop(&bin->lock, RANK_BIN);
	return away;
}

/* The heap profile forgets the blocks that were out. */
static void forget_samples(const struct span *s, void (*freed)(const void *)) {
	const struct size_class *c = &size_classes[s->class_];
	for (size_t n = bit_find(s->free_blocks, 0, c->blocks, false); n < c->blocks;
	     n = bit_find(s->free_blocks, n + 1, c->blocks, false))
		freed(s->start + n * c->size);
}

/* The span as a new one of its bin, on memory that was used: no block has a mark, and those that have one all
 * the same, since they were freed before, lose it when they are taken. Whether its pages are in memory is no
 * matter: who takes blocks of this arena writes no mark to them before they are handed out. */
static void renew(struct span *s) {
	const struct size_class *c = &size_classes[s->class_];
	s->backed = true;
	s->clean = false;
	for (size_t w = 0; w * 64 < c->blocks; w++) s->free_blocks[w] = bits_in_word(w, 0, c->blocks);
	s->free_count = c->blocks;
	s->scan = 0;
	bare_all(s);
}

static void put_back(struct bin *bin, struct span *kept) {
	lock_take(&bin->lock, RANK_BIN);
	for (struct span *s = kept, *next; s != NULL; s = next) {
		next = s->next;
		span_set_bin(s, bin);
		span_touch(page_map_region((uintptr_t)s->start), s, holes_tick());
		bin_link_first(bin, s);
		bin->spans++;
	}
	lock_drop(&bin->lock, RANK_BIN);
}

static void free_all(struct bin *bin, struct span *taken, void (*freed)(const void *), bool keep) {
	struct span *kept = NULL;
	for (struct span *s = taken, *next; s != NULL; s = next) {
		next = s->next;
		const bool was_used = s->free_count < size_classes[s->class_].blocks;
		if (freed != NULL) forget_samples(s, freed);
		if (keep && was_used && !s->hard) {
			renew(s);
			s->next = kept;
			kept = s;
		} else {
			bin_free_span(s);
		}
	}
	put_back(bin, kept);
}

/* Inside of the gate no fork comes in between, but while it waits. What was kept and is met again, since
 * others were away, is empty, and goes: memory is wanted back just then. */
static void reset_class(struct arena *arena, unsigned class_, void (*freed)(const void *), bool keep) {
	struct bin *bin = &arena->bins[class_];
	for (;;) {
		struct span *taken = NULL;
		gate_enter();
		const uint32_t away = take_all(arena, class_, &taken);
		free_all(bin, taken, freed, keep);
		gate_leave();
		if (away == 0) return;
		os_pause(20);
	}
}

static bool has_spans(struct bin *bin) {
	lock_take(&bin->lock, RANK_BIN);
	const bool has = bin->spans > 0;
	lock_drop(&bin->lock, RANK_BIN);
	return has;
}

void arena_reset(struct arena *arena, void (*freed)(const void *block), bool keep) {
	for (unsigned c = 1; c < CLASS_COUNT; c++)
		if (has_spans(&arena->bins[c])) reset_class(arena, c, freed, keep);
}
