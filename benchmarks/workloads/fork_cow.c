// Snapshots by fork, as redis writes its dump: the parent holds a heap of keys and values, forks a child that reads
// all of it and would write it to disk, and goes on serving: it replaces, extends and reads values. Each page that
// either process writes while the child lives is copied by the kernel. Then the child ends, and the next snapshot
// follows.
//
// `time` is the parent's: its operations, and fork itself, since nothing is served during it. `rest_rss_bytes` is
// what the snapshot costs in memory: the private dirty bytes of parent and child together (/proc/PID/smaps_rollup) at
// the end of the child's life, the mean over all snapshots. A page that was copied counts twice, for its two copies;
// what stayed shared does not count. `peak_rss_bytes` is the most that both had together.
//
// Follows: redis' documentation of its persistence (RDB snapshots); Baumann, Appavoo, Krieger and Roscoe, "A fork()
// in the road" (HotOS 2019), on what fork costs; Zhao, Gong and Fonseca, "On-demand-fork: a microsecond fork for
// memory-intensive and latency-sensitive applications" (EuroSys 2021), who measure redis' snapshots.
//
// Sensitive to: how many pages malloc and free write besides the blocks' own (free lists in the blocks, metadata next
// to them, memory that is given back or taken anew); how scattered the reused blocks are; the number of mappings and
// page tables that fork copies; the allocator's work in the fork handlers.
#include "stamp.h"
#include "workload.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ENTRIES = 180 * 1000,    // some 64 MB
    PER_SNAPSHOT = 20000,    // operations of the parent during the life of a child
    LARGEST_VALUE = 16 * 1024,
    CHUNK = 64 * 1024,       // of the child's output
};

// As redis keeps them: an entry that points to key and value, each a block.
struct entry {
    uint64_t id; // the stamp of both
    size_t key_size, value_size;
    char *key, *value;
};

// The table of entries stands for the store's hash table; it is not the heap's, so it costs every allocator the same.
static struct entry **entries;
static uint64_t live_bytes;

static size_t value_size_next(struct worker *worker)
{
    size_t size = size_pareto(&worker->random) * 4;

    return size > LARGEST_VALUE ? LARGEST_VALUE : size;
}

static void value_make(struct worker *worker, struct entry *entry)
{
    entry->value_size = value_size_next(worker);
    entry->value = worker_malloc(worker, entry->value_size);
    stamp_write(entry->value, entry->value_size, entry->id);
    live_bytes += entry->value_size;
}

static struct entry *entry_make(struct worker *worker)
{
    struct entry *entry = worker_malloc(worker, sizeof *entry);

    entry->id = random_next(&worker->random);
    entry->key_size = size_between(&worker->random, 16, 64);
    entry->key = worker_malloc(worker, entry->key_size);
    stamp_write(entry->key, entry->key_size, entry->id);
    live_bytes += sizeof *entry + entry->key_size;
    value_make(worker, entry);
    return entry;
}

static void entry_check(const struct entry *entry)
{
    if (!stamp_matches(entry->key, entry->key_size, entry->id))
        workload_fail("a key of %zu bytes was overwritten", entry->key_size);
    if (!stamp_matches(entry->value, entry->value_size, entry->id))
        workload_fail("a value of %zu bytes was overwritten", entry->value_size);
}

static void value_free(struct worker *worker, struct entry *entry)
{
    live_bytes -= entry->value_size;
    worker_free(worker, entry->value);
}

static void entry_free(struct worker *worker, struct entry *entry)
{
    entry_check(entry);
    live_bytes -= sizeof *entry + entry->key_size;
    value_free(worker, entry);
    worker_free(worker, entry->key);
    worker_free(worker, entry);
}

// Half of the operations read; of the others most replace a value, some extend it, some replace the whole entry.
static void operation(struct worker *worker)
{
    struct entry **place = &entries[random_next(&worker->random) % ENTRIES];
    struct entry *entry = *place;
    unsigned choice = (unsigned)(random_next(&worker->random) % 100);

    entry_check(entry);
    if (choice < 10) {
        entry_free(worker, entry);
        *place = entry_make(worker);
    } else if (choice < 20 && entry->value_size < LARGEST_VALUE) {
        size_t grown = entry->value_size + 64;
        entry->value = worker_realloc(worker, entry->value, grown);
        entry_check(entry);
        stamp_write(entry->value, grown, entry->id);
        live_bytes += grown - entry->value_size;
        entry->value_size = grown;
    } else if (choice < 50) {
        value_free(worker, entry);
        value_make(worker, entry);
    }
    worker->operations++;
}

// The two processes tell each other when they are ready, and the child how many bytes it has for itself.
static bool tell(int to, uint64_t word)
{
    return write(to, &word, sizeof word) == sizeof word;
}

static bool hear(int from, uint64_t *word)
{
    ssize_t got;

    do
        got = read(from, word, sizeof *word);
    while (got < 0 && errno == EINTR);
    return got == sizeof *word;
}

// The child: reads everything, with output buffers that come and go as its own use of the heap, and stays until the
// parent has done its work.
static void child_main(struct worker *worker, int from_parent, int to_parent)
{
    size_t used = 0;
    uint64_t word;
    char *chunk = worker_malloc(worker, CHUNK);

    for (size_t i = 0; i < ENTRIES; i++) {
        const struct entry *entry = entries[i];
        entry_check(entry);
        if (used + entry->value_size > CHUNK) {
            worker_free(worker, chunk);
            chunk = worker_malloc(worker, CHUNK);
            used = 0;
        }
        memcpy(chunk + used, entry->value, entry->value_size);
        used += entry->value_size;
    }
    worker_free(worker, chunk);
    if (!tell(to_parent, 0) || !hear(from_parent, &word) || !tell(to_parent, private_dirty_bytes()))
        _exit(2);
    _exit(hear(from_parent, &word) ? 2 : 0); // the end of the pipe: until then its pages are the child's
}

static void child_wait(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            workload_fail("the snapshot's process cannot be waited for: %s", strerror(errno));
    if (WIFSIGNALED(status))
        workload_fail("the snapshot's process was killed by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        workload_fail("the snapshot's process ended with status %d", WEXITSTATUS(status));
}

// One snapshot. Adds to the parent's time, and returns the private bytes of both processes.
static uint64_t snapshot(struct worker *worker, uint64_t *busy_ns)
{
    int to_child[2], to_parent[2];
    uint64_t word, parents = 0, childs = 0, resident = 0;

    if (pipe(to_child) != 0 || pipe(to_parent) != 0)
        workload_fail("no pipe to the snapshot's process: %s", strerror(errno));
    uint64_t start = clock_ns();
    pid_t child = fork();
    if (child < 0)
        workload_fail("fork failed: %s", strerror(errno));
    if (child == 0) {
        close(to_child[1]); // or the child would not see the end of the pipe
        close(to_parent[0]);
        child_main(worker, to_child[0], to_parent[1]);
    }
    for (unsigned i = 0; i < PER_SNAPSHOT && worker_continues(worker); i++)
        operation(worker);
    *busy_ns += clock_ns() - start;

    close(to_child[0]);
    close(to_parent[1]);
    bool heard = hear(to_parent[0], &word);
    if (heard) {
        parents = private_dirty_bytes();
        resident = resident_bytes();
        heard = tell(to_child[1], 0) && hear(to_parent[0], &childs);
    }
    close(to_child[1]);
    close(to_parent[0]);
    child_wait(child);
    if (!heard)
        workload_fail("the snapshot's process ended before it had read everything");
    if (worker->run->peak_rss_bytes < resident + childs)
        worker->run->peak_rss_bytes = resident + childs;
    return parents + childs;
}

static void run_fork_cow(struct run *run)
{
    struct worker *worker = run->workers;
    struct latencies *latencies = worker->latencies;
    uint64_t private_sum = 0, busy_ns = 0;
    unsigned snapshots = 0;

    signal(SIGPIPE, SIG_IGN); // a child that died is a sentence
    entries = table_allocate(ENTRIES * sizeof *entries);
    worker->latencies = NULL; // the calls that fill the heap are many, and not what is asked for
    for (size_t i = 0; i < ENTRIES; i++)
        entries[i] = entry_make(worker);
    worker->latencies = latencies;
    run_clock_start(run);
    for (; worker_continues(worker); snapshots++)
        private_sum += snapshot(worker, &busy_ns);
    run_clock_stop(run);
    run->measured_seconds = (double)busy_ns * 1e-9; // without the waiting for children
    run->rest_rss_bytes = snapshots ? private_sum / snapshots : 0;
    run->live_bytes = live_bytes;
    worker->latencies = NULL;
    for (size_t i = 0; i < ENTRIES; i++)
        entry_free(worker, entries[i]);
    worker->latencies = latencies;
}

const struct workload workload = {
    .name = "fork_cow",
    .about = "Snapshots by fork while the parent goes on writing; rest_rss_bytes is what they cost in memory",
    .threads = 1,
    .operations = 200000,
    .max_threads = 1,
    .run = run_fork_cow,
};
