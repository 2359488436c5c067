// The cache's contents: a sharded hash table with least-recently-used eviction, bounded by a byte budget.
//
// Every entry is three blocks (entry, key, value), allocated by the thread that stores it. They are freed by
//  - the thread that replaces the value or evicts the entry to make room: any worker, often not the one that stored it;
//  - store_reap, called by the maintenance thread, after a delete.
#ifndef BENCH_CACHE_STORE_H
#define BENCH_CACHE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

struct store_entry {
    struct store_entry *chain;         // next in the hash bucket, or in the list of entries to free
    struct store_entry *newer, *older; // circular, through the shard's sentinel
    char *key, *value;
    uint64_t hash;
    uint32_t key_length, value_length, flags;
};

struct store_stats {
    uint64_t entries, bytes, hits, misses, sets, deletes, evictions, reaped;
};

struct store *store_new(size_t budget_bytes);
void store_free(struct store *store);

// Calls found(argument, entry) under the shard's lock and returns true when the key is there.
bool store_get(struct store *store, const char *key, size_t key_length,
               void (*found)(void *argument, const struct store_entry *entry), void *argument);

// False when there is no memory for it.
bool store_set(struct store *store, const char *key, size_t key_length, uint32_t flags, const char *value,
               size_t value_length);

bool store_delete(struct store *store, const char *key, size_t key_length);

// Frees what was deleted since the last call; returns how many entries.
size_t store_reap(struct store *store);

void store_get_stats(struct store *store, struct store_stats *stats);

#endif
