// Blocks that grow: as vectors do, by doubling; as a string does that is appended to, by 16 bytes; and two strings in
// turn, where neither can grow into the space behind it. The new bytes are written, at least one per page. An
// operation is one realloc, the first of which allocates and the last of which is followed by a free.
#include "micro.h"

enum { FIRST = 16, STEP = 16 };

static void grow_by_doubling(struct bench_state *state)
{
    size_t limit = (size_t)bench_arg(state, 0);
    uint64_t count = bench_start(state), calls = 0;

    for (uint64_t i = 0; i < count; i++) {
        char *block = NULL;
        for (size_t old = 0, size = FIRST; size <= limit; old = size, size *= 2) {
            block = realloc(block, size);
            touch_pages(block + old, size - old);
            calls++;
        }
        free(block);
    }
    bench_stop(state);
    bench_items(state, calls);
}

static void grow_by_steps(struct bench_state *state, int strings)
{
    size_t limit = (size_t)bench_arg(state, 0);
    uint64_t count = bench_start(state), calls = 0;

    for (uint64_t i = 0; i < count; i++) {
        char *blocks[2] = {NULL, NULL};
        for (size_t size = STEP; size <= limit; size += STEP) {
            for (int j = 0; j < strings; j++) {
                blocks[j] = realloc(blocks[j], size);
                *(volatile char *)(blocks[j] + size - STEP) = 1;
            }
            calls += (uint64_t)strings;
        }
        free(blocks[0]);
        free(blocks[1]);
    }
    bench_stop(state);
    bench_items(state, calls);
}

static void append(struct bench_state *state)
{
    grow_by_steps(state, 1);
}

static void append_in_turn(struct bench_state *state)
{
    grow_by_steps(state, 2);
}

static void add(const char *name, bench_function function, int64_t small, int64_t large)
{
    struct bench *bench = bench_register(name, function);

    BENCH_ARG_NAMES(bench, "limit");
    BENCH_ARGS(bench, small);
    BENCH_ARGS(bench, large);
    bench_threads(bench, 1);
}

void register_realloc(void)
{
    add("realloc/double", grow_by_doubling, 4 << 10, 4 << 20);
    add("realloc/append", append, 1 << 10, 64 << 10);
    add("realloc/append_in_turn", append_in_turn, 1 << 10, 64 << 10);
}
