// malloc and the free of the same block, again and again: the shortest way through an allocator. An operation is a
// pair.
#include "micro.h"

static void pair(struct bench_state *state)
{
    size_t size = (size_t)bench_arg(state, 0);
    uint64_t count = bench_start(state);

    for (uint64_t i = 0; i < count; i++) {
        char *block = malloc(size);
        *(volatile char *)block = 1;
        bench_keep(block);
        free(block);
    }
    bench_stop(state);
    bench_items(state, count);
}

void register_pair(void)
{
    // The powers of four. A single thread is measured by processor time, several by the clock.
    static const int64_t sizes[] = {16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20};
    struct bench *by_size = bench_register("pair", pair), *by_threads = bench_register("pair", pair);

    BENCH_ARG_NAMES(by_size, "size");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        BENCH_ARGS(by_size, sizes[i]);
    bench_threads(by_size, 1);

    BENCH_ARG_NAMES(by_threads, "size");
    BENCH_ARGS(by_threads, 64);
    bench_thread_range(by_threads, 2, BENCH_MAX_THREADS);
    bench_use_clock(by_threads);
}
