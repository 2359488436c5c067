// Hours of traffic in a second: the same number of live bytes all the time, while the sizes that are asked for drift, and
// one block in twenty lives long. Johnstone and Wilson, "The Memory Fragmentation Problem: Solved?" (ISMM 1998), find
// that what fragments is not randomness but blocks of different lifetimes that lie among each other; Zhou et al.,
// "Characterizing a Memory Allocator at Warehouse Scale" (ASPLOS 2024), that lifetimes in servers are of all lengths
// for every size, and that few survivors keep many pages. The result is what is resident at rest for each live byte.
//
// What the program knows of its blocks must not add to that as the blocks become smaller: the size is in the block, the
// table of pointers is as long as it can ever be and resident from the start, and what is resident before the first block
// is not counted for each live byte.
//
// Whether memory grows although the live bytes do not is seen at the end of each day, when sizes are the same as at the
// end of the others: `growth` is the most of the last third of the days by the most of the first, without the first day,
// on which the heap fills up.
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

enum { MAX_SAMPLES = 1024, WARM_UP = 1 };
static uint64_t days_per_sample = 1; // written by the first worker alone, as run->samples is

// Called by the first worker at the end of a day of its own; the others are about as far.
static void sample_day(struct run *run, uint64_t day)
{
    if (day % days_per_sample)
        return;
    if (run->sample_count == MAX_SAMPLES) { // keep every other one
        for (unsigned i = 0; i < MAX_SAMPLES / 2; i++)
            run->samples[i] = run->samples[i * 2 + 1];
        run->sample_count /= 2;
        days_per_sample *= 2;
        return;
    }
    run->samples[run->sample_count++] = resident_bytes();
}

static uint64_t most_of(const uint64_t *samples, unsigned count)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < count; i++)
        most = samples[i] > most ? samples[i] : most;
    return most;
}

static double growth(const struct run *run)
{
    unsigned third = run->sample_count > WARM_UP ? (run->sample_count - WARM_UP) / 3 : 0;

    if (!third)
        return 0;
    uint64_t early = most_of(run->samples + WARM_UP, third);
    uint64_t late = most_of(run->samples + run->sample_count - third, third);
    return early > run->own_rss_bytes
               ? ((double)late - (double)run->own_rss_bytes) / (double)(early - run->own_rss_bytes) : 0;
}

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
    uint64_t day = (uint64_t)options[DAY].value;

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
        if (worker->index == 0 && worker->operations % day == 0)
            sample_day(worker->run, worker->operations / day);
    }
}

static void rest(struct run *run)
{
    uint64_t live = 0;

    run->growth = growth(run);

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
    run->samples = table_allocate(MAX_SAMPLES * sizeof *run->samples);
    run->own_rss_bytes = resident_bytes();
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
