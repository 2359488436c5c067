// How large requests are. The distributions follow what is known of servers: Zhou et al., "Characterizing a Memory
// Allocator at Warehouse Scale" (ASPLOS 2024), find most requests small and most bytes in the few large ones.
#include "workload.h"

#include <math.h>

// Inline, so that the logarithm of what is constant is the compiler's work.
static inline size_t log_uniform(uint64_t *random, size_t low, size_t high)
{
    double size = (double)low * exp2(random_unit(random) * log2((double)(high + 1) / (double)low));

    return size < (double)high ? (size_t)size : high;
}

size_t size_between(uint64_t *random, size_t low, size_t high)
{
    return log_uniform(random, low, high);
}

size_t size_mixed(uint64_t *random)
{
    unsigned percent = (unsigned)(random_unit(random) * 100);

    if (percent < 60)
        return log_uniform(random, 16, 255);
    if (percent < 90)
        return log_uniform(random, 256, 4095);
    if (percent < 99)
        return log_uniform(random, 4096, 32767);
    return log_uniform(random, 32768, 262144);
}

size_t size_pareto(uint64_t *random)
{
    double size = 16 * pow(1 - random_unit(random), -1 / 1.2);

    return size < 65536 ? (size_t)size : 65536;
}
