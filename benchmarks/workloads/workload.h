// What the workloads share. Each of them is one program: a file that defines `workload` and does its work in run(), linked
// with workload.c, which has main(): options, workers, the clock, and the result as one line of JSON on stdout.
//
//   NAME [--seed N] [--threads N] [--operations N | --seconds S] [--latency] [options of the workload's own]
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include "histogram.h"
#include "random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// Durations of single calls, when --latency asked for them. Owned by one worker, added up at the end; no lock.
struct latencies {
    struct histogram malloc, free, realloc;
};

// One thread of a workload. Workers are given to run() ready: with a sequence of random numbers of their own and, under
// --latency, with histograms. `operations` is the worker's own count; workers are cache lines apart.
struct worker {
    struct run *run;
    unsigned index;
    uint64_t random;             // state of random_next
    uint64_t operations;         // done so far, kept by the workload
    uint64_t share;              // of run->operations; equal shares, unless run() sets others before it starts the workers
    struct latencies *latencies; // NULL without --latency

    // Of worker_continues: when it looks at the clock again, and what it saw.
    uint64_t next_look;
    unsigned calls;
    bool over;
} __attribute__((aligned(128)));

// What single calls took, by the clock of the thread's own CPU time and by the wall's, and what `nothing` between two reads
// of the CPU's clock took: see stalls.c.
struct stall_times {
    struct histogram cpu, wall, nothing;
};

// A part of a run that has a time of its own: see run_phase.
struct phase {
    const char *name;
    double seconds;
    uint64_t peak_rss_bytes;  // from the program's start to the phase's end
    uint64_t huge_page_bytes; // resident on transparent huge pages at its end, without the program's own tables
    struct stall_times *stalls; // of other threads' calls meanwhile; NULL where nobody times them
};

enum { MAX_PHASES = 5 };

// One run: what the options ask for, and what the workload reports.
struct run {
    uint64_t seed;
    unsigned threads;
    uint64_t operations; // to be done by all workers together; 0 when `seconds` counts
    double seconds;
    struct worker *workers; // `threads` of them; not in the heap that is measured

    // What the workload fills in beyond the operations and the time of its workers; 0 is left out of the JSON.
    uint64_t live_bytes;        // requested and not freed when the program was at rest
    uint64_t rest_rss_bytes;    // resident when the program was at rest: see workload_rest
    uint64_t peak_rss_bytes;    // of several processes together, when it is more than this one's own peak
    uint64_t rest_rss_1s_bytes; // the same one second into a longer rest
    uint64_t own_rss_bytes;     // resident before the first block: the program, its tables; not counted per live byte
    uint64_t floor_bytes;       // of the pages that the blocks at rest lie on: nobody could return more of them
    double growth;              // of what is resident while live bytes stay the same: late in the run by early in it
    uint64_t *samples;          // resident bytes in the course of the run, at moments that the workload chooses
    unsigned sample_count;
    double measured_seconds;    // the time that counts; run_workers adds to it
    struct phase phases[MAX_PHASES];
    unsigned phase_count;

    uint64_t started_ns, deadline_ns; // of run_clock_start
};

// A numeric option that one workload has: --NAME NUMBER. `value` is the default, and after main() read the options what
// was asked for. A table of them ends with a name of NULL.
struct workload_option {
    const char *name;
    const char *about; // for --help
    double value, low, high;
};

struct workload {
    const char *name;
    const char *about; // one sentence, for --help
    unsigned threads;  // defaults
    uint64_t operations;
    unsigned max_threads; // 1 for what has one thread by nature; 0: no limit of its own
    void (*run)(struct run *run);
    unsigned min_threads;            // 0: one is enough
    struct workload_option *options; // NULL: none
};

extern const struct workload workload;

// Starts run->threads threads, lets them go together, waits for them. The time between counts as measured. A single
// worker is the program's first thread: then the process has no other.
void run_workers(struct run *run, void (*body)(struct worker *worker));

// The same, but before the threads end they wait, blocked, while rest(run) is called: workload_rest belongs there.
void run_workers_and_rest(struct run *run, void (*body)(struct worker *worker), void (*rest)(struct run *run));

// The same as run_workers, and what is measured is also noted as a phase of this name. Phases that follow each other have
// new threads, or the program's first one again.
void run_phase(struct run *run, const char *name, void (*body)(struct worker *worker));

// For a workload that starts threads itself: what happens between the two calls counts as measured.
void run_clock_start(struct run *run);
void run_clock_stop(struct run *run);

// True while there is work left: for `operations`, while the worker has done less than its share; for `seconds`, until
// the time is over (the clock is read every 256 operations or calls).
bool worker_continues(struct worker *worker);

// What the calls below do under --latency, and when memory is short.
void *latency_malloc(struct worker *worker, size_t size);
void *latency_realloc(struct worker *worker, void *block, size_t size);
void latency_free(struct worker *worker, void *block);
void out_of_memory(size_t size) __attribute__((cold, noreturn));

// malloc, free, realloc that end the program with a sentence when memory is short, and measure the call under --latency.
static inline void *worker_malloc(struct worker *worker, size_t size)
{
    void *block = worker->latencies ? latency_malloc(worker, size) : malloc(size);

    if (!block)
        out_of_memory(size);
    return block;
}

static inline void *worker_realloc(struct worker *worker, void *block, size_t size)
{
    void *moved = worker->latencies ? latency_realloc(worker, block, size) : realloc(block, size);

    if (!moved)
        out_of_memory(size);
    return moved;
}

static inline void worker_free(struct worker *worker, void *block)
{
    if (worker->latencies)
        latency_free(worker, block);
    else
        free(block);
}

// Writes to a block as a program would that fills it: its first and last bytes, and one byte of each page.
void block_touch(void *block, size_t size);

// Sizes. Requests of real programs are small and skewed: most below 128 B, few large ones that hold most of the bytes.
// log-uniform between low and high, both included.
size_t size_between(uint64_t *random, size_t low, size_t high);
// A server's mixture: 60% 16-255 B, 30% 256-4095 B, 9% 4-32 KiB, 1% 32-256 KiB.
size_t size_mixed(uint64_t *random);
// Pareto distributed (alpha 1.2) from 16 B, cut off at 64 KiB.
size_t size_pareto(uint64_t *random);

// Sleeps so many seconds with all other threads blocked, then notes what is resident in run->rest_rss_bytes.
void workload_rest(struct run *run, double seconds, uint64_t live_bytes);

uint64_t resident_bytes(void);      // of this process, now
uint64_t private_dirty_bytes(void); // of this process, now: written, and shared with no other process
uint64_t huge_page_bytes(void);     // of this process, now: on transparent huge pages; 0 where the kernel has none
uint64_t clock_ns(void);            // monotonic

// Memory that is not the heap's: zeroed, from mmap, never given back. For tables that shall not disturb the measurement.
void *table_allocate(size_t bytes);
// The same on huge pages, and resident at once: for a table so large that looking into it would cost time of its own.
void *table_allocate_huge(size_t bytes);

// Ends the program with status 1 after "NAME: " and the sentence.
void workload_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
