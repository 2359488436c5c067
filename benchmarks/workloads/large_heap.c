// A heap so large that the processor's address translation is what costs: millions of small blocks, as in a cache, a
// graph or an index in memory, read and replaced at random. Each access misses the TLB unless the block lies on a huge
// page: Hunter et al., "Beyond malloc efficiency to fleet efficiency: a hugepage-aware memory allocator" (OSDI 2021).
//
// Three phases, with a time each: building the heap; reading the first word of random blocks; freeing random blocks, each
// of which another of another size takes the place of. Blocks hold their place in the table at their begin and their end,
// and reading checks it.
//
// The table of pointers lies on huge pages whatever the allocator does: what is measured are the allocator's pages.
#include "stamp.h"
#include "workload.h"

enum { BLOCKS };
static struct workload_option options[] = {
    {"blocks", "in the heap, of 288 B on average", 8e6, 1, 4e9},
    {0},
};

enum { SMALLEST = 64, LARGEST = 512, READS = 5, REPLACEMENTS = 1 }; // in this relation

static void **blocks; // all workers'; each has a range of it

// What a worker has of the blocks.
struct range {
    uint64_t first, count;
};

static struct range range_of(const struct worker *worker)
{
    uint64_t all = (uint64_t)options[BLOCKS].value, threads = worker->run->threads, index = worker->index;

    return (struct range){all * index / threads, all * (index + 1) / threads - all * index / threads};
}

static uint64_t random_slot(struct worker *worker, struct range range)
{
    return range.first + (((random_next(&worker->random) >> 32) * range.count) >> 32); // faster than a remainder
}

static void fill(struct worker *worker, uint64_t slot)
{
    size_t size = SMALLEST + random_next(&worker->random) % (LARGEST - SMALLEST + 1);

    blocks[slot] = worker_malloc(worker, size);
    stamp_write(blocks[slot], size, slot);
}

static void build(struct worker *worker)
{
    struct range range = range_of(worker);

    for (uint64_t i = 0; i < range.count; i++)
        fill(worker, range.first + i);
    worker->operations += range.count;
}

static void read_blocks(struct worker *worker)
{
    struct range range = range_of(worker);

    for (; worker_continues(worker); worker->operations++) {
        uint64_t slot = random_slot(worker, range);
        if (!stamp_at(blocks[slot], slot))
            workload_fail("a block does not hold what was written to it");
    }
}

static void replace(struct worker *worker)
{
    struct range range = range_of(worker);

    for (; worker_continues(worker); worker->operations++) {
        uint64_t slot = random_slot(worker, range);
        worker_free(worker, blocks[slot]);
        fill(worker, slot);
    }
}

static void shares_change(struct run *run, int64_t operations)
{
    for (unsigned i = 0; i < run->threads; i++)
        run->workers[i].share += (uint64_t)operations;
}

static void run(struct run *run)
{
    uint64_t all = (uint64_t)options[BLOCKS].value;

    if (all < run->threads || (run->operations && run->operations <= all))
        workload_fail("%llu blocks are too few for %u threads, or too many for %llu operations",
                      (unsigned long long)all, run->threads, (unsigned long long)run->operations);
    // Of each worker. With --seconds, which shares have no part in, reading and replacing last so long each.
    int64_t replacements = 0;
    if (run->operations)
        replacements = (int64_t)((run->operations - all) / run->threads / (READS + REPLACEMENTS) * REPLACEMENTS);

    blocks = table_allocate_huge(all * sizeof *blocks);
    run_phase(run, "build", build);
    shares_change(run, -replacements);
    run_phase(run, "read", read_blocks);
    shares_change(run, replacements);
    run_phase(run, "replace", replace);
}

const struct workload workload = {
    .name = "large_heap",
    .about = "Builds a heap of 2.4 GB of small blocks, reads them at random, replaces them at random.",
    .threads = 1,
    .operations = 32000000, // 8 million blocks, 20 million reads, 4 million replacements
    .options = options,
    .run = run,
};
