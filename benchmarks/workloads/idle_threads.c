// A thousand threads that mostly sleep: the server with a thread per connection, where few connections have something
// to say at a time. A dispatcher wakes the threads in turn, ACTIVE at a time; each does a burst of work - temporary
// blocks of mixed sizes, a few blocks that stay as the connection's state - and sleeps until its next turn.
//
// Follows: von Behren, Condit and Brewer, "Why events are a bad idea (for high-concurrency servers)" (HotOS 2003), on
// such servers; Zhou et al., "Characterizing a memory allocator at warehouse scale" (ASPLOS 2024), on caches per
// processor in the place of caches per thread because of them.
//
// Sensitive to: what a thread's cache holds while its thread sleeps (RSS at rest: the live bytes are some 2 MB and
// the stacks the same for everyone, the rest is the allocator's); whether a cache that was not used for long is cold,
// or was taken away and must be filled again (time of the bursts); what a thread costs from its first call on.
#include "stamp.h"
#include "workload.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

enum {
    ACTIVE = 2,         // threads that may work at a time
    BURST = 128,        // operations per turn
    KEPT = 8,           // blocks that a connection keeps while it sleeps
    TEMPORARY = 24,     // at most, inside a burst
    STACK = 128 * 1024, // little, as servers with many threads have it, yet enough for every allocator
};

struct block {
    char *bytes;
    size_t size;
    uint64_t tag;
};

struct connection {
    struct worker *worker;
    pthread_t thread;
    sem_t turn;
    atomic_bool finished;
    uint64_t busy_ns;
    struct block kept[KEPT];
};

static sem_t free_turns;
static atomic_uint unfinished;
static bool closing; // written before the last turns are given

static void block_make(struct worker *worker, struct block *block, size_t size)
{
    block->bytes = worker_malloc(worker, size);
    block->size = size;
    block->tag = random_next(&worker->random);
    stamp_write(block->bytes, size, block->tag);
}

static void block_drop(struct worker *worker, struct block *block)
{
    if (!stamp_matches(block->bytes, block->size, block->tag))
        workload_fail("a block of %zu bytes of thread %u was overwritten", block->size, worker->index);
    worker_free(worker, block->bytes);
    block->bytes = NULL;
}

// One operation in eight is for what the connection keeps; the others make and drop temporary blocks.
static void work_burst(struct connection *connection)
{
    struct worker *worker = connection->worker;
    struct block temporary[TEMPORARY];
    unsigned count = 0;

    for (unsigned i = 0; i < BURST && worker_continues(worker); i++) {
        uint64_t choice = random_next(&worker->random);
        if (choice % 8 == 0) {
            struct block *kept = &connection->kept[(choice >> 8) % KEPT];
            if (kept->bytes)
                block_drop(worker, kept);
            block_make(worker, kept, size_between(&worker->random, 16, 1024));
        } else if (count < TEMPORARY && (count == 0 || choice % 2)) {
            block_make(worker, &temporary[count++], size_mixed(&worker->random));
        } else {
            struct block *dropped = &temporary[(choice >> 8) % count];
            block_drop(worker, dropped);
            *dropped = temporary[--count];
        }
        worker->operations++;
    }
    while (count > 0)
        block_drop(worker, &temporary[--count]);
}

static void *connection_main(void *argument)
{
    struct connection *connection = argument;

    for (;;) {
        while (sem_wait(&connection->turn) != 0) // EINTR
            ;
        if (closing)
            break;
        uint64_t start = clock_ns();
        work_burst(connection);
        connection->busy_ns += clock_ns() - start;
        // Once only: the dispatcher may have given another turn before it saw the end.
        if (!worker_continues(connection->worker) && !atomic_exchange(&connection->finished, true))
            atomic_fetch_sub(&unfinished, 1);
        sem_post(&free_turns);
    }
    for (unsigned i = 0; i < KEPT; i++)
        if (connection->kept[i].bytes)
            block_drop(connection->worker, &connection->kept[i]);
    return NULL;
}

static void connections_start(struct run *run, struct connection *connections)
{
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    for (unsigned i = 0; i < run->threads; i++) {
        connections[i].worker = &run->workers[i];
        sem_init(&connections[i].turn, 0, 0);
        int error = pthread_create(&connections[i].thread, &attributes, connection_main, &connections[i]);
        if (error)
            workload_fail("thread %u of %u could not be started: %s", i + 1, run->threads, strerror(error));
    }
    pthread_attr_destroy(&attributes);
}

static void turn_wait(void)
{
    while (sem_wait(&free_turns) != 0) // EINTR
        ;
}

// Gives the turns, until no thread has work left and none is in a turn.
static void dispatch(struct run *run, struct connection *connections, unsigned active)
{
    sem_init(&free_turns, 0, active);
    while (atomic_load(&unfinished) > 0)
        for (unsigned i = 0; i < run->threads; i++) {
            turn_wait();
            if (atomic_load(&connections[i].finished))
                sem_post(&free_turns);
            else
                sem_post(&connections[i].turn);
        }
    for (unsigned i = 0; i < active; i++)
        turn_wait();
}

static void run_idle_threads(struct run *run)
{
    struct connection *connections = table_allocate(run->threads * sizeof *connections);
    unsigned active = run->threads < ACTIVE ? run->threads : ACTIVE;
    uint64_t live = 0, busy_ns = 0;

    atomic_store(&unfinished, run->threads);
    connections_start(run, connections);
    run_clock_start(run);
    dispatch(run, connections, active);
    run_clock_stop(run);

    for (unsigned i = 0; i < run->threads; i++) {
        busy_ns += connections[i].busy_ns;
        for (unsigned k = 0; k < KEPT; k++)
            live += connections[i].kept[k].bytes ? connections[i].kept[k].size : 0;
    }
    // The bursts alone: to wake a thread takes as long as many allocations, and is not the allocator's work.
    run->measured_seconds = (double)busy_ns / active / 1e9;
    workload_rest(run, 0.5, live);

    closing = true;
    for (unsigned i = 0; i < run->threads; i++)
        sem_post(&connections[i].turn);
    for (unsigned i = 0; i < run->threads; i++)
        pthread_join(connections[i].thread, NULL);
}

const struct workload workload = {
    .name = "idle_threads",
    .about = "A thousand threads that mostly sleep and wake in turn for a burst of work",
    .threads = 1000,
    .operations = 2000000,
    .run = run_idle_threads,
};
