// A program that goes through phases: in each the live bytes grow to a peak and then decay to a tenth of it, and each
// asks for other sizes than the one before. Wilson, Johnstone, Neely and Boles, "Dynamic Storage Allocation: A Survey and
// Critical Review" (IWMM 1995), describe ramps, peaks and plateaus as what real programs do, and phases that end with
// most objects dying together as what makes or breaks an allocator's fragmentation: what one phase has freed is of use
// to the next only when neighbours were joined, or slabs became empty.
//
// The threads are in groups, and the groups are at different points of the cycle: while one grows, another decays. An
// allocator that keeps what a group has freed for that group has to have the peaks of all of them; one that shares
// it needs about the average.
#include "workload.h"

enum { PEAK, REST };
static struct workload_option options[] = {
    {"peak", "live megabytes of all threads together if all were at their peaks", 96, 1, 65536},
    {"rest", "seconds without work at the end", 1, 0, 3600},
    {0},
};

enum { GROUPS = 3, LEAST_SIZE = 24 };

// What the phases ask for. Next to each other are sizes that differ much.
static const struct band {
    size_t low, high;
} bands[] = {{LEAST_SIZE, 64}, {1024, 8192}, {96, 320}, {16384, 98304}, {400, 1000}};
enum { BANDS = sizeof bands / sizeof *bands };

// The program's own knowledge of its blocks: they are linked through themselves, so that it needs no memory beside them.
// Random order comes from lists that a block joins at random, and that die one after the other.
struct block {
    struct block *next;
    size_t size;
};
enum { LISTS = 64 };

struct pool {
    struct block *lists[LISTS];
    uint64_t bytes;
};

static struct pool *pools; // of each thread

static void pool_add(struct worker *worker, struct pool *pool, size_t size)
{
    struct block *block = worker_malloc(worker, size);
    struct block **list = &pool->lists[random_next(&worker->random) % LISTS];

    block_touch(block, size);
    *block = (struct block){*list, size};
    *list = block;
    pool->bytes += size;
    worker->operations++;
}

static void pool_remove(struct worker *worker, struct pool *pool, struct block **list)
{
    struct block *block = *list;

    *list = block->next;
    pool->bytes -= block->size;
    worker_free(worker, block);
}

// A list at a time, and of each only some: what remains is of all ages, and scattered.
static void pool_decay(struct worker *worker, struct pool *pool, uint64_t bytes)
{
    for (unsigned at = 0; pool->bytes > bytes; at = (at + 1) % LISTS)
        for (unsigned i = 0; i < 512 && pool->lists[at] && pool->bytes > bytes; i++)
            pool_remove(worker, pool, &pool->lists[at]);
}

// A plateau: new blocks take the place of old ones.
static void pool_replace(struct worker *worker, struct pool *pool, const struct band *band, uint64_t bytes)
{
    uint64_t peak = pool->bytes;

    while (bytes > 0 && worker_continues(worker)) {
        size_t size = size_between(&worker->random, band->low, band->high);
        struct block **list = &pool->lists[random_next(&worker->random) % LISTS];

        pool_add(worker, pool, size);
        if (*list && pool->bytes > peak)
            pool_remove(worker, pool, list);
        bytes -= size < bytes ? size : bytes;
    }
}

static void body(struct worker *worker)
{
    struct pool *pool = &pools[worker->index];
    unsigned group = worker->index % GROUPS;
    uint64_t peak = (uint64_t)(options[PEAK].value * 1048576 / worker->run->threads), least = peak / 10;
    unsigned phase = group; // groups ask for different sizes at a time
    uint64_t top = least + (peak - least) * (group + 1) / GROUPS; // and reach their first peak at different times

    for (; worker_continues(worker); phase++, top = peak) {
        const struct band *band = &bands[phase % BANDS];

        while (pool->bytes < top && worker_continues(worker))
            pool_add(worker, pool, size_between(&worker->random, band->low, band->high));
        pool_replace(worker, pool, band, top / 4);
        pool_decay(worker, pool, least);
    }
}

static void rest(struct run *run)
{
    uint64_t live = 0;

    for (unsigned i = 0; i < run->threads; i++)
        live += pools[i].bytes;
    workload_rest(run, options[REST].value, live);
}

static void run(struct run *run)
{
    pools = table_allocate(run->threads * sizeof *pools);
    run_workers_and_rest(run, body, rest);
}

const struct workload workload = {
    .name = "phases",
    .about = "Groups of threads grow and decay in turn, and ask for other sizes in each phase; then everything rests.",
    .threads = 6,
    .operations = 4000000,
    .options = options,
    .run = run,
};
