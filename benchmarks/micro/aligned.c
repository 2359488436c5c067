// Aligned allocation and its free, some blocks at a time, so that it is not one block alone that comes back each
// time. An operation is one block's allocation and free.
#include "micro.h"

enum { HELD = 16 };

static void aligned(struct bench_state *state, void *(*allocate)(size_t alignment, size_t size))
{
    void *blocks[HELD];
    size_t alignment = (size_t)bench_arg(state, 0), size = (size_t)bench_arg(state, 1);
    uint64_t count = bench_start(state);

    for (uint64_t i = 0; i < count; i++) {
        for (int j = 0; j < HELD; j++) {
            blocks[j] = allocate(alignment, size);
            *(volatile char *)blocks[j] = 1;
        }
        for (int j = 0; j < HELD; j++)
            free(blocks[j]);
    }
    bench_stop(state);
    bench_items(state, count * HELD);
}

static void *by_posix_memalign(size_t alignment, size_t size)
{
    void *block = NULL;

    return posix_memalign(&block, alignment, size) == 0 ? block : NULL;
}

static void run_aligned_alloc(struct bench_state *state)
{
    aligned(state, aligned_alloc);
}

static void run_posix_memalign(struct bench_state *state)
{
    aligned(state, by_posix_memalign);
}

void register_aligned(void)
{
    struct bench *aligned_alloc = bench_register("aligned/aligned_alloc", run_aligned_alloc);
    struct bench *posix_memalign = bench_register("aligned/posix_memalign", run_posix_memalign);

    // C demands of aligned_alloc that the size is a multiple of the alignment, POSIX does not of posix_memalign.
    BENCH_ARG_NAMES(aligned_alloc, "alignment", "size");
    BENCH_ARG_NAMES(posix_memalign, "alignment", "size");
    for (int64_t alignment = 64; alignment <= 4096; alignment *= 4) {
        BENCH_ARGS(aligned_alloc, alignment, alignment);
        BENCH_ARGS(posix_memalign, alignment, 100);
    }
    bench_threads(aligned_alloc, 1);
    bench_threads(posix_memalign, 1);
}
