#include "base/address_table.h"

#include <string.h>

#include "base/meta.h"

#define CAPACITY_FIRST 64

/* Entries of a part of a walk. */
#define PART 1024

/* Gets memory for its entries and records, or none. */
static bool has_memory(struct address_table *t) {
	t->entries = meta_alloc(t->capacity * sizeof *t->entries);
	t->records = t->record > 0 && t->entries != NULL ? meta_alloc((size_t)t->capacity * t->record) : NULL;
	if (t->entries == NULL || t->record == 0 || t->records != NULL) return t->entries != NULL;
	meta_free(t->entries, t->capacity * sizeof *t->entries);
	return false;
}

bool address_table_grow(struct address_table *t, uint32_t more) {
	struct address_table next = { .record = t->record, .tables = t->tables + 1, .capacity = CAPACITY_FIRST };
	if (t->capacity > 0) next.capacity = t->capacity;
	/* A third full at most: not even marks make the next one necessary soon. */
	while (next.capacity < 3 * (t->used + more)) next.capacity *= 2;
	if (!has_memory(&next)) return false;
	for (const struct address_entry *e = t->entries; e < t->entries + t->capacity; e++) {
		if (!address_is_used(e)) continue;
		const struct address_entry *copy = address_table_add(&next, e->address, e->size);
		memcpy((char *)next.records + address_index(&next, copy) * next.record,
		       (const char *)t->records + address_index(t, e) * t->record, t->record);
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
