// How long a single call takes in a thread that has little to do with the heap's size: one thread builds a large heap, frees
// half of it, most of the rest, builds it again and frees it, and rests in between, while the other threads replace blocks of
// their own few megabytes and time each call. Whoever gives the freed gigabytes back must not do it in somebody's call.
//
// Each call is timed twice. Its own CPU time is what the allocator made the thread do, however busy the machine is; by the
// wall, waiting for locks counts as well, and so does being preempted. A virtual machine adds to both what its host took away
// meanwhile, which can be many milliseconds. So as many times as a call, no call at all is timed: what nothing took at most is
// what the machine itself does to the longest call.
//
// A thousand threads that never sleep would leave the first one no CPU: with --pause they do, as those of a server that wait for
// requests.
//
// One operation is a block that the first thread builds or frees, in all phases together; those of the others are not counted.
#include "workload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS, HELD, PAUSE, REST, UNTOUCHED };
static struct workload_option options[] = {
    {"blocks", "in the heap, of 272 B on average", 8e6, 1, 4e9},
    {"held", "blocks of each other thread, of 272 B on average", 4000, 1, 1e7},
    {"pause", "ms that each other thread sleeps after ten blocks; 0: it never does", 0, 0, 1e5},
    {"rest", "seconds after each phase", 1, 0, 3600},
    {"untouched", "GB in blocks of 64 KiB to 4 MiB of which one page is written, beside the small ones", 0, 0, 1e4},
    {0},
};

enum { SMALLEST = 32, LARGEST = 512, LARGE_SMALLEST = 64 << 10, LARGE_LARGEST = 4 << 20, SURVIVORS = 10 };
enum { CALLS_BETWEEN_PAUSES = 10 };
enum { PHASES = 5 };
static const char *const phase_names[PHASES] = {"build", "halve", "thin", "rebuild", "drop"};

// The heap, of the first thread. Large blocks follow the small ones.
static struct {
    void **blocks;
    size_t small, all;
} heap;

// One of the other threads, and what its calls took in each phase; read when it has ended.
struct bystander {
    struct worker *worker;
    pthread_t thread;
    struct stall_times times[PHASES];
};

static struct bystander *bystanders;
static atomic_uint phase_now; // PHASES: over

static uint64_t cpu_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// A call that spans the end of a phase counts in the one in which it began.
static void *timed_replace(struct stall_times *times, void *old, size_t size)
{
    uint64_t wall[3], cpu[3];

    wall[0] = clock_ns(), cpu[0] = cpu_ns();
    free(old);
    cpu[1] = cpu_ns(), wall[1] = clock_ns();
    void *block = malloc(size);
    cpu[2] = cpu_ns(), wall[2] = clock_ns();
    for (int i = 0; i < 2; i++) {
        uint64_t before = cpu_ns();
        histogram_record(&times->nothing, cpu_ns() - before);
    }
    for (int i = 0; i < 2; i++) {
        histogram_record(&times->cpu, cpu[i + 1] - cpu[i]);
        histogram_record(&times->wall, wall[i + 1] - wall[i]);
    }
    if (!block)
        out_of_memory(size);
    return block;
}

static size_t small_size(uint64_t *random)
{
    return SMALLEST + random_next(random) % (LARGEST - SMALLEST + 1);
}

static void *bystander_main(void *argument)
{
    struct bystander *self = argument;
    size_t count = (size_t)options[HELD].value;
    void **held = table_allocate(count * sizeof *held);
    uint64_t *random = &self->worker->random;

    for (size_t i = 0; i < count; i++) {
        size_t size = small_size(random);
        held[i] = worker_malloc(self->worker, size);
        block_touch(held[i], size);
    }
    const useconds_t pause = (useconds_t)(options[PAUSE].value * 1e3);
    for (unsigned phase, calls = 1; (phase = atomic_load(&phase_now)) < PHASES; calls++) {
        void **slot = &held[random_next(random) % count];
        size_t size = small_size(random);
        *slot = timed_replace(&self->times[phase], *slot, size);
        block_touch(*slot, size);
        if (pause > 0 && calls % CALLS_BETWEEN_PAUSES == 0)
            usleep(pause);
    }
    for (size_t i = 0; i < count; i++)
        worker_free(self->worker, held[i]);
    return NULL;
}

static void fill(struct worker *worker)
{
    for (size_t i = 0; i < heap.all && worker_continues(worker); i++) {
        if (heap.blocks[i])
            continue;
        size_t size = i < heap.small ? small_size(&worker->random)
                                     : size_between(&worker->random, LARGE_SMALLEST, LARGE_LARGEST);
        heap.blocks[i] = worker_malloc(worker, size);
        block_touch(heap.blocks[i], i < heap.small ? size : 1);
        worker->operations++;
    }
}

static void drop(struct worker *worker, size_t at)
{
    if (!heap.blocks[at])
        return;
    worker_free(worker, heap.blocks[at]);
    heap.blocks[at] = NULL;
    worker->operations++;
}

static void do_phase(struct worker *worker, unsigned phase)
{
    switch (phase) {
    case 0:
    case 3:
        fill(worker);
        return;
    case 1:
        for (size_t i = 0; i < heap.all && worker_continues(worker); i += 2)
            drop(worker, i);
        return;
    case 2:
        for (size_t i = 1; i < heap.all && worker_continues(worker); i += 2) {
            if (random_next(&worker->random) % 100 >= SURVIVORS)
                drop(worker, i);
        }
        return;
    default:
        for (size_t i = 0; i < heap.all && worker_continues(worker); i++)
            drop(worker, i);
    }
}

static void heap_prepare(void)
{
    const size_t large_mean = (size_t)((LARGE_LARGEST - LARGE_SMALLEST) / 4.16); // log-uniform: (b - a) / ln(b / a)

    heap.small = (size_t)options[BLOCKS].value;
    heap.all = heap.small + (size_t)(options[UNTOUCHED].value * 1e9) / large_mean;
    heap.blocks = table_allocate(heap.all * sizeof *heap.blocks);
}

static void run(struct run *run)
{
    struct worker *first = &run->workers[0];

    first->share = run->operations; // the others do what comes
    heap_prepare();
    bystanders = table_allocate(run->threads * sizeof *bystanders);
    for (unsigned i = 1; i < run->threads; i++) {
        bystanders[i].worker = &run->workers[i];
        int error = pthread_create(&bystanders[i].thread, NULL, bystander_main, &bystanders[i]);
        if (error)
            workload_fail("cannot start thread %u: %s", i + 1, strerror(error));
    }
    for (unsigned phase = 0; phase < PHASES; phase++) {
        double before = run->measured_seconds;
        atomic_store(&phase_now, phase);
        first->over = false; // with --seconds, each phase has as many
        run_clock_start(run);
        do_phase(first, phase);
        run_clock_stop(run);
        usleep((useconds_t)(options[REST].value * 1e6)); // what was freed goes back now
        run->phases[phase] = (struct phase){
            .name = phase_names[phase],
            .seconds = run->measured_seconds - before,
            .peak_rss_bytes = resident_bytes(),
            .stalls = table_allocate(sizeof(struct stall_times)),
        };
    }
    run->phase_count = PHASES;
    atomic_store(&phase_now, PHASES);
    for (unsigned i = 1; i < run->threads; i++) {
        pthread_join(bystanders[i].thread, NULL);
        for (unsigned phase = 0; phase < PHASES; phase++) {
            histogram_add(&run->phases[phase].stalls->cpu, &bystanders[i].times[phase].cpu);
            histogram_add(&run->phases[phase].stalls->wall, &bystanders[i].times[phase].wall);
            histogram_add(&run->phases[phase].stalls->nothing, &bystanders[i].times[phase].nothing);
        }
    }
}

const struct workload workload = {
    .name = "stalls",
    .about = "Times single calls while another thread builds, thins, builds again and frees a heap of 2.2 GB.",
    .threads = 2,
    .min_threads = 2,
    .operations = 31200000, // of 8 million blocks: all, half, 45%, 95%, all, and a few to spare
    .options = options,
    .run = run,
};
