// The result: one line of JSON.
#include "harness.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_histogram(const char *name, const struct histogram *histogram, const char *before)
{
    static const struct {
        const char *name;
        double share;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}};

    printf("%s\"%s\":{\"count\":%" PRIu64, before, name, histogram->total);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        printf(",\"%s\":%" PRIu64, points[i].name, histogram_percentile(histogram, points[i].share));
    printf(",\"max\":%" PRIu64 "}", histogram->max);
}

static void print_latencies(const struct run *run)
{
    struct latencies *sum = table_allocate(sizeof *sum);
    const struct {
        const char *name;
        const struct histogram *histogram;
    } calls[] = {{"malloc", &sum->malloc}, {"free", &sum->free}, {"realloc", &sum->realloc}};
    const char *before = "";

    for (unsigned i = 0; i < run->threads; i++) {
        histogram_add(&sum->malloc, &run->workers[i].latencies->malloc);
        histogram_add(&sum->free, &run->workers[i].latencies->free);
        histogram_add(&sum->realloc, &run->workers[i].latencies->realloc);
    }
    printf(",\"latency_ns\":{");
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (calls[i].histogram->total) { // calls that the workload never makes have no percentiles
            print_histogram(calls[i].name, calls[i].histogram, before);
            before = ",";
        }
    }
    printf("}");
}

static void print_bytes(const char *name, uint64_t bytes)
{
    if (bytes)
        printf(",\"%s\":%" PRIu64, name, bytes);
}

static void print_phases(const struct run *run)
{
    printf(",\"phases\":{");
    for (unsigned i = 0; i < run->phase_count; i++) {
        const struct phase *phase = &run->phases[i];
        printf("%s\"%s\":{\"seconds\":%.6f,\"peak_rss_bytes\":%" PRIu64 ",\"huge_page_bytes\":%" PRIu64,
               i ? "," : "", phase->name, phase->seconds, phase->peak_rss_bytes, phase->huge_page_bytes);
        if (phase->stalls) {
            print_histogram("stall_cpu_ns", &phase->stalls->cpu, ",");
            print_histogram("stall_wall_ns", &phase->stalls->wall, ",");
            print_histogram("stall_nothing_ns", &phase->stalls->nothing, ",");
        }
        printf("}");
    }
    printf("}");
}

static void print_samples(const struct run *run)
{
    printf(",\"rss_samples\":[");
    for (unsigned i = 0; i < run->sample_count; i++)
        printf("%s%" PRIu64, i ? "," : "", run->samples[i]);
    printf("]");
}

void result_print(const struct run *run)
{
    static char buffer[BUFSIZ];
    uint64_t operations = 0, peak = peak_resident_bytes();

    // The kernel's counter for the peak lags a little behind; what was seen at rest was counted page by page.
    if (peak < run->rest_rss_bytes)
        peak = run->rest_rss_bytes;
    if (peak < run->peak_rss_bytes)
        peak = run->peak_rss_bytes;
    for (unsigned i = 0; i < run->threads; i++)
        operations += run->workers[i].operations;
    if (!operations || !(run->measured_seconds > 0))
        workload_fail("the run was too short to do anything");

    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    printf("{\"workload\":\"%s\",\"seed\":%" PRIu64 ",\"threads\":%u,\"operations\":%" PRIu64 ",\"seconds\":%.6f",
           workload.name, run->seed, run->threads, operations, run->measured_seconds);
    printf(",\"operations_per_second\":%.0f,\"ns_per_operation\":%.3f", (double)operations / run->measured_seconds,
           run->measured_seconds * 1e9 / (double)operations);
    print_bytes("peak_rss_bytes", peak);
    print_bytes("rest_rss_bytes", run->rest_rss_bytes);
    print_bytes("rest_rss_1s_bytes", run->rest_rss_1s_bytes);
    print_bytes("live_bytes", run->live_bytes);
    print_bytes("own_rss_bytes", run->own_rss_bytes);
    print_bytes("floor_bytes", run->floor_bytes);
    if (run->rest_rss_bytes > run->own_rss_bytes && run->live_bytes)
        printf(",\"rest_rss_per_live_byte\":%.4f",
               (double)(run->rest_rss_bytes - run->own_rss_bytes) / (double)run->live_bytes);
    if (run->growth > 0)
        printf(",\"growth\":%.4f", run->growth);
    if (run->sample_count)
        print_samples(run);
    if (run->phase_count)
        print_phases(run);
    if (run->workers[0].latencies)
        print_latencies(run);
    printf("}\n");
    if (fflush(stdout) || ferror(stdout))
        workload_fail("cannot write the result: %s", strerror(errno));
}
