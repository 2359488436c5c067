/* All blocks of an arena at once. */
#include "arena/arena.h"

#include "arena/bin.h"
#include "base/bitmap.h"
#include "base/gate.h"

/* Takes the span out of its bin as if all its blocks had come back. Its bitmap still says which ones were
 * out. Under the bin's lock. */
static void take_out(struct bin *bin, struct span *s, struct span **taken) {
	bin->blocks_out -= size_classes[s->class_].blocks - s->free_count;
	bin->spans--;
	s->listed = false;
	s->bin = NULL;
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

static void free_all(struct span *taken, void (*freed)(const void *)) {
	for (struct span *s = taken, *next; s != NULL; s = next) {
		next = s->next;
		if (freed != NULL) forget_samples(s, freed);
		bin_free_span(s);
	}
}

/* Inside of the gate no fork comes in between, but while it waits. */
static void reset_class(struct arena *arena, unsigned class_, void (*freed)(const void *)) {
	for (;;) {
		struct span *taken = NULL;
		gate_enter();
		const uint32_t away = take_all(arena, class_, &taken);
		free_all(taken, freed);
		gate_leave();
		if (away == 0) return;
		os_pause(20);
	}
}

void arena_reset(struct arena *arena, void (*freed)(const void *block)) {
	for (unsigned c = 1; c < CLASS_COUNT; c++)
		if (arena->bins[c].spans > 0) reset_class(arena, c, freed);
}
