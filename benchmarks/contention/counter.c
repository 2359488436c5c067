// Counts, for each thread, how often a lock is taken or waited for, and stores to cache lines that another thread wrote last: on
// a machine with many cores, each of these is a line that travels. At the program's end, one line on stderr:
//
//   contention {"calls":N,"locks":{"bin":N,...},"waits":N,"lines":N,"block_lines":N}
//
// `lines` are the library's own, `block_lines` those that blocks lie on. What the program itself stores is not seen.
//
// Two cores run one thread for milliseconds, in which no other one can take its locks. So a thread that holds no lock lets the
// others run before it takes one: whoever has it next is as likely another thread as with a core for each of them. The counts
// do not depend on how many cores there are; waits do, and are too few.
#include "counter.h"

#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "arena/region.h"
#include "base/lock.h"

enum {
    MAX_THREADS = 4096,   // with counts of their own; those that come later share these
    LINE_BITS = 6,        // of a cache line
    TABLE_BITS = 22,      // lines that are remembered; where two lines meet, the older one is forgotten
    THREAD_BITS = 16,     // of a thread's number in an entry of the table
};

static_assert(MAX_THREADS < 1 << THREAD_BITS, "a thread's number has its place in an entry");

struct counts {
    _Alignas(64) uint64_t calls, locks[RANKS], waits, lines, block_lines;
};

static const char *const rank_names[RANKS] = {
    [RANK_INIT] = "init",       [RANK_THREADS] = "threads", [RANK_CACHE] = "cache", [RANK_BIN] = "bin",
    [RANK_HEAP] = "heap",       [RANK_HUGE] = "huge",       [RANK_REPORT] = "report", [RANK_GUARD] = "guard",
    [RANK_PROFILE] = "profile", [RANK_TRACE] = "trace",     [RANK_META] = "meta",   [RANK_SIGNAL] = "signal",
};

static struct counts counts[MAX_THREADS];

// The line's number, and the thread that wrote to it last, from 1 on.
static _Atomic uint64_t last_writer[1 << TABLE_BITS];

static __thread __attribute__((tls_model("initial-exec"))) uint32_t own_number; // from 1 on; 0: none yet
static __thread __attribute__((tls_model("initial-exec"))) uint32_t locks_held;

static uint32_t number(void)
{
    static _Atomic uint32_t threads;

    if (own_number == 0)
        own_number = atomic_fetch_add(&threads, 1) % (MAX_THREADS - 1) + 1;
    return own_number;
}

static struct counts *own(void)
{
    return &counts[number()];
}

void count_call(void)
{
    own()->calls++;
}

static void count_line(uintptr_t line)
{
    const uint64_t now = line << THREAD_BITS | number();
    _Atomic uint64_t *entry = &last_writer[(line * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - TABLE_BITS)];
    const uint64_t before = atomic_load_explicit(entry, memory_order_relaxed);

    if (before == now)
        return;
    atomic_store_explicit(entry, now, memory_order_relaxed);
    if (before >> THREAD_BITS != (now >> THREAD_BITS))
        return; // nobody is known to have written to it
    if (span_of((void *)(line << LINE_BITS)) != NULL)
        own()->block_lines++;
    else
        own()->lines++;
}

// ---- what the compiler calls before each store ----

void __asan_store1_noabort(uintptr_t address);
void __asan_store2_noabort(uintptr_t address);
void __asan_store4_noabort(uintptr_t address);
void __asan_store8_noabort(uintptr_t address);
void __asan_store16_noabort(uintptr_t address);
void __asan_storeN_noabort(uintptr_t address, size_t size);
void __asan_handle_no_return(void);

void __asan_store1_noabort(uintptr_t address)
{
    count_line(address >> LINE_BITS);
}

void __asan_store2_noabort(uintptr_t address)
{
    count_line(address >> LINE_BITS);
}

void __asan_store4_noabort(uintptr_t address)
{
    count_line(address >> LINE_BITS);
}

void __asan_store8_noabort(uintptr_t address)
{
    count_line(address >> LINE_BITS);
}

void __asan_store16_noabort(uintptr_t address)
{
    count_line(address >> LINE_BITS);
}

void __asan_storeN_noabort(uintptr_t address, size_t size)
{
    for (uintptr_t line = address >> LINE_BITS; size > 0 && line <= (address + size - 1) >> LINE_BITS; line++)
        count_line(line);
}

void __asan_handle_no_return(void)
{
}

// ---- what the linker calls in place of the functions of base/lock.c ----

void __real_lock_check_order(enum lock_rank rank, bool take);
void __wrap_lock_check_order(enum lock_rank rank, bool take);
void __real_lock_wait(struct lock *lock);
void __wrap_lock_wait(struct lock *lock);

void __wrap_lock_check_order(enum lock_rank rank, bool take)
{
    if (take) {
        if (locks_held++ == 0)
            sched_yield();
        own()->locks[rank]++;
    } else {
        locks_held--;
    }
    __real_lock_check_order(rank, take);
}

void __wrap_lock_wait(struct lock *lock)
{
    own()->waits++;
    __real_lock_wait(lock);
}

static __attribute__((destructor)) void print(void)
{
    struct counts sum = {0};
    const char *before = "";

    for (unsigned i = 1; i < MAX_THREADS; i++) {
        sum.calls += counts[i].calls;
        sum.waits += counts[i].waits;
        sum.lines += counts[i].lines;
        sum.block_lines += counts[i].block_lines;
        for (int rank = 0; rank < RANKS; rank++)
            sum.locks[rank] += counts[i].locks[rank];
    }
    fprintf(stderr, "contention {\"calls\":%" PRIu64 ",\"locks\":{", sum.calls);
    for (int rank = 0; rank < RANKS; rank++, before = ",")
        fprintf(stderr, "%s\"%s\":%" PRIu64, before, rank_names[rank], sum.locks[rank]);
    fprintf(stderr, "},\"waits\":%" PRIu64 ",\"lines\":%" PRIu64 ",\"block_lines\":%" PRIu64 "}\n", sum.waits, sum.lines,
            sum.block_lines);
}
