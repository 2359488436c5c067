// Blocks that one thread allocates and another frees, as messages between threads are: from one producer to one
// consumer, from several to one, from one to several. An operation is one block's malloc, handing over and free.
#include "micro.h"

#include <pthread.h>
#include <stdbool.h>

// Blocks change hands by the hundred, and a thread that waits is woken only when there is much to do: the cost of
// locks and of waking shall be small beside that of the allocator.
enum { HANDFUL = 128, CAPACITY = 4096, WAKE = CAPACITY / 2 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    char *blocks[CAPACITY];
    size_t count; // the last ones in are the first ones out: which block it is makes no difference here
    unsigned producers;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER, .emptied = PTHREAD_COND_INITIALIZER};

static void setup(struct bench_state *state)
{
    queue.count = 0;
    queue.producers = (unsigned)bench_arg(state, 0);
}

static void put(char *const *blocks, size_t count)
{
    pthread_mutex_lock(&queue.lock);
    while (queue.count + count > CAPACITY)
        pthread_cond_wait(&queue.emptied, &queue.lock);
    for (size_t i = 0; i < count; i++)
        queue.blocks[queue.count++] = blocks[i];
    if (queue.count >= WAKE)
        pthread_cond_signal(&queue.filled);
    pthread_mutex_unlock(&queue.lock);
}

static void producer_ends(void)
{
    pthread_mutex_lock(&queue.lock);
    if (--queue.producers == 0)
        pthread_cond_broadcast(&queue.filled);
    pthread_mutex_unlock(&queue.lock);
}

// Takes at most HANDFUL blocks; none when all producers have ended and nothing is left.
static size_t take(char **blocks)
{
    size_t count = 0;

    pthread_mutex_lock(&queue.lock);
    while (queue.count == 0 && queue.producers > 0)
        pthread_cond_wait(&queue.filled, &queue.lock);
    while (count < HANDFUL && queue.count > 0)
        blocks[count++] = queue.blocks[--queue.count];
    if (queue.count <= CAPACITY - WAKE)
        pthread_cond_broadcast(&queue.emptied);
    pthread_mutex_unlock(&queue.lock);
    return count;
}

static void produce(uint64_t total, size_t size)
{
    char *blocks[HANDFUL];

    for (uint64_t left = total; left > 0;) {
        size_t count = left < HANDFUL ? left : HANDFUL;
        for (size_t i = 0; i < count; i++) {
            blocks[i] = malloc(size);
            *(volatile char *)blocks[i] = 1;
        }
        put(blocks, count);
        left -= count;
    }
    producer_ends();
}

static void consume(void)
{
    char *blocks[HANDFUL];

    for (size_t count; (count = take(blocks)) > 0;)
        for (size_t i = 0; i < count; i++) {
            (void)*(volatile char *)blocks[i];
            free(blocks[i]);
        }
}

// The more numerous side handles as many blocks per thread as there are iterations.
static void cross(struct bench_state *state)
{
    uint64_t producers = (uint64_t)bench_arg(state, 0), consumers = (uint64_t)bench_arg(state, 1);
    bool producing = (uint64_t)bench_thread_index(state) < producers;
    uint64_t count = bench_start(state), total = producers > consumers ? count : count * consumers;

    if (producing)
        produce(total, (size_t)bench_arg(state, 2));
    else
        consume();
    bench_stop(state);
    bench_items(state, producing ? total : 0);
}

static void add(int producers, int consumers)
{
    struct bench *bench = bench_register("cross", cross);

    BENCH_ARG_NAMES(bench, "producers", "consumers", "size");
    BENCH_ARGS(bench, producers, consumers, 64);
    BENCH_ARGS(bench, producers, consumers, 1024);
    bench_threads(bench, producers + consumers);
    bench_setup(bench, setup);
    bench_use_clock(bench);
}

void register_cross(void)
{
    add(1, 1);
    add(4, 1);
    add(1, 4);
}
