// calloc and free. The first write of a page that calloc got from the kernel is part of its cost, and an allocator
// that knows which memory is still zero has less to clear: so both with and without touching the pages. An operation
// is a pair.
#include "micro.h"

static void calloc_free(struct bench_state *state)
{
    size_t size = (size_t)bench_arg(state, 0);
    int64_t touch = bench_arg(state, 1);
    uint64_t count = bench_start(state);

    for (uint64_t i = 0; i < count; i++) {
        char *block = calloc(1, size);
        if (touch)
            touch_pages(block, size);
        bench_keep(block);
        free(block);
    }
    bench_stop(state);
    bench_items(state, count);
}

void register_calloc(void)
{
    struct bench *bench = bench_register("calloc", calloc_free);

    BENCH_ARG_NAMES(bench, "size", "touch");
    BENCH_ARGS(bench, 16, 1);
    BENCH_ARGS(bench, 256, 1);
    BENCH_ARGS(bench, 4 << 10, 1);
    for (int64_t touch = 0; touch <= 1; touch++) {
        BENCH_ARGS(bench, 64 << 10, touch);
        BENCH_ARGS(bench, 1 << 20, touch);
    }
    bench_threads(bench, 1);
}
