#include "base/address_table.h"

#include <string.h>

#include "base/meta.h"

#define CAPACITY_FIRST 64

/* Entries of a part of a walk. */
#define PART 1024

/* Addresses of blocks are multiples of 16. */
static uint32_t first_place(uintptr_t address, uint32_t capacity) {
	return (uint32_t)((uint64_t)(address >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (capacity - 1);
}

static uint32_t next_place(const struct address_table *t, uint32_t i) { return (i + 1) & (t->capacity - 1); }

struct address_entry *address_table_find(const struct address_table *t, uintptr_t address) {
	if (t->capacity == 0 || address <= ADDRESS_REMOVED) return NULL;
	for (uint32_t i = first_place(address, t->capacity);; i = next_place(t, i)) {
		if (t->entries[i].address == address) return &t->entries[i];
		if (t->entries[i].address == ADDRESS_FREE) return NULL;
	}
}

struct address_entry *address_table_add(struct address_table *t, uintptr_t address, size_t size) {
	uint32_t i = first_place(address, t->capacity);
	while (address_is_used(&t->entries[i])) i = next_place(t, i);
	struct address_entry *e = &t->entries[i];
	t->filled += e->address == ADDRESS_FREE;
	t->used++;
	/* The address last: who reads from outside must not take another one's size for this one's. */
	e->size = size;
	e->address = address;
	return e;
}

void address_table_remove(struct address_table *t, struct address_entry *e) {
	const uint32_t mask = t->capacity - 1;
	uint32_t i = (uint32_t)(e - t->entries);
	e->address = ADDRESS_REMOVED;
	t->used--;
	/* Where no search goes on behind it, no mark is needed, nor are those before it. */
	if (t->entries[next_place(t, i)].address != ADDRESS_FREE) return;
	for (; t->entries[i].address == ADDRESS_REMOVED; i = (i - 1) & mask) {
		t->entries[i].address = ADDRESS_FREE;
		t->filled--;
	}
}

/* Its own memory, or none. */
static bool has_memory(struct address_table *t) {
	t->entries = meta_alloc(t->capacity * sizeof *t->entries);
	t->records = t->record > 0 && t->entries != NULL ? meta_alloc((size_t)t->capacity * t->record) : NULL;
	if (t->entries == NULL || t->record == 0 || t->records != NULL) return t->entries != NULL;
	meta_free(t->entries, t->capacity * sizeof *t->entries);
	return false;
}

bool address_table_room(struct address_table *t, uint32_t more) {
	if (t->filled + more <= t->capacity / 2) return true;
	struct address_table next = { .record = t->record, .tables = t->tables + 1, .capacity = CAPACITY_FIRST };
	if (t->capacity > 0) next.capacity = t->capacity;
	/* A third is to be free of entries and marks for a while. */
	while (next.capacity < 3 * (t->used + more)) next.capacity *= 2;
	if (!has_memory(&next)) return false;
	for (const struct address_entry *e = t->entries; e < t->entries + t->capacity; e++) {
		if (!address_is_used(e)) continue;
		const struct address_entry *copy = address_table_add(&next, e->address, e->size);
		memcpy(address_record(&next, copy), address_record(t, e), t->record);
	}
	if (t->entries != NULL) meta_free(t->entries, t->capacity * sizeof *t->entries);
	if (t->records != NULL) meta_free(t->records, (size_t)t->capacity * t->record);
	*t = next;
	return true;
}

void address_table_clear(struct address_table *t) {
	if (t->entries != NULL) memset(t->entries, 0, t->capacity * sizeof *t->entries);
	t->used = t->filled = 0;
}

bool address_walk_next(struct address_walk *walk, const struct address_table *t) {
	walk->from = walk->table == t->tables ? walk->to : 0;
	walk->to = (uint32_t)min_size((size_t)walk->from + PART, t->capacity);
	walk->table = t->tables;
	return walk->from < walk->to;
}
