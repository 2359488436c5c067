// The clock for single calls. A malloc takes some ten nanoseconds: clock_gettime costs more than that, and an unordered
// rdtsc may be read before the call it shall follow. So: rdtscp, which waits for what is before it, and lfence, which
// holds up what comes after it (Intel: How to Benchmark Code Execution Times, 2010). What reading it twice takes at least is
// subtracted. Where the time stamp counter does not tick evenly, and on other processors, clock_gettime is used.
#include "harness.h"

static struct {
    bool counter;            // the processor's time stamp counter, not clock_gettime
    double nanoseconds;      // a tick
    uint64_t cost;           // of two readings, in ticks
} timer = {.nanoseconds = 1};

#ifdef __x86_64__
#include <cpuid.h>
#include <x86intrin.h>

static bool counter_is_even(void)
{
    unsigned eax, ebx, ecx, edx, edx_extended;

    return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx_extended) && (edx_extended & (1u << 27)) && // has rdtscp
           __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && (edx & (1u << 8));                      // invariant
}

static inline uint64_t ticks(void)
{
    unsigned cpu;

    if (!timer.counter)
        return clock_ns();
    _mm_lfence(); // stores of before may still be on their way; loads and the rest are done
    uint64_t now = __rdtscp(&cpu);
    _mm_lfence();
    return now;
}
#else
static bool counter_is_even(void)
{
    return false;
}

static inline uint64_t ticks(void)
{
    return clock_ns();
}
#endif

void latency_calibrate(void)
{
    enum { READINGS = 20000, CALIBRATE_NS = 20000000 };

    timer.counter = counter_is_even();
    if (timer.counter) {
        uint64_t from_ns = clock_ns(), from = ticks(), to_ns;
        do
            to_ns = clock_ns();
        while (to_ns - from_ns < CALIBRATE_NS);
        timer.nanoseconds = (double)(to_ns - from_ns) / (double)(ticks() - from);
    }
    timer.cost = UINT64_MAX;
    for (int i = 0; i < READINGS; i++) {
        uint64_t from = ticks(), took = ticks() - from;
        if (took < timer.cost)
            timer.cost = took;
    }
}

static void record(struct histogram *histogram, uint64_t took)
{
    uint64_t nanoseconds = took > timer.cost ? (uint64_t)((double)(took - timer.cost) * timer.nanoseconds + 0.5) : 0;

    histogram_record(histogram, nanoseconds ? nanoseconds : 1);
}

void *latency_malloc(struct worker *worker, size_t size)
{
    uint64_t from = ticks();
    void *block = malloc(size);

    record(&worker->latencies->malloc, ticks() - from);
    return block;
}

void *latency_realloc(struct worker *worker, void *block, size_t size)
{
    uint64_t from = ticks();
    void *moved = realloc(block, size);

    record(&worker->latencies->realloc, ticks() - from);
    return moved;
}

void latency_free(struct worker *worker, void *block)
{
    uint64_t from = ticks();

    free(block);
    record(&worker->latencies->free, ticks() - from);
}
