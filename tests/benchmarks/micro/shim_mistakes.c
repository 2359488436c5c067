// Wrong uses of the shim, each of which ends the program with a sentence.
#include "bench.h"

#include <stdio.h>
#include <string.h>

static void nothing(struct bench_state *state)
{
    bench_start(state);
    bench_stop(state);
}

static void twice(struct bench_state *state)
{
    bench_start(state);
    bench_start(state);
}

static void no_such_argument(struct bench_state *state)
{
    bench_arg(state, 0);
}

static void early_items(struct bench_state *state)
{
    bench_start(state);
    bench_items(state, 1);
}

static int run(bench_function function)
{
    char *argv[] = {"bench", "--benchmark_filter=wrong", NULL};

    bench_register("wrong", function);
    return bench_main(2, argv);
}

int make_mistake(const char *what)
{
    struct bench *bench = bench_register("mistaken", nothing);

    BENCH_ARG_NAMES(bench, "one");
    if (strcmp(what, "arguments") == 0)
        BENCH_ARGS(bench, 1, 2);
    else if (strcmp(what, "threads") == 0)
        bench_threads(bench, BENCH_MAX_THREADS + 1);
    else if (strcmp(what, "range") == 0)
        bench_thread_range(bench, 8, 4);
    else if (strcmp(what, "exception") == 0)
        bench_arg_names(bench, (size_t)1 << 59, NULL); // more than a std::vector can hold
    else if (strcmp(what, "hooks") == 0)
        for (int i = 0; i < 1000; i++)
            bench_setup(bench_register("mistaken", nothing), nothing);
    else if (strcmp(what, "twice") == 0)
        return run(twice);
    else if (strcmp(what, "no-such-argument") == 0)
        return run(no_such_argument);
    else if (strcmp(what, "early-items") == 0)
        return run(early_items);
    printf("%s went unnoticed\n", what);
    return 0;
}
