// Blocks that one thread allocates and another frees. Berger, McKinley, Blumofe and Wilson, "Hoard: A Scalable Memory
// Allocator for Multithreaded Applications" (ASPLOS 2000), show what it does to an allocator whose threads keep what they
// free: the producers never get it back, and memory grows without bound ("blowup") though little is in use at a time. An
// allocator that does return each block to where it came from pays for that with traffic between the processors.
//
// Here the two sides are unequal: most threads produce, few consume. Consumers at times work longer on each message, so
// that the producers run ahead until the rings are full, and then catch up. What is in flight is bounded: by the slots of
// the rings. A ring has one producer and one consumer, so it needs no lock and no atomic instruction but loads and stores.
#include "workload.h"

#include <sched.h>
#include <stdatomic.h>

enum {
    SLOTS = 1024,        // of a ring
    BURST = 32,          // messages a producer sends to one consumer before it chooses again
    SLOW_EVERY = 16384,  // of so many messages that a consumer gets, it works longer on the first quarter
    SLOW_READS = 16,     // how often it then reads the message
};

struct ring {
    _Alignas(128) _Atomic size_t sent;
    _Alignas(128) _Atomic size_t received;
    _Alignas(128) struct message *slots[SLOTS];
};

struct message {
    size_t size;
    unsigned char bytes[];
};

enum { CONSUMERS };
static struct workload_option options[] = {
    {"consumers", "threads that free, of all; 0: every third", 0, 0, 4095},
    {0},
};

static struct {
    unsigned producers, consumers;
    struct ring *rings; // producers * consumers
    _Atomic unsigned producing;
} pipes;

static struct ring *ring_between(unsigned producer, unsigned consumer)
{
    return &pipes.rings[(size_t)producer * pipes.consumers + consumer];
}

static void ring_send(struct ring *ring, struct message *message)
{
    size_t sent = atomic_load_explicit(&ring->sent, memory_order_relaxed);

    while (sent - atomic_load_explicit(&ring->received, memory_order_acquire) == SLOTS)
        sched_yield();
    ring->slots[sent % SLOTS] = message;
    atomic_store_explicit(&ring->sent, sent + 1, memory_order_release);
}

static struct message *message_new(struct worker *worker)
{
    size_t size = size_mixed(&worker->random);
    struct message *message = worker_malloc(worker, size);

    message->size = size;
    block_touch(message->bytes, size - sizeof *message);
    return message;
}

static void produce(struct worker *worker)
{
    while (worker_continues(worker)) {
        struct ring *ring = ring_between(worker->index, (unsigned)(random_next(&worker->random) % pipes.consumers));

        for (unsigned i = 0; i < BURST && worker_continues(worker); i++) {
            ring_send(ring, message_new(worker));
            worker->operations++;
        }
    }
    atomic_fetch_sub(&pipes.producing, 1);
}

static void message_read(const struct message *message, unsigned times)
{
    const volatile unsigned char *bytes = message->bytes;
    size_t size = message->size - sizeof *message;

    for (unsigned i = 0; i < times; i++)
        for (size_t at = 0; at < size; at += 64)
            (void)bytes[at];
}

// Takes what the ring has. Returns whether it had anything.
static bool ring_drain(struct worker *worker, struct ring *ring, size_t *got)
{
    size_t received = atomic_load_explicit(&ring->received, memory_order_relaxed);
    size_t sent = atomic_load_explicit(&ring->sent, memory_order_acquire);
    bool any = received != sent;

    for (; received != sent; received++) {
        struct message *message = ring->slots[received % SLOTS];
        bool slow = (*got)++ % SLOW_EVERY < SLOW_EVERY / 4;

        message_read(message, slow ? SLOW_READS : 1);
        worker_free(worker, message);
        atomic_store_explicit(&ring->received, received + 1, memory_order_release);
    }
    return any;
}

static void consume(struct worker *worker)
{
    unsigned consumer = worker->index - pipes.producers;
    size_t got = 0;
    bool ended, any;

    do {
        ended = atomic_load(&pipes.producing) == 0; // before looking: nothing can be sent after it
        any = false;
        for (unsigned producer = 0; producer < pipes.producers; producer++)
            any |= ring_drain(worker, ring_between(producer, consumer), &got);
        if (!any)
            sched_yield();
    } while (any || !ended);
}

static void body(struct worker *worker)
{
    if (worker->index < pipes.producers)
        produce(worker);
    else
        consume(worker);
}

static void run(struct run *run)
{
    unsigned asked = (unsigned)options[CONSUMERS].value;

    pipes.consumers = asked ? asked : (run->threads + 1) / 3;
    if (pipes.consumers >= run->threads)
        workload_fail("%u threads cannot be consumers when there are %u in all", pipes.consumers, run->threads);
    pipes.producers = run->threads - pipes.consumers;
    pipes.rings = table_allocate((size_t)pipes.producers * pipes.consumers * sizeof *pipes.rings);
    atomic_init(&pipes.producing, pipes.producers);
    for (unsigned i = 0; i < run->threads; i++) // an operation is a message sent: only producers count
        run->workers[i].share = i >= pipes.producers ? 0
            : run->operations / pipes.producers + (i < run->operations % pipes.producers);
    run_workers(run, body);
}

const struct workload workload = {
    .name = "producer_consumer",
    .about = "Some threads allocate messages, others free them.",
    .threads = 4,
    .min_threads = 2,
    .operations = 1200000,
    .options = options,
    .run = run,
};
