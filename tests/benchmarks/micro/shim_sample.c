// Benchmarks whose results are known, for test_shim.py. With a word, a mistake: see shim_mistakes.c.
#include "bench.h"

#include <stdlib.h>
#include <time.h>

int make_mistake(const char *what);

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void spin(clockid_t clock, double seconds)
{
    double start = seconds_of(clock);

    while (seconds_of(clock) - start < seconds)
        ;
}

static void rest(double seconds)
{
    struct timespec time = {0, (long)(seconds * 1e9)};

    nanosleep(&time, NULL);
}

static void arguments(struct bench_state *state)
{
    uint64_t count = bench_start(state);

    for (uint64_t i = 0; i < count; i++)
        spin(CLOCK_THREAD_CPUTIME_ID, 1e-5);
    bench_stop(state);
    bench_counter(state, "given", (double)bench_arg_count(state), BENCH_SUM);
    bench_counter(state, "first", (double)bench_arg(state, 0), BENCH_SUM);
    bench_counter(state, "second", (double)bench_arg(state, 1), BENCH_SUM);
    bench_counter(state, "counted", (double)count, BENCH_SUM);
    bench_items(state, count * 3);
}

static void threads(struct bench_state *state)
{
    uint64_t count = bench_start(state);

    for (uint64_t i = 0; i < count; i++)
        spin(CLOCK_THREAD_CPUTIME_ID, 1e-6);
    bench_stop(state);
    bench_counter(state, "count", (double)bench_thread_count(state), BENCH_AVERAGE);
    bench_counter(state, "index_sum", (double)bench_thread_index(state), BENCH_SUM);
    bench_counter(state, "square_sum", (double)(bench_thread_index(state) * bench_thread_index(state)), BENCH_SUM);
    bench_counter(state, "counted", (double)count, BENCH_SUM);
}

// Thread 0 is done at once, thread 3 after 30 ms: together they do 4 operations in 30 ms.
static void on_clock(struct bench_state *state)
{
    bench_start(state);
    rest(0.01 * bench_thread_index(state));
    bench_stop(state);
    bench_items(state, 1);
    bench_counter(state, "rate", 1, BENCH_PER_SECOND);
}

// 1 ms counts; the 4 ms, on whichever clock, do not. What the 1 ms took on each clock is told, because on a machine
// that is busy it is more.
static void paused(struct bench_state *state)
{
    uint64_t count = bench_start(state);
    double seconds = 0;

    for (uint64_t i = 0; i < count; i++) {
        double start = seconds_of(CLOCK_MONOTONIC);
        spin(CLOCK_THREAD_CPUTIME_ID, 1e-3);
        seconds += seconds_of(CLOCK_MONOTONIC) - start;
        bench_pause(state);
        spin(CLOCK_MONOTONIC, 4e-3);
        bench_resume(state);
    }
    bench_stop(state);
    bench_items(state, count);
    bench_counter(state, "true_rate", (double)count / seconds, BENCH_SUM);
}

static void never_stopped(struct bench_state *state)
{
    uint64_t count = bench_start(state);

    for (uint64_t i = 0; i < count; i++)
        spin(CLOCK_THREAD_CPUTIME_ID, 1e-3);
}

static void paused_at_the_end(struct bench_state *state)
{
    never_stopped(state);
    bench_pause(state);
}

static void skipped(struct bench_state *state)
{
    bench_skip(state, "not today");
    if (bench_start(state) != 0)
        abort();
    bench_pause(state);
    bench_resume(state);
    bench_stop(state);
    bench_items(state, 1);
}

// One of four threads gives up while the others are at it.
static void skipped_by_one(struct bench_state *state)
{
    uint64_t count = bench_start(state);

    if (bench_thread_index(state) == 2) {
        bench_skip(state, "thread 2 gives up");
        return;
    }
    for (uint64_t i = 0; i < count; i++)
        spin(CLOCK_THREAD_CPUTIME_ID, 1e-6);
    bench_stop(state);
}

static void never_started(struct bench_state *state)
{
    (void)state;
}

static struct {
    int64_t arg, threads;
    int setups, teardowns;
} hook[2];

static void hooked(struct bench_state *state, int which)
{
    bench_start(state);
    spin(CLOCK_THREAD_CPUTIME_ID, 1e-3);
    bench_stop(state);
    bench_counter(state, "arg", (double)hook[which].arg, BENCH_AVERAGE);
    bench_counter(state, "threads_told", (double)hook[which].threads, BENCH_AVERAGE);
    bench_counter(state, "set_up", hook[which].setups - hook[which].teardowns, BENCH_AVERAGE);
}

static void setup(struct bench_state *state, int which)
{
    hook[which].arg = bench_arg(state, 0);
    hook[which].threads = bench_thread_count(state);
    hook[which].setups++;
}

static void first(struct bench_state *state) { hooked(state, 0); }
static void first_setup(struct bench_state *state) { setup(state, 0); }
static void first_teardown(struct bench_state *state) { (void)state; hook[0].teardowns++; }
static void second(struct bench_state *state) { hooked(state, 1); }
static void second_setup(struct bench_state *state) { setup(state, 1); }

// malloc is wrapped by the linker: calls that the compiler has dropped do not get here.
static uint64_t mallocs;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    mallocs++;
    return __real_malloc(size);
}

static void kept(struct bench_state *state)
{
    uint64_t before = mallocs, count = bench_start(state);

    for (uint64_t i = 0; i < count; i++) {
        void *block = malloc(64);
        bench_keep(block);
        free(block);
    }
    bench_stop(state);
    bench_counter(state, "unkept", (double)(count - (mallocs - before)), BENCH_SUM);
}

int main(int argc, char **argv)
{
    if (argc == 2 && argv[1][0] != '-')
        return make_mistake(argv[1]);

    struct bench *bench = bench_register("arguments", arguments);
    BENCH_ARG_NAMES(bench, "left", "right");
    BENCH_ARGS(bench, 1, 20);
    BENCH_ARGS(bench, -3, INT64_C(1) << 40);

    bench = bench_register("threads", threads);
    bench_threads(bench, 3);
    bench_thread_range(bench, 16, 64);

    bench = bench_register("on_clock", on_clock);
    bench_threads(bench, 4);
    bench_use_clock(bench);

    bench_register("paused", paused);
    bench = bench_register("paused_on_clock", paused);
    bench_use_clock(bench);
    bench_register("paused_at_the_end", paused_at_the_end);
    bench_register("never_stopped", never_stopped);

    bench_register("skipped", skipped);
    bench_threads(bench_register("skipped_by_one", skipped_by_one), 4);
    bench_register("never_started", never_started);

    bench = bench_register("first", first);
    BENCH_ARG_NAMES(bench, "arg");
    BENCH_ARGS(bench, 7);
    BENCH_ARGS(bench, 8);
    bench_threads(bench, 2);
    bench_setup(bench, first_setup);
    bench_teardown(bench, first_teardown);
    bench = bench_register("second", second);
    BENCH_ARG_NAMES(bench, "arg");
    BENCH_ARGS(bench, 9);
    bench_setup(bench, second_setup);

    bench_register("kept", kept);

    int status = bench_main(argc, argv);
    if (hook[0].setups != hook[0].teardowns)
        return 3;
    return status;
}
