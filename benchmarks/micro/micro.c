// All micro-benchmarks in one program, with Google Benchmark's options: --benchmark_list_tests, --benchmark_filter=REGEX,
// --benchmark_format=json, --benchmark_min_time=SECONDS.
#include "micro.h"

int main(int argc, char **argv)
{
    sizes_compute();
    register_pair();
    register_batch();
    register_replace();
    register_calloc();
    register_realloc();
    register_aligned();
    register_cross();
    register_threads();
    register_large();
    register_sized();
    return bench_main(argc, argv);
}
