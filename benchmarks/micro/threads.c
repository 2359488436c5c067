// Threads that come and go, and allocate a few blocks in between, as in servers with a thread per request: what an
// allocator sets up for a thread and tears down again. Some at a time, or one. An operation is one thread, from its
// creation to its join.
#include "micro.h"

#include <pthread.h>
#include <stdbool.h>

enum { MAX_PARALLEL = 8, MAX_BLOCKS = 1000 };

struct job {
    uint64_t random;
    size_t length;
    bool leaves; // its blocks, for the thread that joins it to free
    char *blocks[MAX_BLOCKS];
};

static void free_blocks(struct job *job)
{
    for (size_t i = 0; i < job->length; i++)
        free(job->blocks[i]);
}

static void *work(void *argument)
{
    struct job *job = argument;

    for (size_t i = 0; i < job->length; i++) {
        job->blocks[i] = malloc(size_pareto(random_next(&job->random)));
        *(volatile char *)job->blocks[i] = 1;
    }
    if (!job->leaves)
        free_blocks(job);
    return NULL;
}

static void churn(struct bench_state *state, bool leaves)
{
    struct job jobs[MAX_PARALLEL];
    pthread_t threads[MAX_PARALLEL];
    int parallel = (int)bench_arg(state, 0);

    for (int j = 0; j < parallel; j++) {
        jobs[j].random = (uint64_t)j;
        jobs[j].length = (size_t)bench_arg(state, 1);
        jobs[j].leaves = leaves;
    }
    uint64_t count = bench_start(state);
    for (uint64_t i = 0; i < count; i++) {
        int started = 0;
        while (started < parallel && pthread_create(&threads[started], NULL, work, &jobs[started]) == 0)
            started++;
        for (int j = 0; j < started; j++) {
            pthread_join(threads[j], NULL);
            if (leaves)
                free_blocks(&jobs[j]);
        }
        if (started < parallel) {
            bench_skip(state, "no more threads can be created");
            return;
        }
    }
    bench_stop(state);
    bench_items(state, count * (uint64_t)parallel);
}

static void threads_churn(struct bench_state *state)
{
    churn(state, false);
}

static void threads_inherit(struct bench_state *state)
{
    churn(state, true);
}

void register_threads(void)
{
    struct bench *own = bench_register("threads/churn", threads_churn);
    struct bench *inherited = bench_register("threads/inherit", threads_inherit);

    BENCH_ARG_NAMES(own, "parallel", "blocks");
    BENCH_ARGS(own, 1, 10);
    BENCH_ARGS(own, 1, MAX_BLOCKS);
    BENCH_ARGS(own, MAX_PARALLEL, 10);
    BENCH_ARGS(own, MAX_PARALLEL, MAX_BLOCKS);
    BENCH_ARG_NAMES(inherited, "parallel", "blocks");
    BENCH_ARGS(inherited, 1, 100);
    BENCH_ARGS(inherited, MAX_PARALLEL, 100);
    bench_threads(own, 1);
    bench_threads(inherited, 1);
    bench_use_clock(own);
    bench_use_clock(inherited);
}
