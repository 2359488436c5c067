/* Benchmarks in C on Google Benchmark, which is written for C++.
 *
 * A program registers its benchmarks and hands over to bench_main, which has Google Benchmark's options
 * (--benchmark_filter and so on) and output:
 *
 *     static void pair(struct bench_state *state)
 *     {
 *         size_t size = (size_t)bench_arg(state, 0);
 *         uint64_t count = bench_start(state);
 *
 *         for (uint64_t i = 0; i < count; i++) {
 *             void *block = malloc(size);
 *             bench_keep(block);
 *             free(block);
 *         }
 *         bench_stop(state);
 *         bench_items(state, count);
 *     }
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct bench *bench = bench_register("pair", pair);
 *
 *         BENCH_ARG_NAMES(bench, "size");
 *         BENCH_ARGS(bench, 64);
 *         return bench_main(argc, argv);
 *     }
 *
 * Google Benchmark runs a function several times, with more iterations each time, until the measured part has lasted
 * for --benchmark_min_time; only the last run counts. What comes before bench_start and after bench_stop is not
 * measured, but is done each time.
 *
 * A mistake in how these functions are called, or a lack of memory in them, ends the program with one sentence on
 * stderr and status 1. No C++ exception leaves them. */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BENCH_MAX_THREADS = 64 };

/* A registered benchmark; lives until the program ends. */
struct bench;

/* One thread's run of a benchmark. Belongs to that thread, and only while the benchmark's function runs. */
struct bench_state;

typedef void (*bench_function)(struct bench_state *state);

/* ---- Registering: before bench_main, from one thread. */

/* Registers a function under a name, which is copied. Several benchmarks may share a name. */
struct bench *bench_register(const char *name, bench_function function);

/* Names the arguments, for the full name: "pair/size:64". Call it once, before bench_args. */
void bench_arg_names(struct bench *bench, size_t count, const char *const names[]);

/* Runs the benchmark with these arguments; call it once for each set. As many as there are names. */
void bench_args(struct bench *bench, size_t count, const int64_t args[]);

#define BENCH_ARG_NAMES(bench, ...) \
    bench_arg_names(bench, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})
#define BENCH_ARGS(bench, ...) \
    bench_args(bench, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

/* Runs the benchmark in `threads` threads at once, 1 to BENCH_MAX_THREADS. May be called for several numbers; the full
 * names then end in "/threads:8". Each thread does all the iterations that bench_start tells it. */
void bench_threads(struct bench *bench, int threads);

/* The same for `least`, `most` and the powers of two between them. */
void bench_thread_range(struct bench *bench, int least, int most);

/* Has "per second" mean seconds of the clock, from the first thread's bench_start to the last one's bench_stop,
 * rather than of processor time: for every benchmark that has more than one thread. Google Benchmark's own real
 * time is that of each thread, averaged; where there are more threads than processors, some end before others
 * begin, and all of them seem to be done in the time of one. What threads leave out between bench_pause and
 * bench_resume is left out of their share.
 *
 * How many iterations are done is decided by processor time nevertheless: the clock would end the measurement too
 * soon whenever somebody else had the processor. */
void bench_use_clock(struct bench *bench);

/* Functions for what is not measured and belongs to all threads: called once per run, setup before the threads start,
 * teardown after they ended. Of their state they may ask the arguments and bench_thread_count only. */
void bench_setup(struct bench *bench, bench_function setup);
void bench_teardown(struct bench *bench, bench_function teardown);

/* Reads Google Benchmark's options and runs what they select. Returns the exit status of the program: 1 when an
 * argument is not known, or when no benchmark matches the filter. */
int bench_main(int argc, char **argv);

/* ---- In the function of a benchmark. */

size_t bench_arg_count(const struct bench_state *state);
int64_t bench_arg(const struct bench_state *state, size_t index);
int bench_thread_count(const struct bench_state *state);
int bench_thread_index(const struct bench_state *state); /* 0 to bench_thread_count - 1 */

/* Waits until all threads of the benchmark got here, starts the time and returns how many iterations to do: all in one
 * loop of the caller's own, so that an iteration costs no call into C++. 0 after bench_skip. Call it once. */
uint64_t bench_start(struct bench_state *state);

/* Stops the time of this thread and waits for the other threads. Call it once, after the iterations. */
void bench_stop(struct bench_state *state);

/* Between bench_start and bench_stop: leaves something out of the time of this thread. Each costs about as much as
 * reading the clocks, a microsecond: not for every iteration of something short. */
void bench_pause(struct bench_state *state);
void bench_resume(struct bench_state *state);

/* Gives the benchmark up: it is reported with the message instead of a time. Anywhere in the function, which may return
 * after it, without bench_stop. */
void bench_skip(struct bench_state *state, const char *message);

/* How many operations this thread's iterations were; the report has the sum of all threads per second, as
 * "items_per_second". After bench_stop. */
void bench_items(struct bench_state *state, uint64_t items);

/* Adds a figure of the benchmark's own to the report: the sum of what the threads give, their average, or their sum per
 * second. After bench_stop. */
enum bench_counter_kind { BENCH_SUM, BENCH_AVERAGE, BENCH_PER_SECOND };
void bench_counter(struct bench_state *state, const char *name, double value, enum bench_counter_kind kind);

/* Makes the compiler believe that the pointer, and what it points to, is used. It may not drop the allocation then. */
static inline void bench_keep(const void *pointer)
{
    __asm__ volatile("" : : "r"(pointer) : "memory");
}

#ifdef __cplusplus
}
#endif
#endif
