// A thread per request: acceptors start a thread for each request and wait for its end. The request allocates what
// requests need - many small objects, now and then a buffer -, hands a few to the acceptor, which outlives it
// (sessions, cached answers), takes one that an earlier request left, frees the rest and ends.
//
// Follows: Larson and Krishnan, "Memory allocation for long-running server applications" (ISMM 1998), and its blocks
// that outlive their threads; Berger, McKinley, Blumofe and Wilson, "Hoard: a scalable memory allocator for
// multithreaded applications" (ASPLOS 2000), on blocks that are freed by another thread than the one that allocated
// them.
//
// Sensitive to: what the first malloc of a thread and the end of a thread cost; whether the next thread gets the
// memory of the last one, warm, or the pages of dead threads stay behind with a few survivors in each.
#include "stamp.h"
#include "workload.h"

#include <pthread.h>
#include <string.h>

enum {
    MOST_OBJECTS = 160, // in a request; half of it at least
    HANDED = 6,         // objects that a request leaves behind
    KEPT = 1024,        // of each acceptor
    STACK = 128 * 1024,
};

struct object {
    char *bytes;
    size_t size;
    uint64_t tag;
};

// What an acceptor owns. While its request's thread runs it waits, so that nothing here needs a lock.
struct acceptor {
    struct worker *worker;
    struct object taken; // an object of an earlier request, for the next one to use and free
    struct object handed[HANDED];
    struct object kept[KEPT];
};

static struct acceptor *acceptors;

static struct object object_make(struct worker *worker)
{
    struct object object;
    uint64_t choice = random_next(&worker->random);

    // A request's objects are small, but for one buffer in forty.
    object.size = choice % 40 ? size_between(&worker->random, 16, 1024) : size_between(&worker->random, 4096, 65536);
    object.tag = choice;
    object.bytes = worker_malloc(worker, object.size);
    stamp_write(object.bytes, object.size, object.tag);
    return object;
}

static void object_drop(struct worker *worker, struct object *object)
{
    if (!object->bytes)
        return;
    if (!stamp_matches(object->bytes, object->size, object->tag))
        workload_fail("an object of %zu bytes of acceptor %u was overwritten", object->size, worker->index);
    worker_free(worker, object->bytes);
    object->bytes = NULL;
}

static void *request_main(void *argument)
{
    struct acceptor *acceptor = argument;
    struct worker *worker = acceptor->worker;
    struct object objects[MOST_OBJECTS];
    unsigned count = MOST_OBJECTS / 2 + (unsigned)(random_next(&worker->random) % (MOST_OBJECTS / 2 + 1));
    unsigned used = 0;

    // Some objects live for the request, some for a step of it.
    for (unsigned i = 0; i < count; i++) {
        objects[used++] = object_make(worker);
        if (random_next(&worker->random) % 3 == 0)
            object_drop(worker, &objects[--used]);
    }
    object_drop(worker, &acceptor->taken);
    for (unsigned i = 0; i < HANDED && used > 0; i++) {
        unsigned at = (unsigned)(random_next(&worker->random) % used);
        acceptor->handed[i] = objects[at];
        objects[at] = objects[--used];
    }
    while (used > 0)
        object_drop(worker, &objects[--used]);
    return NULL;
}

// What the request left goes to random places; what was there is freed by the acceptor, or by the next request.
static void acceptor_collect(struct acceptor *acceptor)
{
    struct worker *worker = acceptor->worker;

    for (unsigned i = 0; i < HANDED; i++) {
        struct object *place = &acceptor->kept[random_next(&worker->random) % KEPT];
        if (i == 0)
            acceptor->taken = *place;
        else
            object_drop(worker, place);
        *place = acceptor->handed[i];
        acceptor->handed[i].bytes = NULL;
    }
}

static void accept_requests(struct worker *worker)
{
    struct acceptor *acceptor = &acceptors[worker->index];
    pthread_attr_t attributes;

    acceptor->worker = worker;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    while (worker_continues(worker)) {
        pthread_t thread;
        int error = pthread_create(&thread, &attributes, request_main, acceptor);
        if (error)
            workload_fail("a request's thread could not be started: %s", strerror(error));
        pthread_join(thread, NULL);
        acceptor_collect(acceptor);
        worker->operations++;
    }
    pthread_attr_destroy(&attributes);
}

static void rest(struct run *run)
{
    uint64_t live = 0;

    for (unsigned i = 0; i < run->threads; i++) {
        for (unsigned k = 0; k < KEPT; k++)
            live += acceptors[i].kept[k].bytes ? acceptors[i].kept[k].size : 0;
        live += acceptors[i].taken.bytes ? acceptors[i].taken.size : 0;
    }
    workload_rest(run, 0.5, live);
}

static void run_short_threads(struct run *run)
{
    acceptors = table_allocate(run->threads * sizeof *acceptors);
    run_workers_and_rest(run, accept_requests, rest);
    for (unsigned i = 0; i < run->threads; i++) {
        object_drop(&run->workers[i], &acceptors[i].taken);
        for (unsigned k = 0; k < KEPT; k++)
            object_drop(&run->workers[i], &acceptors[i].kept[k]);
    }
}

const struct workload workload = {
    .name = "short_threads",
    .about = "A thread per request, whose objects partly outlive it",
    .threads = 4,
    .operations = 12000,
    .run = run_short_threads,
};
