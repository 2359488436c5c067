// Hours of traffic in a second: the same number of live bytes all the time, while the sizes that are asked for drift, and
// one block in twenty lives long. Johnstone and Wilson, "The Memory Fragmentation Problem: Solved?" (ISMM 1998), find
// that what fragments is not randomness but blocks of different lifetimes that lie among each other; Zhou et al.,
// "Characterizing a Memory Allocator at Warehouse Scale" (ASPLOS 2024), that lifetimes in servers are of all lengths
// for every size, and that few survivors keep many pages. The result is what is resident at rest for each live byte.
//
// What the program knows of its blocks must not add to that as the blocks become smaller: the size is in the block, the
// table of pointers is as long as it can ever be and resident from the start.
#include "workload.h"

#include <math.h>
#include <string.h>

enum { LIVE, DAY, SURVIVORS, REST };
static struct workload_option options[] = {
    {"live", "megabytes in use, of all threads together", 64, 1, 65536},
    {"day", "blocks that a thread allocates while sizes drift up and down again once", 150000, 100, 1e12},
    {"survivors", "percent of the blocks that live long", 5, 0, 100},
    {"rest", "seconds without work at the end", 1, 0, 3600},
    {0},
};

// Sizes are within a factor of 4 of a middle that goes from 128 B to 8 KiB and back.
enum { SMALLEST_MIDDLE = 128, DOUBLINGS = 6, SPREAD = 4, LEAST_MEAN = 128 };

struct block {
    size_t size;
};

struct set {
    struct block **blocks;
    size_t count;
    uint64_t bytes;
};

struct heap {
    struct set young, old; // the old take half of the bytes
    size_t capacity;       // of each set
} __attribute__((aligned(128)));

static struct heap *heaps; // of each thread

static void set_remove_random(struct worker *worker, struct set *set)
{
    size_t at = random_next(&worker->random) % set->count;
    struct block *block = set->blocks[at];

    set->blocks[at] = set->blocks[--set->count];
    set->bytes -= block->size;
    worker_free(worker, block);
}

static void set_add(struct worker *worker, struct set *set, size_t size)
{
    struct block *block = worker_malloc(worker, size);

    block_touch(block, size);
    block->size = size;
    set->blocks[set->count++] = block;
    set->bytes += size;
}

static size_t drifting_size(struct worker *worker, uint64_t allocated)
{
    double day = (double)allocated / options[DAY].value;
    double height = fabs(2 * (day - floor(day)) - 1); // 1 at midnight, 0 at noon
    size_t middle = (size_t)(SMALLEST_MIDDLE * exp2(DOUBLINGS * (1 - height)));

    return size_between(&worker->random, middle / SPREAD, middle * SPREAD);
}

static void body(struct worker *worker)
{
    struct heap *heap = &heaps[worker->index];
    uint64_t live = (uint64_t)(options[LIVE].value * 1048576 / worker->run->threads);
    double survivors = options[SURVIVORS].value / 100;

    while (worker_continues(worker)) {
        size_t size = drifting_size(worker, worker->operations);
        bool survives = random_unit(&worker->random) < survivors;
        struct set *set = survives ? &heap->old : &heap->young;

        // A survivor's place is taken from survivors when they have their half, else from the others.
        while (heap->young.bytes + heap->old.bytes + size > live || set->count == heap->capacity) {
            bool old = set->count == heap->capacity ? survives : heap->old.bytes > live / 2 || !heap->young.count;
            set_remove_random(worker, old ? &heap->old : &heap->young);
        }
        set_add(worker, set, size);
        worker->operations++;
    }
}

static void rest(struct run *run)
{
    uint64_t live = 0;

    for (unsigned i = 0; i < run->threads; i++)
        live += heaps[i].young.bytes + heaps[i].old.bytes;
    workload_rest(run, options[REST].value, live);
}

static struct block **pointers_resident(size_t count)
{
    struct block **pointers = table_allocate(count * sizeof *pointers);

    memset(pointers, 1, count * sizeof *pointers); // zeroes would do with the kernel's one page of them
    return pointers;
}

static void run(struct run *run)
{
    size_t capacity = (size_t)(options[LIVE].value * 1048576 / run->threads / LEAST_MEAN);

    if (options[LIVE].value * 1048576 / run->threads < 4 * SPREAD * (SMALLEST_MIDDLE << DOUBLINGS))
        workload_fail("%g MB are too few for %u threads: blocks are up to 32 KB large", options[LIVE].value, run->threads);
    heaps = table_allocate(run->threads * sizeof *heaps);
    for (unsigned i = 0; i < run->threads; i++)
        heaps[i] = (struct heap){.young.blocks = pointers_resident(capacity), .old.blocks = pointers_resident(capacity),
                                 .capacity = capacity};
    run_workers_and_rest(run, body, rest);
}

const struct workload workload = {
    .name = "fragmentation",
    .about = "Constant live bytes, drifting sizes, few blocks that survive long; then everything rests.",
    .threads = 4,
    .operations = 3000000,
    .options = options,
    .run = run,
};
