#include "histogram.h"

#include <math.h>

enum { SUB_BUCKETS = 1 << HISTOGRAM_SUB_BITS };

// Below 64, a bucket for each value; above, the top bit chooses a group of 64 and the next six bits the bucket in it.
static unsigned bucket_of(uint64_t value)
{
    if (value >> HISTOGRAM_MAX_BITS)
        return HISTOGRAM_BUCKETS - 1;
    if (value < SUB_BUCKETS)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (shift << HISTOGRAM_SUB_BITS) + (unsigned)(value >> shift);
}

static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < 2 * SUB_BUCKETS)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t sub = bucket - (shift << HISTOGRAM_SUB_BITS);
    return ((sub + 1) << shift) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t nanoseconds)
{
    histogram->counts[bucket_of(nanoseconds)]++;
    histogram->total++;
    if (nanoseconds > histogram->max)
        histogram->max = nanoseconds;
}

void histogram_add(struct histogram *sum, const struct histogram *part)
{
    sum->total += part->total;
    if (part->max > sum->max)
        sum->max = part->max;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->counts[i] += part->counts[i];
}

uint64_t histogram_percentile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)ceil(share * (double)histogram->total), seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen > 0 && seen >= wanted)
            return bucket_end(i) < histogram->max ? bucket_end(i) : histogram->max;
    }
    return 0;
}
