#include "cache_store.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHARDS = 64,
    FIRST_BUCKETS = 64,
    DEAD_LIMIT = 4096, // entries per shard that may wait for store_reap; beyond, the deleting thread frees at once
};

struct shard {
    alignas(64) pthread_mutex_t lock;
    struct store_entry **buckets;
    size_t bucket_count; // a power of two
    struct store_entry lru; // sentinel: lru.older is the newest entry, lru.newer the oldest
    struct store_entry *dead;
    size_t dead_count;
    struct store_stats stats;
};

struct store {
    struct shard shards[SHARDS];
    size_t shard_budget;
};

// FNV-1a; the last step spreads the entropy to the high bits, which choose the shard.
static uint64_t hash_key(const char *key, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)key[i]) * 0x100000001b3;
    return (hash ^ (hash >> 29)) * 0xbf58476d1ce4e5b9;
}

static struct shard *shard_of(struct store *store, uint64_t hash)
{
    return &store->shards[hash >> 58];
}
_Static_assert(SHARDS == 1 << (64 - 58), "the shard is the top bits of the hash");

static uint64_t entry_bytes(const struct store_entry *entry)
{
    return sizeof *entry + entry->key_length + entry->value_length;
}

static void entry_free(struct store_entry *entry)
{
    free(entry->key);
    free(entry->value);
    free(entry);
}

static size_t entry_free_list(struct store_entry *entry)
{
    size_t count = 0;

    for (struct store_entry *next; entry; entry = next, count++) {
        next = entry->chain;
        entry_free(entry);
    }
    return count;
}

static char *copy_bytes(const char *bytes, size_t length)
{
    char *copy = malloc(length ? length : 1);

    if (copy)
        memcpy(copy, bytes, length);
    return copy;
}

static struct store_entry *entry_new(uint64_t hash, const char *key, size_t key_length)
{
    struct store_entry *entry = calloc(1, sizeof *entry);

    if (!entry)
        return NULL;
    entry->hash = hash;
    entry->key_length = (uint32_t)key_length;
    entry->key = copy_bytes(key, key_length);
    if (entry->key)
        return entry;
    free(entry);
    return NULL;
}

// The functions below are called with the shard's lock held.

static void lru_insert(struct shard *shard, struct store_entry *entry)
{
    entry->newer = &shard->lru;
    entry->older = shard->lru.older;
    entry->older->newer = entry;
    shard->lru.older = entry;
}

static void lru_remove(struct store_entry *entry)
{
    entry->newer->older = entry->older;
    entry->older->newer = entry->newer;
}

// Where the pointer to the entry is, or where it would be put.
static struct store_entry **shard_find(struct shard *shard, uint64_t hash, const char *key, size_t key_length)
{
    struct store_entry **link = &shard->buckets[hash & (shard->bucket_count - 1)];

    for (; *link; link = &(*link)->chain) {
        struct store_entry *entry = *link;
        if (entry->hash == hash && entry->key_length == key_length && memcmp(entry->key, key, key_length) == 0)
            break;
    }
    return link;
}

// Doubles the table. Without memory it stays as it is, and only its chains get longer.
static void shard_grow(struct shard *shard)
{
    size_t count = shard->bucket_count * 2;
    struct store_entry **buckets = calloc(count, sizeof *buckets);

    if (!buckets)
        return;
    for (size_t i = 0; i < shard->bucket_count; i++) {
        for (struct store_entry *entry = shard->buckets[i], *next; entry; entry = next) {
            struct store_entry **bucket = &buckets[entry->hash & (count - 1)];
            next = entry->chain;
            entry->chain = *bucket;
            *bucket = entry;
        }
    }
    free(shard->buckets);
    shard->buckets = buckets;
    shard->bucket_count = count;
}

static struct store_entry *shard_unlink(struct shard *shard, struct store_entry **link)
{
    struct store_entry *entry = *link;

    *link = entry->chain;
    lru_remove(entry);
    shard->stats.entries--;
    shard->stats.bytes -= entry_bytes(entry);
    return entry;
}

// Unlinks the oldest entries until the budget is kept; returns them as a list for the caller to free without the lock.
static struct store_entry *shard_evict(struct shard *shard, size_t budget)
{
    struct store_entry *evicted = NULL;

    while (shard->stats.bytes > budget && shard->stats.entries > 1) {
        struct store_entry *oldest = shard->lru.newer;
        shard_unlink(shard, shard_find(shard, oldest->hash, oldest->key, oldest->key_length));
        oldest->chain = evicted;
        evicted = oldest;
        shard->stats.evictions++;
    }
    return evicted;
}

// What the workers and the maintenance thread call.

bool store_get(struct store *store, const char *key, size_t key_length,
               void (*found)(void *argument, const struct store_entry *entry), void *argument)
{
    uint64_t hash = hash_key(key, key_length);
    struct shard *shard = shard_of(store, hash);

    pthread_mutex_lock(&shard->lock);
    struct store_entry *entry = *shard_find(shard, hash, key, key_length);
    if (entry) {
        shard->stats.hits++;
        lru_remove(entry);
        lru_insert(shard, entry);
        found(argument, entry);
    } else {
        shard->stats.misses++;
    }
    pthread_mutex_unlock(&shard->lock);
    return entry != NULL;
}

bool store_set(struct store *store, const char *key, size_t key_length, uint32_t flags, const char *value,
               size_t value_length)
{
    uint64_t hash = hash_key(key, key_length);
    struct shard *shard = shard_of(store, hash);
    char *copy = copy_bytes(value, value_length), *replaced = NULL;

    if (!copy)
        return false;
    pthread_mutex_lock(&shard->lock);
    struct store_entry **link = shard_find(shard, hash, key, key_length), *entry = *link;
    if (entry) {
        replaced = entry->value;
        shard->stats.bytes -= entry_bytes(entry);
        lru_remove(entry);
    } else {
        entry = entry_new(hash, key, key_length);
        if (!entry) {
            pthread_mutex_unlock(&shard->lock);
            free(copy);
            return false;
        }
        *link = entry;
        shard->stats.entries++;
    }
    entry->value = copy;
    entry->value_length = (uint32_t)value_length;
    entry->flags = flags;
    lru_insert(shard, entry);
    shard->stats.bytes += entry_bytes(entry);
    shard->stats.sets++;
    struct store_entry *evicted = shard_evict(shard, store->shard_budget);
    if (shard->stats.entries > shard->bucket_count)
        shard_grow(shard);
    pthread_mutex_unlock(&shard->lock);

    free(replaced);
    entry_free_list(evicted);
    return true;
}

bool store_delete(struct store *store, const char *key, size_t key_length)
{
    uint64_t hash = hash_key(key, key_length);
    struct shard *shard = shard_of(store, hash);
    struct store_entry *free_now = NULL;

    pthread_mutex_lock(&shard->lock);
    struct store_entry **link = shard_find(shard, hash, key, key_length), *entry = *link;
    if (entry) {
        shard_unlink(shard, link);
        shard->stats.deletes++;
        if (shard->dead_count < DEAD_LIMIT) {
            entry->chain = shard->dead;
            shard->dead = entry;
            shard->dead_count++;
        } else {
            free_now = entry;
        }
    }
    pthread_mutex_unlock(&shard->lock);
    if (free_now)
        entry_free(free_now);
    return entry != NULL;
}

size_t store_reap(struct store *store)
{
    size_t reaped = 0;

    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &store->shards[i];
        pthread_mutex_lock(&shard->lock);
        struct store_entry *dead = shard->dead;
        shard->stats.reaped += shard->dead_count;
        shard->dead = NULL;
        shard->dead_count = 0;
        pthread_mutex_unlock(&shard->lock);
        reaped += entry_free_list(dead);
    }
    return reaped;
}

void store_get_stats(struct store *store, struct store_stats *stats)
{
    *stats = (struct store_stats){0};
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &store->shards[i];
        pthread_mutex_lock(&shard->lock);
        stats->entries += shard->stats.entries;
        stats->bytes += shard->stats.bytes;
        stats->hits += shard->stats.hits;
        stats->misses += shard->stats.misses;
        stats->sets += shard->stats.sets;
        stats->deletes += shard->stats.deletes;
        stats->evictions += shard->stats.evictions;
        stats->reaped += shard->stats.reaped;
        pthread_mutex_unlock(&shard->lock);
    }
}

struct store *store_new(size_t budget_bytes)
{
    struct store *store = aligned_alloc(alignof(struct store), sizeof *store);

    if (!store)
        return NULL;
    memset(store, 0, sizeof *store);
    store->shard_budget = budget_bytes / SHARDS;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &store->shards[i];
        pthread_mutex_init(&shard->lock, NULL);
        shard->lru.newer = shard->lru.older = &shard->lru;
        shard->bucket_count = FIRST_BUCKETS;
        shard->buckets = calloc(FIRST_BUCKETS, sizeof *shard->buckets);
        if (!shard->buckets) {
            store_free(store);
            return NULL;
        }
    }
    return store;
}

void store_free(struct store *store)
{
    store_reap(store);
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &store->shards[i];
        for (size_t bucket = 0; shard->buckets && bucket < shard->bucket_count; bucket++)
            entry_free_list(shard->buckets[bucket]);
        free(shard->buckets);
        pthread_mutex_destroy(&shard->lock);
    }
    free(store);
}
