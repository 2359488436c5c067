// A batch of blocks of one size is allocated, then freed: last one first (LIFO, as nested scopes do), first one first
// (FIFO, as queues do), or in random order. Batches that are longer than what a thread caches go to the shared heap
// and back. An operation is one block's malloc and free.
#include "micro.h"

enum { MAX_BATCH = 1600 };

static void lifo(uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = count - 1 - i;
}

static void fifo(uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
}

// The order is looked up for all three, so that they differ in nothing but the order.
static void batch(struct bench_state *state, void (*arrange)(uint32_t *order, uint32_t count))
{
    char *blocks[MAX_BATCH];
    uint32_t order[MAX_BATCH];
    uint32_t length = (uint32_t)bench_arg(state, 0);
    size_t size = (size_t)bench_arg(state, 1);

    arrange(order, length);
    uint64_t count = bench_start(state);
    for (uint64_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < length; j++) {
            blocks[j] = malloc(size);
            *(volatile char *)blocks[j] = 1;
        }
        for (uint32_t j = 0; j < length; j++)
            free(blocks[order[j]]);
    }
    bench_stop(state);
    bench_items(state, count * length);
}

static void batch_lifo(struct bench_state *state)
{
    batch(state, lifo);
}

static void batch_fifo(struct bench_state *state)
{
    batch(state, fifo);
}

static void batch_random(struct bench_state *state)
{
    batch(state, shuffled);
}

static void add(const char *name, bench_function function)
{
    static const int64_t lengths[] = {25, 100, 400, MAX_BATCH}, sizes[] = {64, 1024};
    struct bench *bench = bench_register(name, function);

    BENCH_ARG_NAMES(bench, "blocks", "size");
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++)
            BENCH_ARGS(bench, lengths[i], sizes[j]);
    bench_threads(bench, 1);
}

void register_batch(void)
{
    add("batch/lifo", batch_lifo);
    add("batch/fifo", batch_fifo);
    add("batch/random", batch_random);
}
