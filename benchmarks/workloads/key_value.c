// A key-value store with eviction, as a cache in front of a database is: clients ask for keys of a Zipf distribution,
// a miss is answered by storing the value, values are also replaced, extended in place (realloc) and deleted, and
// each shard evicts what was used least recently when it is over its byte limit. The sizes of values drift during the
// run: they shrink to a quarter and grow again, because what applications store changes while the store lives on.
//
// Follows: Atikoglu, Xu, Frachtenberg, Jiang and Paleczny, "Workload analysis of a large-scale key-value store"
// (SIGMETRICS 2012), for the sizes and the share of reads; Breslau, Cao, Fan, Phillips and Shenker, "Web caching and
// Zipf-like distributions: evidence and implications" (INFOCOM 1999); Berg et al., "The CacheLib caching engine:
// design and experiences at scale" (OSDI 2020), for churn and eviction; Rumble, Kejriwal and Ousterhout,
// "Log-structured memory for DRAM-based storage" (FAST 2014), for sizes that change over time. Keys are drawn as Gray
// et al. do in "Quickly generating billion-record synthetic databases" (SIGMOD 1994).
//
// Sensitive to: fragmentation when the size classes in demand change while the live bytes stay (RSS at rest against
// the limit); blocks that are freed by other threads than the one that made them; realloc; big blocks between small
// ones.
#include "stamp.h"
#include "workload.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    SHARDS = 16,
    KEYS = 400 * 1000,
    LIMIT = 64 * 1024 * 1024 / SHARDS, // bytes of items and values in a shard
    FIRST_BUCKETS = 64,
    DRIFT_STEPS = 64, // of a whole wave of sizes
    LARGEST_VALUE = 64 * 1024,
};

static const double ZIPF_EXPONENT = 0.9;

struct item {
    struct item *chain;          // next in the bucket
    struct item *newer, *older;  // by use
    uint64_t hash;               // of the key; no two keys have the same, mix() is a bijection
    char *value;                 // stamped with the hash
    size_t value_size, key_size; // bytes
    char key[];
};

struct shard {
    pthread_mutex_t lock;
    struct item **buckets; // a power of two of them
    size_t bucket_count, item_count, bytes;
    struct item *newest, *oldest;
} __attribute__((aligned(128)));

static struct shard *shards;
static double zipf_zeta, zipf_eta; // see zipf_prepare

static void zipf_prepare(void)
{
    for (unsigned rank = 1; rank <= KEYS; rank++)
        zipf_zeta += pow(rank, -ZIPF_EXPONENT);
    zipf_eta = (1 - pow(2.0 / KEYS, 1 - ZIPF_EXPONENT)) / (1 - (1 + pow(0.5, ZIPF_EXPONENT)) / zipf_zeta);
}

static uint64_t zipf_next(uint64_t *random) // a rank from 0
{
    double u = random_unit(random);

    if (u * zipf_zeta < 1)
        return 0;
    if (u * zipf_zeta < 1 + pow(0.5, ZIPF_EXPONENT))
        return 1;
    uint64_t rank = (uint64_t)(KEYS * pow(zipf_eta * u - zipf_eta + 1, 1 / (1 - ZIPF_EXPONENT)));
    return rank < KEYS ? rank : KEYS - 1;
}

// Sizes shrink from their full size to a quarter and grow back, in steps of so many operations of the worker.
static size_t value_size_next(struct worker *worker)
{
    enum { STEP = 4096 };
    double wave = (double)(worker->operations / STEP % DRIFT_STEPS) / DRIFT_STEPS;
    double scale = 0.25 + 0.75 * fabs(2 * wave - 1);
    double size = (double)size_pareto(&worker->random) * 8 * scale;

    return size < 16 ? 16 : size > LARGEST_VALUE ? LARGEST_VALUE : (size_t)size;
}

static size_t item_bytes(const struct item *item)
{
    return sizeof *item + item->key_size + item->value_size;
}

static struct item **chain_find(struct shard *shard, uint64_t hash)
{
    struct item **link = &shard->buckets[(hash / SHARDS) & (shard->bucket_count - 1)];

    while (*link && (*link)->hash != hash)
        link = &(*link)->chain;
    return link;
}

static void buckets_grow(struct worker *worker, struct shard *shard)
{
    struct item **old = shard->buckets;
    size_t old_count = shard->bucket_count;

    shard->bucket_count = old_count ? 2 * old_count : FIRST_BUCKETS;
    shard->buckets = worker_malloc(worker, shard->bucket_count * sizeof *old);
    memset(shard->buckets, 0, shard->bucket_count * sizeof *old);
    for (size_t i = 0; i < old_count; i++)
        for (struct item *item = old[i], *next; item; item = next) {
            next = item->chain;
            item->chain = NULL;
            *chain_find(shard, item->hash) = item;
        }
    if (old)
        worker_free(worker, old);
}

static void use_unlink(struct shard *shard, struct item *item)
{
    *(item->newer ? &item->newer->older : &shard->newest) = item->older;
    *(item->older ? &item->older->newer : &shard->oldest) = item->newer;
}

static void use_push(struct shard *shard, struct item *item)
{
    item->newer = NULL;
    item->older = shard->newest;
    *(shard->newest ? &shard->newest->newer : &shard->oldest) = item;
    shard->newest = item;
}

static void item_check(const struct item *item)
{
    if (!stamp_matches(item->value, item->value_size, item->hash))
        workload_fail("the value of %.*s (%zu bytes) was overwritten", (int)item->key_size, item->key,
                      item->value_size);
}

static void item_drop(struct worker *worker, struct shard *shard, struct item **link)
{
    struct item *item = *link;

    item_check(item);
    *link = item->chain;
    use_unlink(shard, item);
    shard->bytes -= item_bytes(item);
    shard->item_count--;
    worker_free(worker, item->value);
    worker_free(worker, item);
}

static void value_write(struct worker *worker, struct shard *shard, struct item *item, size_t size, bool extend)
{
    shard->bytes -= item->value_size;
    if (extend) {
        item->value = worker_realloc(worker, item->value, size);
        item_check(item); // still with the old size
    } else {
        if (item->value)
            worker_free(worker, item->value);
        item->value = worker_malloc(worker, size);
    }
    stamp_write(item->value, size, item->hash);
    item->value_size = size;
    shard->bytes += size;
}

static void item_store(struct worker *worker, struct shard *shard, struct item **link, uint64_t rank, uint64_t hash)
{
    if (shard->item_count >= shard->bucket_count) {
        buckets_grow(worker, shard);
        link = chain_find(shard, hash);
    }
    char key[64];
    int key_size = snprintf(key, sizeof key, "user:%" PRIx64 ":profile:%" PRIu64, hash, rank);
    struct item *item = worker_malloc(worker, sizeof *item + (size_t)key_size);
    *item = (struct item){.hash = hash, .key_size = (size_t)key_size};
    memcpy(item->key, key, (size_t)key_size);
    *link = item;
    use_push(shard, item);
    shard->item_count++;
    shard->bytes += item_bytes(item);
    value_write(worker, shard, item, value_size_next(worker), false);
}

// 80% reads, which store what they miss; 12% new values, 4% values that are extended, 4% deletes.
static void client(struct worker *worker)
{
    while (worker_continues(worker)) {
        uint64_t rank = zipf_next(&worker->random), hash = mix(rank + 1);
        unsigned choice = (unsigned)(random_next(&worker->random) % 100);
        struct shard *shard = &shards[hash % SHARDS];

        pthread_mutex_lock(&shard->lock);
        if (!shard->buckets)
            buckets_grow(worker, shard);
        struct item **link = chain_find(shard, hash);
        if (!*link) {
            if (choice < 96)
                item_store(worker, shard, link, rank, hash);
        } else if (choice >= 96) {
            item_drop(worker, shard, link);
        } else {
            struct item *item = *link;
            item_check(item);
            use_unlink(shard, item);
            use_push(shard, item);
            if (choice >= 92 && item->value_size <= LARGEST_VALUE / 2)
                value_write(worker, shard, item, item->value_size + item->value_size / 4 + 16, true);
            else if (choice >= 80)
                value_write(worker, shard, item, value_size_next(worker), false);
        }
        while (shard->bytes > LIMIT)
            item_drop(worker, shard, chain_find(shard, shard->oldest->hash));
        pthread_mutex_unlock(&shard->lock);
        worker->operations++;
    }
}

static void rest(struct run *run)
{
    uint64_t live = 0;

    for (unsigned i = 0; i < SHARDS; i++)
        live += shards[i].bytes + shards[i].bucket_count * sizeof *shards[i].buckets;
    workload_rest(run, 0.5, live);
}

static void run_key_value(struct run *run)
{
    shards = table_allocate(SHARDS * sizeof *shards);
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_init(&shards[i].lock, NULL);
    zipf_prepare();
    run_workers_and_rest(run, client, rest);
    for (unsigned i = 0; i < SHARDS; i++) {
        while (shards[i].oldest)
            item_drop(run->workers, &shards[i], chain_find(&shards[i], shards[i].oldest->hash));
        if (shards[i].buckets)
            worker_free(run->workers, shards[i].buckets);
    }
}

const struct workload workload = {
    .name = "key_value",
    .about = "A key-value store with eviction, whose values change their sizes over time",
    .threads = 4,
    .operations = 2000000,
    .run = run_key_value,
};
