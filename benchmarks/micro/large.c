// Large blocks, on both sides of the sizes from which allocators map each block by itself (128 KiB in glibc, at
// first): what a pair costs, with and without page faults, and what replacing some blocks of random sizes costs. An
// operation is one malloc and one free.
#include "micro.h"

enum { LEAST = 64 << 10, MOST = 4 << 20, SLOTS = 16, DRAWN = 256 };

static void large_pair(struct bench_state *state)
{
    size_t size = (size_t)bench_arg(state, 0);
    int64_t touch = bench_arg(state, 1);
    uint64_t count = bench_start(state);

    for (uint64_t i = 0; i < count; i++) {
        char *block = malloc(size);
        if (touch)
            touch_pages(block, size);
        bench_keep(block);
        free(block);
    }
    bench_stop(state);
    bench_items(state, count);
}

static void large_replace(struct bench_state *state)
{
    char *slots[SLOTS] = {NULL};
    size_t sizes[DRAWN]; // log-uniform, because each size shall be as likely as its double
    uint64_t random = 1;
    int64_t touch = bench_arg(state, 0);

    for (int i = 0; i < DRAWN; i++) {
        size_t power = (size_t)LEAST << random_next(&random) % 6;
        sizes[i] = power + random_next(&random) % power;
    }
    uint64_t count = bench_start(state);
    for (uint64_t i = 0; i < count; i++) {
        char **slot = &slots[random_next(&random) % SLOTS];
        size_t size = sizes[i % DRAWN];
        free(*slot);
        *slot = malloc(size);
        if (touch)
            touch_pages(*slot, size);
    }
    bench_stop(state);
    bench_items(state, count);
    for (int i = 0; i < SLOTS; i++)
        free(slots[i]);
}

void register_large(void)
{
    struct bench *pair = bench_register("large/pair", large_pair);
    struct bench *replace = bench_register("large/replace", large_replace);

    BENCH_ARG_NAMES(pair, "size", "touch");
    BENCH_ARG_NAMES(replace, "touch");
    for (int64_t touch = 0; touch <= 1; touch++) {
        for (int64_t size = LEAST; size <= MOST; size *= 2)
            BENCH_ARGS(pair, size, touch);
        BENCH_ARGS(replace, touch);
    }
    bench_threads(pair, 1);
    bench_threads(replace, 1);
}
