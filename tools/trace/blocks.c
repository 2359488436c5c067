#include "blocks.h"

#include <stdlib.h>
#include <string.h>

/* Blocks at one address. There may be two for a moment: clocks of two CPUs, or an address with its low bits cut off. */
#define TWINS_MAX 8

static size_t place_of(const struct blocks *b, uint64_t address) {
	return (size_t)(address * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (b->capacity - 1);
}

static void allocate(struct blocks *b, size_t capacity) {
	b->capacity = capacity;
	b->table = take_more(NULL, capacity, sizeof *b->table);
	for (size_t i = 0; i < capacity; i++) b->table[i].address = BLOCK_NONE;
}

void blocks_init(struct blocks *b, const struct trace *t) {
	*b = (struct blocks){ 0 };
	allocate(b, 1024);
	b->moving = take(t->thread_count, sizeof *b->moving);
	for (size_t i = 0; i < t->thread_count; i++) b->moving[i].address = BLOCK_NONE;
}

static void put(struct blocks *b, const struct block *block) {
	size_t i = place_of(b, block->address);
	while (b->table[i].address != BLOCK_NONE) i = (i + 1) & (b->capacity - 1);
	b->table[i] = *block;
	b->count++;
	b->bytes += block->size;
}

static bool remove_oldest(struct blocks *b, uint64_t address, struct block *removed) {
	size_t found = SIZE_MAX;
	for (size_t i = place_of(b, address); b->table[i].address != BLOCK_NONE; i = (i + 1) & (b->capacity - 1))
		if (b->table[i].address == address && (found == SIZE_MAX || b->table[i].number < b->table[found].number)) found = i;
	if (found == SIZE_MAX) return false;
	*removed = b->table[found];
	b->count--;
	b->bytes -= removed->size;
	/* What follows without a gap, and would not be found behind one, moves up. */
	size_t gap = found;
	for (size_t i = (gap + 1) & (b->capacity - 1); b->table[i].address != BLOCK_NONE; i = (i + 1) & (b->capacity - 1)) {
		const size_t home = place_of(b, b->table[i].address);
		if (((i - home) & (b->capacity - 1)) < ((i - gap) & (b->capacity - 1))) continue;
		b->table[gap] = b->table[i];
		gap = i;
	}
	b->table[gap].address = BLOCK_NONE;
	return true;
}

static void grow(struct blocks *b) {
	struct block *old = b->table;
	const size_t capacity = b->capacity, count = b->count;
	const uint64_t bytes = b->bytes;
	allocate(b, capacity * 2);
	for (size_t i = 0; i < capacity; i++)
		if (old[i].address != BLOCK_NONE) put(b, &old[i]);
	b->count = count;
	b->bytes = bytes;
	free(old);
}

static struct block add(struct blocks *b, const struct event *e) {
	if (b->count * 2 >= b->capacity) grow(b);
	if (b->numbers == UINT32_MAX) fail("the trace has more than four thousand million allocations");
	size_t twins = 0;
	for (size_t i = place_of(b, e->address); b->table[i].address != BLOCK_NONE; i = (i + 1) & (b->capacity - 1))
		twins += b->table[i].address == e->address;
	struct block dropped;
	if (twins >= TWINS_MAX) remove_oldest(b, e->address, &dropped);
	const struct block block = { e->address, e->size, e->ns, e->thread, b->numbers++ };
	put(b, &block);
	return block;
}

struct change blocks_apply(struct blocks *b, const struct event *e) {
	struct change c = { 0 };
	struct block *moving = &b->moving[e->thread];
	switch (e->op) {
	case TRACE_MALLOC: case TRACE_CALLOC: case TRACE_ALIGNED:
		c.allocates = true;
		c.new_ = add(b, e);
		break;
	case TRACE_FREE:
		c.frees = remove_oldest(b, e->address, &c.old);
		c.unknown = !c.frees;
		break;
	case TRACE_MOVE:
		/* It counts until the REALLOC. But others may have the address before that. */
		if (moving->address != BLOCK_NONE || !remove_oldest(b, e->address, moving)) break;
		b->count++;
		b->bytes += moving->size;
		break;
	case TRACE_REALLOC:
		if (moving->address != BLOCK_NONE) {
			c.old = *moving;
			c.frees = true;
			b->count--;
			b->bytes -= moving->size;
			moving->address = BLOCK_NONE;
		} else {
			c.frees = remove_oldest(b, e->address, &c.old);
		}
		c.unknown = !c.frees;
		c.allocates = true;
		c.new_ = add(b, e);
		break;
	default:
		break;
	}
	return c;
}
