// A full table in which a block, chosen at random, is freed and replaced by one of another size: the steady state of
// a program, with the sizes of real ones, most small and some large. An operation is one free and one malloc.
#include "micro.h"

enum { MAX_SLOTS = 16384 };

static void replace(struct bench_state *state)
{
    char *slots[MAX_SLOTS];
    size_t length = (size_t)bench_arg(state, 0);
    uint64_t random = (uint64_t)bench_thread_index(state);

    for (size_t i = 0; i < length; i++)
        slots[i] = malloc(size_pareto(random_next(&random)));
    uint64_t count = bench_start(state);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t next = random_next(&random);
        char **slot = &slots[(next >> 32) % length];
        free(*slot);
        *slot = malloc(size_pareto(next));
        *(volatile char *)*slot = 1;
    }
    bench_stop(state);
    bench_items(state, count);
    for (size_t i = 0; i < length; i++)
        free(slots[i]);
}

void register_replace(void)
{
    struct bench *by_slots = bench_register("replace", replace), *by_threads = bench_register("replace", replace);

    BENCH_ARG_NAMES(by_slots, "slots");
    BENCH_ARGS(by_slots, 100);
    BENCH_ARGS(by_slots, 1000); // by processor time, as all that has a single thread
    BENCH_ARGS(by_slots, MAX_SLOTS);
    bench_threads(by_slots, 1);

    BENCH_ARG_NAMES(by_threads, "slots");
    BENCH_ARGS(by_threads, 1000);
    bench_thread_range(by_threads, 2, BENCH_MAX_THREADS);
    bench_use_clock(by_threads);
}
