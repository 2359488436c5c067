// main() of every workload: its workers, and the clock.
#include "harness.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static struct {
    void (*body)(struct worker *worker);
    pthread_barrier_t start, done, leave;
} crew;

void workload_fail(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "%s: ", workload.name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _Exit(1); // other threads still run: nothing of theirs may be taken down under them
}

void out_of_memory(size_t size)
{
    workload_fail("no memory for a block of %zu bytes", size);
}

void *table_allocate(size_t bytes)
{
    void *table = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (table == MAP_FAILED)
        workload_fail("no memory for a table of %zu bytes", bytes);
    // Tables are touched bit by bit; a huge page would count as resident at once.
    madvise(table, bytes, MADV_NOHUGEPAGE);
    return table;
}

void *table_allocate_huge(size_t bytes)
{
    void *table = table_allocate(bytes);

    madvise(table, bytes, MADV_HUGEPAGE); // the last word counts; where it fails, the table is slower
    memset(table, 1, bytes);              // zeroes would do with the kernel's one page of them
    return memset(table, 0, bytes);
}

uint64_t clock_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void run_clock_start(struct run *run)
{
    run->started_ns = clock_ns();
    run->deadline_ns = run->started_ns + (uint64_t)(run->seconds * 1e9);
}

void run_clock_stop(struct run *run)
{
    run->measured_seconds += (double)(clock_ns() - run->started_ns) * 1e-9;
}

bool worker_continues(struct worker *worker)
{
    enum { EVERY = 256 };
    const struct run *run = worker->run;

    if (run->operations)
        return worker->operations < worker->share;
    if (worker->over)
        return false;
    // Operations count too, since one call may stand for many of them.
    if (++worker->calls >= EVERY || worker->operations >= worker->next_look) {
        worker->calls = 0;
        worker->next_look = worker->operations + EVERY;
        worker->over = clock_ns() >= run->deadline_ns;
    }
    return !worker->over;
}

static void *worker_main(void *argument)
{
    pthread_barrier_wait(&crew.start);
    crew.body(argument);
    pthread_barrier_wait(&crew.done);
    pthread_barrier_wait(&crew.leave);
    return NULL;
}

void run_workers_and_rest(struct run *run, void (*body)(struct worker *worker), void (*rest)(struct run *run))
{
    if (run->threads == 1) {
        run_clock_start(run);
        body(&run->workers[0]);
        run_clock_stop(run);
        if (rest)
            rest(run);
        return;
    }

    pthread_t *threads = table_allocate(run->threads * sizeof *threads);
    crew.body = body;
    pthread_barrier_init(&crew.start, NULL, run->threads + 1);
    pthread_barrier_init(&crew.done, NULL, run->threads + 1);
    pthread_barrier_init(&crew.leave, NULL, run->threads + 1);
    for (unsigned i = 0; i < run->threads; i++) {
        int error = pthread_create(&threads[i], NULL, worker_main, &run->workers[i]);
        if (error)
            workload_fail("cannot start thread %u: %s", i + 1, strerror(error));
    }
    run_clock_start(run);
    pthread_barrier_wait(&crew.start);
    pthread_barrier_wait(&crew.done);
    run_clock_stop(run);
    if (rest)
        rest(run);
    pthread_barrier_wait(&crew.leave);
    for (unsigned i = 0; i < run->threads; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&crew.start);
    pthread_barrier_destroy(&crew.done);
    pthread_barrier_destroy(&crew.leave);
}

void run_workers(struct run *run, void (*body)(struct worker *worker))
{
    run_workers_and_rest(run, body, NULL);
}

void run_phase(struct run *run, const char *name, void (*body)(struct worker *worker))
{
    static uint64_t own_huge_page_bytes; // before the first phase
    struct phase *phase = &run->phases[run->phase_count];
    double before = run->measured_seconds;

    if (run->phase_count++ == 0)
        own_huge_page_bytes = huge_page_bytes();
    for (unsigned i = 0; i < run->threads; i++)
        run->workers[i].over = false; // the clock starts anew
    run_workers(run, body);

    uint64_t peak = peak_resident_bytes(), resident = resident_bytes(), huge = huge_page_bytes();
    *phase = (struct phase){
        .name = name,
        .seconds = run->measured_seconds - before,
        .peak_rss_bytes = peak > resident ? peak : resident,
        .huge_page_bytes = huge > own_huge_page_bytes ? huge - own_huge_page_bytes : 0,
    };
}

void block_touch(void *block, size_t size)
{
    volatile char *bytes = block;

    if (size == 0)
        return;
    for (size_t at = 0; at < size; at += 4096)
        bytes[at] = (char)size;
    bytes[size - 1] = 1;
}

static void workers_prepare(struct run *run, bool latency)
{
    run->workers = table_allocate(run->threads * sizeof *run->workers);
    for (unsigned i = 0; i < run->threads; i++) {
        struct worker *worker = &run->workers[i];
        worker->run = run;
        worker->index = i;
        worker->random = mix(mix(run->seed + 1) + i + 1);
        worker->share = run->operations / run->threads + (i < run->operations % run->threads);
        if (latency)
            worker->latencies = table_allocate(sizeof *worker->latencies);
    }
}

int main(int argc, char **argv)
{
    struct run run = {.seed = 1};
    bool latency = options_read(&run, argc, argv);

    if (latency)
        latency_calibrate();
    workers_prepare(&run, latency);
    workload.run(&run);
    result_print(&run);
    return 0;
}
