#include "bench.h"

#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using benchmark::State;
using Clock = std::chrono::steady_clock;

struct bench {
    std::string name;
    benchmark::internal::Benchmark *google;
    size_t arg_count = 0, arg_sets = 0;
    bench_function setup = nullptr, teardown = nullptr;
    bool on_clock = false;
    std::atomic<Clock::rep> first_start, last_stop; // of the threads of the current run
};

struct bench_state {
    bench *owner;
    const State &shape; // arguments and threads
    State *google;      // nullptr in setup and teardown
    enum { READY, RUNNING, PAUSED, STOPPED, SKIPPED } phase = READY;
    Clock::rep paused_since = 0, paused = 0;
    double seconds = 0; // on the clock, known after the stop
};

namespace {

[[noreturn]] void fail(const std::string &sentence)
{
    fprintf(stderr, "bench: %s\n", sentence.c_str());
    std::_Exit(1); // other threads may be running: nothing shall be torn down under them
}

// Runs `body`, and ends the program rather than let an exception into the caller, which is C.
template <class Body>
auto guarded(Body body) noexcept -> decltype(body())
{
    try {
        return body();
    } catch (const std::exception &error) {
        fail(error.what());
    }
}

// Google Benchmark calls setup and teardown without telling them which benchmark they are for. So each benchmark that
// has one takes a slot, with a pair of functions that know the slot's number.
constexpr size_t SLOTS = 64;
std::array<bench *, SLOTS> slots;
size_t slots_taken;

using Hook = void (*)(const State &);

template <size_t slot>
void slot_setup(const State &shape)
{
    bench_state state{slots[slot], shape, nullptr};
    if (slots[slot]->setup)
        slots[slot]->setup(&state);
}

template <size_t slot>
void slot_teardown(const State &shape)
{
    bench_state state{slots[slot], shape, nullptr};
    if (slots[slot]->teardown)
        slots[slot]->teardown(&state);
}

template <size_t... slot>
constexpr std::array<std::pair<Hook, Hook>, sizeof...(slot)> slot_hooks(std::index_sequence<slot...>)
{
    return {{{slot_setup<slot>, slot_teardown<slot>}...}};
}

void take_slot(bench *bench)
{
    static constexpr auto hooks = slot_hooks(std::make_index_sequence<SLOTS>());

    for (size_t i = 0; i < slots_taken; i++)
        if (slots[i] == bench)
            return;
    if (slots_taken == SLOTS)
        fail("more than " + std::to_string(SLOTS) + " benchmarks have a setup or teardown");
    bench->google->Setup(hooks[slots_taken].first)->Teardown(hooks[slots_taken].second);
    slots[slots_taken++] = bench;
}

void check_threads(const bench *bench, int threads)
{
    if (threads < 1 || threads > BENCH_MAX_THREADS)
        fail(bench->name + ": " + std::to_string(threads) + " threads are not 1 to " +
             std::to_string(BENCH_MAX_THREADS));
}

Clock::rep now()
{
    return Clock::now().time_since_epoch().count();
}

void lower(std::atomic<Clock::rep> &least, Clock::rep value)
{
    for (auto old = least.load(); value < old && !least.compare_exchange_weak(old, value);)
        ;
}

void raise(std::atomic<Clock::rep> &most, Clock::rep value)
{
    for (auto old = most.load(); value > old && !most.compare_exchange_weak(old, value);)
        ;
}

// One thread's run. What the function left undone is made good here, because Google Benchmark aborts otherwise, or
// waits for the thread without end.
void run(bench *bench, bench_function function, State &google)
{
    bench_state state{bench, google, &google};

    function(&state);
    if (state.phase == bench_state::READY)
        bench_skip(&state, (bench->name + " did not call bench_start").c_str());
    bench_stop(&state);
}

} // namespace

bench *bench_register(const char *name, bench_function function)
{
    return guarded([=] {
        auto made = new bench;
        made->name = name;
        made->google = benchmark::RegisterBenchmark(
            name, [=](State &google) { guarded([&] { run(made, function, google); }); });
        return made;
    });
}

void bench_arg_names(bench *bench, size_t count, const char *const names[])
{
    guarded([=] {
        bench->arg_count = count;
        bench->google->ArgNames(std::vector<std::string>(names, names + count));
    });
}

void bench_args(bench *bench, size_t count, const int64_t args[])
{
    guarded([=] {
        if (count != bench->arg_count)
            fail(bench->name + ": " + std::to_string(count) + " arguments, but names for " +
                 std::to_string(bench->arg_count));
        bench->arg_sets++;
        bench->google->Args(std::vector<int64_t>(args, args + count));
    });
}

void bench_threads(bench *bench, int threads)
{
    guarded([=] {
        check_threads(bench, threads);
        bench->google->Threads(threads);
    });
}

void bench_thread_range(bench *bench, int least, int most)
{
    guarded([=] {
        check_threads(bench, least);
        check_threads(bench, most);
        if (least > most)
            fail(bench->name + ": a range of threads from " + std::to_string(least) + " to " + std::to_string(most));
        bench->google->ThreadRange(least, most);
    });
}

void bench_use_clock(bench *bench)
{
    bench->on_clock = true;
}

void bench_setup(bench *bench, bench_function setup)
{
    guarded([=] {
        bench->setup = setup;
        take_slot(bench);
    });
}

void bench_teardown(bench *bench, bench_function teardown)
{
    guarded([=] {
        bench->teardown = teardown;
        take_slot(bench);
    });
}

int bench_main(int argc, char **argv)
{
    return guarded([=]() mutable {
        benchmark::Initialize(&argc, argv);
        if (benchmark::ReportUnrecognizedArguments(argc, argv))
            return 1;
        size_t matched = benchmark::RunSpecifiedBenchmarks();
        benchmark::Shutdown();
        return matched ? 0 : 1;
    });
}

size_t bench_arg_count(const bench_state *state)
{
    return state->owner->arg_sets > 0 ? state->owner->arg_count : 0;
}

int64_t bench_arg(const bench_state *state, size_t index)
{
    const bench *owner = state->owner;
    if (index >= bench_arg_count(state))
        guarded([=] { fail(owner->name + " has no argument " + std::to_string(index)); });
    return state->shape.range(index);
}

int bench_thread_count(const bench_state *state)
{
    return state->shape.threads();
}

int bench_thread_index(const bench_state *state)
{
    return state->shape.thread_index();
}

uint64_t bench_start(bench_state *state)
{
    return guarded([=]() -> uint64_t {
        if (state->phase == bench_state::SKIPPED)
            return 0;
        if (state->phase != bench_state::READY)
            fail("bench_start was called twice");
        // Every thread does this before it waits for the others in KeepRunningBatch.
        state->owner->first_start = std::numeric_limits<Clock::rep>::max();
        state->owner->last_stop = 0;
        // All iterations as one batch: Google Benchmark has nothing more to count.
        auto count = state->google->max_iterations;
        state->google->KeepRunningBatch(count);
        state->phase = bench_state::RUNNING;
        lower(state->owner->first_start, now());
        return (uint64_t)count;
    });
}

void bench_stop(bench_state *state)
{
    guarded([=] {
        if (state->phase != bench_state::RUNNING && state->phase != bench_state::PAUSED)
            return;
        bench_resume(state);
        raise(state->owner->last_stop, now());
        state->google->KeepRunningBatch(1); // the batch being over, this stops the time and waits for the others
        state->phase = bench_state::STOPPED;
        Clock::duration span(state->owner->last_stop - state->owner->first_start - state->paused);
        state->seconds = std::chrono::duration<double>(span).count();
    });
}

void bench_pause(bench_state *state)
{
    if (state->phase == bench_state::RUNNING) {
        state->google->PauseTiming();
        state->phase = bench_state::PAUSED;
        state->paused_since = now();
    }
}

void bench_resume(bench_state *state)
{
    if (state->phase == bench_state::PAUSED) {
        state->paused += now() - state->paused_since;
        state->google->ResumeTiming();
        state->phase = bench_state::RUNNING;
    }
}

void bench_skip(bench_state *state, const char *message)
{
    guarded([=] {
        state->google->SkipWithError(message);
        state->phase = bench_state::SKIPPED;
    });
}

void bench_items(bench_state *state, uint64_t items)
{
    bench_counter(state, "items_per_second", (double)items, BENCH_PER_SECOND);
}

void bench_counter(bench_state *state, const char *name, double value, bench_counter_kind kind)
{
    using benchmark::Counter;

    guarded([=] {
        if (state->phase == bench_state::SKIPPED)
            return;
        if (state->phase != bench_state::STOPPED)
            fail(state->owner->name + ": " + name + " is given before bench_stop");
        auto &counters = state->google->counters;
        if (kind == BENCH_PER_SECOND && state->owner->on_clock)
            counters[name] = Counter(value / state->seconds);
        else
            counters[name] = Counter(value, kind == BENCH_PER_SECOND ? Counter::kIsRate
                                            : kind == BENCH_AVERAGE  ? Counter::kAvgThreads
                                                                     : Counter::kDefaults);
    });
}
