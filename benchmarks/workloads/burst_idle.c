// A burst of work, and then nothing: what a process keeps that nobody needs at the moment. Each thread builds up its
// blocks, frees all but a few that lie scattered among them, and does so several times over; then every thread blocks.
// Services spend most of their time so, and the memory they hold then is what keeps machines from taking more of them:
// Hunter et al., "Beyond malloc efficiency to fleet efficiency: a hugepage-aware memory allocator" (OSDI 2021).
//
// Whether an allocator returns memory by itself, with nobody calling it, is seen by looking again later (--rest). It can
// return what no block lies on: the pages that the survivors lie on are counted, too. One burst alone is as many
// operations as there are blocks in those of all threads.
#include "workload.h"

#include <unistd.h>

enum { BLOCKS, SURVIVORS, REST };
static struct workload_option options[] = {
    {"blocks", "in a thread's burst, of 2.7 KB on average", 22000, 1, 1e7},
    {"survivors", "percent of a burst that is kept until the end of the next", 2, 0, 100},
    {"rest", "seconds without work at the end", 3, 0, 3600},
    {0},
};

struct burst {
    void **blocks;    // all at first, then survivors only
    uint32_t *sizes;
    size_t count;
    uint64_t bytes;
};

static struct burst *bursts; // of each thread, two in turn

static void burst_build(struct worker *worker, struct burst *burst, size_t count)
{
    burst->bytes = 0;
    for (burst->count = 0; burst->count < count; burst->count++) {
        size_t size = size_mixed(&worker->random), at = burst->count;

        burst->blocks[at] = worker_malloc(worker, size);
        burst->sizes[at] = (uint32_t)size;
        burst->bytes += size;
        block_touch(burst->blocks[at], size);
    }
    worker->operations += count;
}

static void burst_remove(struct worker *worker, struct burst *burst, size_t at)
{
    worker_free(worker, burst->blocks[at]);
    burst->bytes -= burst->sizes[at];
    burst->count--;
    burst->blocks[at] = burst->blocks[burst->count];
    burst->sizes[at] = burst->sizes[burst->count];
}

// Frees random blocks until so many are left.
static void burst_free(struct worker *worker, struct burst *burst, size_t left)
{
    while (burst->count > left)
        burst_remove(worker, burst, random_next(&worker->random) % burst->count);
}

static void body(struct worker *worker)
{
    size_t count = (size_t)options[BLOCKS].value;
    size_t survivors = (size_t)((double)count * options[SURVIVORS].value / 100);
    struct burst *mine = &bursts[worker->index * 2];

    // Bursts are whole: the last is like the others, whatever the number of operations.
    for (unsigned i = 0; worker_continues(worker); i++) {
        burst_build(worker, &mine[i % 2], count);
        burst_free(worker, &mine[(i + 1) % 2], 0);
        burst_free(worker, &mine[i % 2], survivors);
    }
}

// Pages that were seen: a hash table with linear probing, of numbers of pages; 0 is free.
struct page_set {
    uintptr_t *pages;
    size_t mask, count;
};

static void page_set_add(struct page_set *set, uintptr_t page)
{
    size_t at = mix(page) & set->mask;

    while (set->pages[at] && set->pages[at] != page)
        at = (at + 1) & set->mask;
    set->count += !set->pages[at];
    set->pages[at] = page;
}

// The pages that blocks lie on, all of which were touched, in bytes.
static uint64_t occupied_bytes(unsigned burst_count)
{
    uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    size_t most = 1, slots = 2;

    for (unsigned i = 0; i < burst_count; i++)
        most += bursts[i].bytes / page_size + 2 * bursts[i].count;
    while (slots < most * 2)
        slots *= 2;

    struct page_set set = {.pages = table_allocate(slots * sizeof *set.pages), .mask = slots - 1};
    for (unsigned i = 0; i < burst_count; i++) {
        for (size_t k = 0; k < bursts[i].count; k++) {
            uintptr_t begin = (uintptr_t)bursts[i].blocks[k], last = begin + bursts[i].sizes[k] - 1;
            for (uintptr_t page = begin / page_size; page <= last / page_size; page++)
                page_set_add(&set, page);
        }
    }
    return set.count * page_size;
}

static void rest(struct run *run)
{
    uint64_t live = 0;

    for (unsigned i = 0; i < run->threads * 2; i++)
        live += bursts[i].bytes;
    workload_rest(run, options[REST].value, live);
    run->floor_bytes = occupied_bytes(run->threads * 2); // after the rest, which its table would be a part of
}

static void run(struct run *run)
{
    size_t count = (size_t)options[BLOCKS].value;

    bursts = table_allocate(run->threads * 2 * sizeof *bursts);
    for (unsigned i = 0; i < run->threads * 2; i++) {
        bursts[i].blocks = table_allocate(count * sizeof *bursts[i].blocks);
        bursts[i].sizes = table_allocate(count * sizeof *bursts[i].sizes);
    }
    run_workers_and_rest(run, body, rest);
}

const struct workload workload = {
    .name = "burst_idle",
    .about = "Threads build up memory, free nearly all of it, and then everything rests; 60 MB a thread and burst.",
    .threads = 4,
    .operations = 880000, // ten bursts of four threads
    .options = options,
    .run = run,
};
