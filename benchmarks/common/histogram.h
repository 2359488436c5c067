// Latencies in nanoseconds, in buckets that are linear within each power of two: at most 1/64 (1.6%) wide, from 1 ns to
// 73 minutes, in 19 KiB. The idea is HdrHistogram's, whose C library not every distribution packages.
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB_BITS = 6, HISTOGRAM_MAX_BITS = 42 };
enum { HISTOGRAM_BUCKETS = (HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS };

struct histogram {
    uint64_t total;
    uint64_t max; // exact
    uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, uint64_t nanoseconds);
void histogram_add(struct histogram *sum, const struct histogram *part);

// The value that a share (0 to 1) of the records do not exceed, rounded up to the bucket's end, but never above the
// largest record.
uint64_t histogram_percentile(const struct histogram *histogram, double share);

#endif
