// All micro-benchmarks in one program, with Google Benchmark's options: --benchmark_list_tests,
// --benchmark_filter=REGEX, --benchmark_format=json, --benchmark_min_time=SECONDS.
#include "micro.h"

#include <pthread.h>

static void *nothing(void *argument)
{
    return argument;
}

// The libc, and allocators, leave locks out until a program starts its first thread. Which benchmarks run before that
// shall not depend on the filter: so it is before all of them.
static void become_multithreaded(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, nothing, NULL) == 0)
        pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    become_multithreaded();
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
