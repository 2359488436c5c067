// The blocks of a request, which go all together at its end: each by free, or all at once, from a heap of the
// allocator's (Arenal's arenal_heap_reset, mimalloc's mi_heap_destroy, an arena of jemalloc's with a cache, which are
// flushed and reset). An operation is one block, with its share of the end. A program with Google Benchmark's options,
// for any allocator that is preloaded:
//
//     LD_PRELOAD=build/release/src/libarenal.so build/release/benchmarks/micro/arenal_requests
#include "micro.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

enum { BLOCKS = 10000, SMALL = 1024 };

// A heap, by whatever the allocator has. begin() returns false where it has none.
struct heaps {
    bool (*begin)(void);
    void *(*allocate)(size_t size);
    void (*end_of_request)(void);
    void (*end)(void);
};

// ---- Arenal

static struct {
    void *(*create)(const char *name);
    void *(*alloc)(void *heap, size_t size);
    void (*reset)(void *heap), (*destroy)(void *heap);
} arenal;
static __thread void *heap;

static bool arenal_begin(void)
{
    heap = arenal.create("request");
    return heap;
}

static void *arenal_allocate(size_t size)
{
    return arenal.alloc(heap, size);
}

static void arenal_end_of_request(void)
{
    arenal.reset(heap);
}

static void arenal_end(void)
{
    arenal.destroy(heap);
}

static bool find_arenal(void)
{
    *(void **)&arenal.create = dlsym(RTLD_DEFAULT, "arenal_heap_create");
    *(void **)&arenal.alloc = dlsym(RTLD_DEFAULT, "arenal_heap_alloc");
    *(void **)&arenal.reset = dlsym(RTLD_DEFAULT, "arenal_heap_reset");
    *(void **)&arenal.destroy = dlsym(RTLD_DEFAULT, "arenal_heap_destroy");
    return arenal.create && arenal.alloc && arenal.reset && arenal.destroy;
}

// ---- mimalloc: a new heap for each request, as it has no other end

static struct {
    void *(*create)(void);
    void *(*alloc)(void *heap, size_t size);
    void (*destroy)(void *heap);
} mimalloc;

static bool mimalloc_begin(void)
{
    heap = mimalloc.create();
    return heap;
}

static void *mimalloc_allocate(size_t size)
{
    return mimalloc.alloc(heap, size);
}

static void mimalloc_end_of_request(void)
{
    mimalloc.destroy(heap);
    heap = mimalloc.create();
}

static void mimalloc_end(void)
{
    mimalloc.destroy(heap);
}

static bool find_mimalloc(void)
{
    *(void **)&mimalloc.create = dlsym(RTLD_DEFAULT, "mi_heap_new");
    *(void **)&mimalloc.alloc = dlsym(RTLD_DEFAULT, "mi_heap_malloc");
    *(void **)&mimalloc.destroy = dlsym(RTLD_DEFAULT, "mi_heap_destroy");
    return mimalloc.create && mimalloc.alloc && mimalloc.destroy;
}

// ---- jemalloc

static struct {
    int (*ctl)(const char *name, void *old, size_t *old_length, void *new, size_t new_length);
    void *(*alloc)(size_t size, int flags);
} jemalloc;
static __thread int flags;
static __thread unsigned arena, cache;
static __thread char reset[40];

static bool jemalloc_begin(void)
{
    size_t length = sizeof arena;

    if (jemalloc.ctl("arenas.create", &arena, &length, NULL, 0) || jemalloc.ctl("tcache.create", &cache, &length, NULL, 0))
        return false;
    flags = (int)((arena + 1) << 20 | (cache + 2) << 8);
    snprintf(reset, sizeof reset, "arena.%u.reset", arena);
    return true;
}

static void *jemalloc_allocate(size_t size)
{
    return jemalloc.alloc(size, flags);
}

static void jemalloc_end_of_request(void)
{
    jemalloc.ctl("tcache.flush", NULL, NULL, &cache, sizeof cache);
    jemalloc.ctl(reset, NULL, NULL, NULL, 0);
}

static void jemalloc_end(void)
{
    char destroy[40];

    jemalloc.ctl("tcache.destroy", NULL, NULL, &cache, sizeof cache);
    snprintf(destroy, sizeof destroy, "arena.%u.destroy", arena);
    jemalloc.ctl(destroy, NULL, NULL, NULL, 0);
}

static bool find_jemalloc(void)
{
    *(void **)&jemalloc.ctl = dlsym(RTLD_DEFAULT, "mallctl");
    *(void **)&jemalloc.alloc = dlsym(RTLD_DEFAULT, "mallocx");
    return jemalloc.ctl && jemalloc.alloc;
}

static const struct heaps *find(void)
{
    static const struct heaps of_arenal = {arenal_begin, arenal_allocate, arenal_end_of_request, arenal_end},
                              of_mimalloc = {mimalloc_begin, mimalloc_allocate, mimalloc_end_of_request, mimalloc_end},
                              of_jemalloc = {jemalloc_begin, jemalloc_allocate, jemalloc_end_of_request, jemalloc_end};

    return find_arenal() ? &of_arenal : find_mimalloc() ? &of_mimalloc : find_jemalloc() ? &of_jemalloc : NULL;
}

// ---- the requests

static void choose_sizes(struct bench_state *state, uint16_t *sizes)
{
    size_t size = bench_arg_count(state) > 0 ? (size_t)bench_arg(state, 0) : 0;
    uint64_t random = 1;

    for (uint32_t i = 0; i < BLOCKS; i++) {
        size_t pareto = size_pareto(random_next(&random));
        sizes[i] = (uint16_t)(size > 0 ? size : pareto < SMALL ? pareto : SMALL);
    }
}

static void use(char *block, size_t i)
{
    *(volatile char *)block = (char)i;
}

static void run_free(struct bench_state *state)
{
    static __thread char *blocks[BLOCKS];
    uint16_t sizes[BLOCKS];

    choose_sizes(state, sizes);
    uint64_t count = bench_start(state);
    for (uint64_t request = 0; request < count; request++) {
        for (uint32_t i = 0; i < BLOCKS; i++)
            use(blocks[i] = malloc(sizes[i]), i);
        for (uint32_t i = 0; i < BLOCKS; i++)
            free(blocks[i]);
    }
    bench_stop(state);
    bench_items(state, count * BLOCKS);
}

static void run_heap(struct bench_state *state)
{
    const struct heaps *heaps = find();
    uint16_t sizes[BLOCKS];

    if (!heaps || !heaps->begin()) {
        bench_skip(state, "the allocator has no heaps");
        return;
    }
    choose_sizes(state, sizes);
    uint64_t count = bench_start(state);
    for (uint64_t request = 0; request < count; request++) {
        for (uint32_t i = 0; i < BLOCKS; i++)
            use(heaps->allocate(sizes[i]), i);
        heaps->end_of_request();
    }
    bench_stop(state);
    bench_items(state, count * BLOCKS);
    heaps->end();
}

static void add(const char *name, bench_function function)
{
    struct bench *fixed = bench_register(name, function);
    char mixed[60];

    BENCH_ARG_NAMES(fixed, "size");
    BENCH_ARGS(fixed, 64);
    BENCH_ARGS(fixed, 512);
    bench_threads(fixed, 1);
    snprintf(mixed, sizeof mixed, "%s/pareto", name);
    struct bench *pareto = bench_register(mixed, function);
    bench_threads(pareto, 1);
    bench_threads(pareto, 4);
}

static void *nothing(void *argument)
{
    return argument;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    // as in micro.c: allocators leave locks out until there is a thread
    if (pthread_create(&thread, NULL, nothing, NULL) == 0)
        pthread_join(thread, NULL);
    sizes_compute();
    add("request/free", run_free);
    add("request/heap", run_heap);
    return bench_main(argc, argv);
}
