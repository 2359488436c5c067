// What telling the size saves: free, C23's free_sized and C++'s sized operator delete on the same batches, in random
// order, so that the allocator's own records of a block are not at hand. Sizes are all the same, or Pareto
// distributed. An operation is one block's allocation and free.
#include "micro.h"

#include <dlfcn.h>
#include <stdbool.h>

enum { BATCH = 400 };

typedef void *allocate_function(size_t size);
typedef void free_function(void *block, size_t size);

static void plain_free(void *block, size_t size)
{
    (void)size;
    free(block);
}

// A free_sized of the libc would get blocks of another allocator, if that one has malloc but no free_sized.
static free_function *find_free_sized(void)
{
    void *function = dlsym(RTLD_DEFAULT, "free_sized"), *allocator = dlsym(RTLD_DEFAULT, "malloc");
    Dl_info theirs, its;

    if (!function || !dladdr(function, &theirs) || !dladdr(allocator, &its) || theirs.dli_fbase != its.dli_fbase)
        return NULL;
    return (free_function *)function;
}

static void sized(struct bench_state *state, allocate_function *allocate, free_function *release)
{
    void *blocks[BATCH];
    uint32_t order[BATCH];
    size_t sizes[BATCH];
    size_t size = bench_arg_count(state) > 0 ? (size_t)bench_arg(state, 0) : 0;
    uint64_t random = 1;

    shuffled(order, BATCH);
    for (uint32_t i = 0; i < BATCH; i++)
        sizes[i] = size > 0 ? size : size_pareto(random_next(&random));
    uint64_t count = bench_start(state);
    for (uint64_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < BATCH; j++) {
            blocks[j] = allocate(sizes[j]);
            *(volatile char *)blocks[j] = 1;
        }
        for (uint32_t j = 0; j < BATCH; j++)
            release(blocks[order[j]], sizes[order[j]]);
    }
    bench_stop(state);
    bench_items(state, count * BATCH);
}

static void run_free(struct bench_state *state)
{
    sized(state, malloc, plain_free);
}

static void run_free_sized(struct bench_state *state)
{
    free_function *free_sized = find_free_sized();

    if (free_sized)
        sized(state, malloc, free_sized);
    else
        bench_skip(state, "the allocator has no free_sized");
}

// operator new(size_t) and operator delete(void *, size_t): libstdc++ has them where the allocator has not.
static void run_delete(struct bench_state *state)
{
    allocate_function *allocate = (allocate_function *)dlsym(RTLD_DEFAULT, "_Znwm");
    free_function *release = (free_function *)dlsym(RTLD_DEFAULT, "_ZdlPvm");

    if (allocate && release)
        sized(state, allocate, release);
    else
        bench_skip(state, "there is no sized operator delete");
}

static void add(const char *one_size, const char *pareto, bench_function function)
{
    struct bench *bench = bench_register(one_size, function);

    BENCH_ARG_NAMES(bench, "size");
    BENCH_ARGS(bench, 64);
    BENCH_ARGS(bench, 1024);
    bench_threads(bench, 1);
    bench_threads(bench_register(pareto, function), 1);
}

void register_sized(void)
{
    add("sized/free", "sized/free/pareto", run_free);
    add("sized/free_sized", "sized/free_sized/pareto", run_free_sized);
    add("sized/delete", "sized/delete/pareto", run_delete);
}
