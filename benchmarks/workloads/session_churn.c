// Sessions that outlive the threads that serve them. The pattern is that of Larson and Krishnan, "Memory Allocation for
// Long-Running Server Applications" (ISMM 1998): a thread replaces random objects of a session by new ones; when its time
// is over it starts its successor, hands on what it has, and ends. So blocks are freed by threads that did not allocate
// them, many of them after the thread that did is gone ("bleeding").
//
// Beyond it: a thread serves several sessions in turn and takes them from a place where other threads leave theirs, so
// objects also pass between threads that live; and the first objects are the first thread's, as a server's are that
// loads its state before it serves.
#include "workload.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

enum {
    OBJECTS = 1000,           // of a session
    WAITING = 2,              // sessions that wait, for each thread
    REQUESTS = 2000,          // a session's turn: objects replaced
    TURNS = 5,                // a thread's life
    SMALL_STACK = 256 * 1024, // threads follow each other fast
};

struct session {
    void *objects[OBJECTS];
};

// What a chain of threads, each the successor of the one before, has in hand.
struct chain {
    struct worker *worker;
    struct session *session;
};

static struct {
    _Atomic(struct session *) *waiting;
    unsigned places;
    pthread_attr_t attributes;
    sem_t ended;
} server;

// Leaves the session at a random place for another thread, and takes the one that was there.
static struct session *session_exchange(struct worker *worker, struct session *session)
{
    unsigned place = (unsigned)(random_next(&worker->random) % server.places);

    return atomic_exchange_explicit(&server.waiting[place], session, memory_order_acq_rel);
}

static void session_serve(struct worker *worker, struct session *session)
{
    for (unsigned i = 0; i < REQUESTS && worker_continues(worker); i++) {
        void **object = &session->objects[random_next(&worker->random) % OBJECTS];
        size_t size = size_mixed(&worker->random);

        worker_free(worker, *object);
        *object = worker_malloc(worker, size);
        block_touch(*object, size);
        worker->operations++;
    }
}

static void thread_start(struct chain *chain);

static void *thread_main(void *argument)
{
    struct chain *chain = argument;

    for (unsigned turn = 0; turn < TURNS && worker_continues(chain->worker); turn++) {
        session_serve(chain->worker, chain->session);
        chain->session = session_exchange(chain->worker, chain->session);
    }
    // From here on the chain is the successor's.
    if (worker_continues(chain->worker))
        thread_start(chain);
    else
        sem_post(&server.ended);
    return NULL;
}

static void thread_start(struct chain *chain)
{
    pthread_t thread;
    int error = pthread_create(&thread, &server.attributes, thread_main, chain);

    if (error)
        workload_fail("cannot start a thread: %s", strerror(error));
}

static struct session *session_open(struct worker *worker)
{
    struct session *session = table_allocate(sizeof *session);

    for (unsigned i = 0; i < OBJECTS; i++) {
        size_t size = size_mixed(&worker->random);
        session->objects[i] = malloc(size); // not measured: the clock does not run yet
        if (!session->objects[i])
            out_of_memory(size);
        block_touch(session->objects[i], size);
    }
    return session;
}

static void run(struct run *run)
{
    struct chain *chains = table_allocate(run->threads * sizeof *chains);

    server.places = run->threads * WAITING;
    server.waiting = table_allocate(server.places * sizeof *server.waiting);
    for (unsigned i = 0; i < server.places; i++)
        atomic_init(&server.waiting[i], session_open(&run->workers[i / WAITING]));
    for (unsigned i = 0; i < run->threads; i++)
        chains[i] = (struct chain){&run->workers[i], session_open(&run->workers[i])};

    sem_init(&server.ended, 0, 0);
    pthread_attr_init(&server.attributes);
    pthread_attr_setdetachstate(&server.attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&server.attributes, SMALL_STACK);
    run_clock_start(run);
    for (unsigned i = 0; i < run->threads; i++)
        thread_start(&chains[i]);
    for (unsigned i = 0; i < run->threads; i++)
        while (sem_wait(&server.ended))
            ;
    run_clock_stop(run);
}

const struct workload workload = {
    .name = "session_churn",
    .about = "Threads replace the objects of sessions, and hand the sessions on to other threads and to their successors.",
    .threads = 4,
    .operations = 3000000,
    .run = run,
};
