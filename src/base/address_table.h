/* A table of blocks by their addresses: open addressing with linear probing, at most half full.
 *
 * An entry does not move but when the table gets other memory: who walks it part by part, and lets go of the
 * lock in between (struct address_walk), misses none, nor does who reads it from another process, with no
 * lock at all. So what is removed leaves a mark where others lie behind it, rather than that those move up. A
 * new table, twice as large or without marks, takes its place when half of it is used or marked.
 *
 * A table belongs to who declares it, and so does the lock under which all of these are called. */
#ifndef BASE_ADDRESS_TABLE_H
#define BASE_ADDRESS_TABLE_H

#include "base/base.h"

#define ADDRESS_FREE 0
#define ADDRESS_REMOVED 1 /* the mark */

/* Read by tools/arenal from outside: part of struct arenal_layout's version (arena/layout.h). */
struct address_entry {
	uintptr_t address; /* or one of the above */
	size_t size;
};

struct address_table {
	struct address_entry *entries; /* `capacity` of them, a power of two; NULL: none was ever added */
	void *records;                 /* what else the owner knows of each, in the same order */
	uint32_t record;               /* bytes of a record. Set by the owner, once */
	uint32_t capacity;
	uint32_t used;   /* entries that are there */
	uint32_t filled; /* entries that are there, or marks */
	uint32_t tables; /* that this one has been so far */
};

static inline bool address_is_used(const struct address_entry *e) { return e->address > ADDRESS_REMOVED; }

/* Which of the records is the entry's. */
static inline size_t address_index(const struct address_table *t, const struct address_entry *e) {
	return (size_t)(e - t->entries);
}

/* Another table takes the place of this one, with room for so many entries more. False without memory: it
 * stays as it is. */
bool address_table_grow(struct address_table *t, uint32_t more);

/* Can so many entries be added to the table as it is? */
static inline bool address_table_has_room(const struct address_table *t, uint32_t more) {
	return likely(t->filled + more <= t->capacity / 2);
}

/* Makes sure that so many entries can be added. False without memory. */
static inline bool address_table_room(struct address_table *t, uint32_t more) {
	return address_table_has_room(t, more) || address_table_grow(t, more);
}

/* Addresses of blocks are multiples of 16. */
static inline uint32_t address_first_place(const struct address_table *t, uintptr_t address) {
	return (uint32_t)((uint64_t)(address >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (t->capacity - 1);
}

static inline uint32_t address_next_place(const struct address_table *t, uint32_t i) {
	return (i + 1) & (t->capacity - 1);
}

/* NULL: it is not there. */
static inline struct address_entry *address_table_find(const struct address_table *t, uintptr_t address) {
	if (t->capacity == 0 || address <= ADDRESS_REMOVED) return NULL;
	for (uint32_t i = address_first_place(t, address);; i = address_next_place(t, i)) {
		if (t->entries[i].address == address) return &t->entries[i];
		if (t->entries[i].address == ADDRESS_FREE) return NULL;
	}
}

/* Adds an address that is not there. There is room. Its record is all the owner's to write. */
static inline struct address_entry *address_table_add(struct address_table *t, uintptr_t address,
                                                      size_t size) {
	uint32_t i = address_first_place(t, address);
	while (address_is_used(&t->entries[i])) i = address_next_place(t, i);
	struct address_entry *e = &t->entries[i];
	t->filled += e->address == ADDRESS_FREE;
	t->used++;
	/* The address last: who reads from outside must not take another one's size for this one's. */
	e->size = size;
	e->address = address;
	return e;
}

/* Its record stays as it is, until another entry gets it. */
static inline void address_table_remove(struct address_table *t, struct address_entry *e) {
	uint32_t i = (uint32_t)(e - t->entries);
	t->used--;
	if (t->entries[address_next_place(t, i)].address != ADDRESS_FREE) {
		e->address = ADDRESS_REMOVED;
		return;
	}
	/* Where no search goes on behind it, no mark is needed, nor are those before it. */
	do {
		t->entries[i].address = ADDRESS_FREE;
		t->filled--;
		i = (i - 1) & (t->capacity - 1);
	} while (t->entries[i].address == ADDRESS_REMOVED);
}

/* Removes all. */
void address_table_clear(struct address_table *t);

/* A walk under several holds of the lock, so that none is long: entries [from, to) are to be looked at
 * under this one. Starts as zeros. */
struct address_walk {
	uint32_t from, to;
	uint32_t table; /* which one it walks */
};

/* Goes on to the next part: false behind the last one. Where the table is another one by now, the walk
 * starts again: from == 0. What was added behind a walk is not seen, and what was removed and added again
 * may be seen twice. */
bool address_walk_next(struct address_walk *walk, const struct address_table *t);

#endif
