// Load generator for cache_server and memcached: threads, each with its share of the connections, go through the phases
//   fill     stores every key once
//   steady   gets, sets and deletes of random keys, 80% of them among 20% of the keys; a key not found is stored again,
//            as the users of caches do. Only this phase counts for the result.
//   delete   deletes all keys but a few random ones: what is left is scattered over the server's heap
// and print one line of JSON. The loop is closed: a connection sends its next batch when the last one is answered.
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum phase { PHASE_FILL, PHASE_STEADY, PHASE_DELETE, PHASES };
static const char *const phase_names[] = {"fill", "steady", "delete"};

enum { MAX_THREADS = 64, MAX_CONNECTIONS = 1024, MAX_DEPTH = 256 };

static struct {
    unsigned port, threads, connections, depth, keys, requests;
    unsigned get_percent, set_percent, keep_percent;
    double seconds;
    uint64_t seed;
    bool phases[PHASES];
} options = {
    .threads = 2, .connections = 16, .depth = 8, .keys = 220000,
    .get_percent = 70, .set_percent = 25, .keep_percent = 5, .seconds = 5, .seed = 1,
    .phases = {true, true, true},
};

struct thread {
    pthread_t thread;
    struct client **clients;
    unsigned client_count;
    uint64_t random;
    uint64_t cursor;    // next id of the fill and delete phases
    uint64_t remaining; // requests still to be sent in the steady phase, when they are counted
    double deadline;
    struct results results[PHASES];
    bool failed;
};

static pthread_barrier_t barrier;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static bool is_kept(uint64_t id)
{
    return mix(id ^ mix(options.seed)) % 100 < options.keep_percent;
}

// Popular keys are spread over the ids, and so over the order in which the keys were stored.
static uint64_t popular_id(struct thread *thread)
{
    const double skew = 7.2126; // log(0.2) / log(0.8): 80% below 20%
    uint64_t rank = (uint64_t)(pow(random_unit(&thread->random), skew) * options.keys);

    return rank * 2654435761u % options.keys; // a prime above the number of keys: one id for each rank
}

// False when the phase has no more requests.
static bool next_request(struct thread *thread, enum phase phase, struct client *client, struct request *request)
{
    if (phase == PHASE_STEADY) {
        if (options.requests && thread->remaining-- == 0) {
            thread->remaining = 0;
            return false;
        }
        request->operation = OP_SET;
        if (client_take_miss(client, &request->id))
            return true;
        request->id = popular_id(thread);
        uint64_t dice = random_next(&thread->random) % 100;
        if (dice < options.get_percent)
            request->operation = OP_GET;
        else if (dice >= options.get_percent + options.set_percent)
            request->operation = OP_DELETE;
        return true;
    }
    if (phase == PHASE_DELETE)
        while (thread->cursor < options.keys && is_kept(thread->cursor))
            thread->cursor += options.threads;
    request->operation = phase == PHASE_FILL ? OP_SET : OP_DELETE;
    request->id = thread->cursor;
    thread->cursor += options.threads;
    return request->id < options.keys;
}

// True when the client has sent another batch.
static bool next_batch(struct thread *thread, enum phase phase, struct client *client)
{
    struct request request;
    unsigned queued = 0;

    if (phase == PHASE_STEADY && !options.requests && now() >= thread->deadline)
        return false;
    while (queued < options.depth && next_request(thread, phase, client, &request)) {
        if (!client_queue(client, request, &thread->random)) {
            thread->failed = true;
            return false;
        }
        queued++;
    }
    if (queued > 0 && !client_send(client))
        thread->failed = true;
    return queued > 0 && !thread->failed;
}

static void run_phase(struct thread *thread, unsigned index, enum phase phase)
{
    struct pollfd fds[MAX_CONNECTIONS];
    unsigned active = 0;

    thread->cursor = index;
    thread->remaining = options.requests / options.threads + (index < options.requests % options.threads);
    thread->deadline = now() + options.seconds;
    for (unsigned i = 0; i < thread->client_count && !thread->failed; i++) {
        bool sent = next_batch(thread, phase, thread->clients[i]);
        fds[i].fd = sent ? client_fd(thread->clients[i]) : -1; // poll ignores negative ones
        active += sent;
    }
    while (active > 0 && !thread->failed) {
        for (unsigned i = 0; i < thread->client_count; i++)
            fds[i].events = client_sending(thread->clients[i]) ? POLLIN | POLLOUT : POLLIN;
        if (poll(fds, thread->client_count, -1) < 0 && errno != EINTR)
            thread->failed = true;
        for (unsigned i = 0; i < thread->client_count && !thread->failed; i++) {
            struct client *client = thread->clients[i];
            if (fds[i].fd < 0 || !fds[i].revents)
                continue;
            if (!client_ready(client, &thread->results[phase])) {
                thread->failed = true;
            } else if (client_idle(client) && !next_batch(thread, phase, client)) {
                fds[i].fd = -1;
                active--;
            }
        }
    }
}

static struct thread threads[MAX_THREADS];
static double phase_seconds[PHASES];

static void *thread_main(void *argument)
{
    struct thread *thread = argument;
    unsigned index = (unsigned)(thread - threads);

    for (int phase = 0; phase < PHASES; phase++) {
        if (!options.phases[phase])
            continue;
        pthread_barrier_wait(&barrier);
        double start = now();
        if (!thread->failed)
            run_phase(thread, index, (enum phase)phase);
        pthread_barrier_wait(&barrier); // a phase takes as long as its slowest thread
        if (index == 0)
            phase_seconds[phase] = now() - start;
    }
    return NULL;
}

static bool connect_all(void)
{
    for (unsigned i = 0; i < options.connections; i++) {
        struct thread *thread = &threads[i % options.threads];
        struct client *client = client_connect(options.port, options.depth);
        if (!client) {
            fprintf(stderr, "cache_load: connecting to 127.0.0.1:%u: %s\n", options.port, strerror(errno));
            return false;
        }
        thread->clients[thread->client_count++] = client;
    }
    return true;
}

static void print_results(void)
{
    struct results all[PHASES] = {0}, *steady = &all[PHASE_STEADY];
    unsigned kept = 0;

    for (int phase = 0; phase < PHASES; phase++) {
        for (unsigned i = 0; i < options.threads; i++) {
            const struct results *part = &threads[i].results[phase];
            all[phase].requests += part->requests;
            all[phase].errors += part->errors;
            all[phase].hits += part->hits;
            all[phase].misses += part->misses;
            histogram_add(&all[phase].latency, &part->latency);
        }
    }
    for (unsigned id = 0; id < options.keys; id++)
        kept += is_kept(id);
    double seconds = phase_seconds[PHASE_STEADY];
    printf("{\"requests_per_second\": %.0f, ", seconds > 0 ? (double)steady->requests / seconds : 0.0);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, ",
           (double)histogram_percentile(&steady->latency, 0.5) / 1e3,
           (double)histogram_percentile(&steady->latency, 0.99) / 1e3,
           (double)histogram_percentile(&steady->latency, 0.999) / 1e3);
    printf("\"requests\": %" PRIu64 ", \"hits\": %" PRIu64 ", \"misses\": %" PRIu64 ", ", steady->requests,
           steady->hits, steady->misses);
    printf("\"errors\": %" PRIu64 ", ",
           all[PHASE_FILL].errors + all[PHASE_STEADY].errors + all[PHASE_DELETE].errors);
    printf("\"fill_seconds\": %.2f, \"steady_seconds\": %.2f, \"delete_seconds\": %.2f, \"keys_kept\": %u}\n",
           phase_seconds[PHASE_FILL], seconds, phase_seconds[PHASE_DELETE], kept);
}

static void usage(FILE *out)
{
    fputs("usage: cache_load --port N [options]\n"
          "  --threads N        threads (default 2)\n"
          "  --connections N    connections, shared out among the threads (default 16)\n"
          "  --depth N          requests in flight on each connection (default 8)\n"
          "  --keys N           different keys (default 220000, about 250 MiB)\n"
          "  --seconds S        length of the steady phase (default 5)\n"
          "  --requests N       end the steady phase after N requests instead\n"
          "  --get P, --set P   percentages of the steady phase (default 70 and 25; the rest are deletes)\n"
          "  --keep P           percentage of the keys that the delete phase keeps (default 5)\n"
          "  --phases LIST      some of fill,steady,delete (default: all, in this order)\n"
          "  --seed N           of the random numbers: keys, operations, sizes, and the keys to keep (default 1)\n"
          "Exit status: 0, 1 when the server failed or answered wrongly, 2 for wrong options.\n",
          out);
}

static double number_option(const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= low && value <= high)) {
        fprintf(stderr, "cache_load: \"%s\" is not a number from %.10g to %.10g\n", text, low, high);
        exit(2);
    }
    return value;
}

static void phases_option(char *list)
{
    memset(options.phases, 0, sizeof options.phases);
    for (char *name = strtok(list, ","); name; name = strtok(NULL, ",")) {
        int phase = 0;
        while (phase < PHASES && strcmp(name, phase_names[phase]) != 0)
            phase++;
        if (phase == PHASES) {
            fprintf(stderr, "cache_load: \"%s\" is not one of fill, steady, delete\n", name);
            exit(2);
        }
        options.phases[phase] = true;
    }
}

static void parse_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, 0, 'p'},     {"threads", required_argument, 0, 't'},
        {"connections", required_argument, 0, 'c'}, {"depth", required_argument, 0, 'd'},
        {"keys", required_argument, 0, 'k'},     {"seconds", required_argument, 0, 's'},
        {"requests", required_argument, 0, 'n'}, {"get", required_argument, 0, 'G'},
        {"set", required_argument, 0, 'S'},      {"keep", required_argument, 0, 'K'},
        {"phases", required_argument, 0, 'P'},   {"seed", required_argument, 0, 'r'},
        {"help", no_argument, 0, 'h'},           {0},
    };

    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case 'p': options.port = (unsigned)number_option(optarg, 1, 65535); break;
        case 't': options.threads = (unsigned)number_option(optarg, 1, MAX_THREADS); break;
        case 'c': options.connections = (unsigned)number_option(optarg, 1, MAX_CONNECTIONS); break;
        case 'd': options.depth = (unsigned)number_option(optarg, 1, MAX_DEPTH); break;
        case 'k': options.keys = (unsigned)number_option(optarg, 1, 1e9); break;
        case 's': options.seconds = number_option(optarg, 0.1, 86400); break;
        case 'n': options.requests = (unsigned)number_option(optarg, 1, 4e9); break;
        case 'G': options.get_percent = (unsigned)number_option(optarg, 0, 100); break;
        case 'S': options.set_percent = (unsigned)number_option(optarg, 0, 100); break;
        case 'K': options.keep_percent = (unsigned)number_option(optarg, 0, 100); break;
        case 'P': phases_option(optarg); break;
        case 'r': options.seed = (uint64_t)number_option(optarg, 0, 1e15); break;
        case 'h': usage(stdout); exit(0);
        default: usage(stderr); exit(2);
        }
    }
    if (!options.port || optind < argc || options.get_percent + options.set_percent > 100) {
        usage(stderr);
        exit(2);
    }
    if (options.threads > options.connections)
        options.threads = options.connections;
}

int main(int argc, char **argv)
{
    bool failed = false;
    uint64_t errors = 0;

    parse_options(argc, argv);
    values_init(options.seed);
    pthread_barrier_init(&barrier, NULL, options.threads);
    for (unsigned i = 0; i < options.threads; i++) {
        threads[i].random = mix(options.seed + i + 1);
        threads[i].clients = calloc(options.connections, sizeof *threads[i].clients);
        if (!threads[i].clients) {
            fputs("cache_load: out of memory\n", stderr);
            return 1;
        }
    }
    if (!connect_all())
        return 1;
    for (unsigned i = 0; i < options.threads; i++) {
        errno = pthread_create(&threads[i].thread, NULL, thread_main, &threads[i]);
        if (errno) {
            fprintf(stderr, "cache_load: pthread_create: %s\n", strerror(errno));
            return 1;
        }
    }
    for (unsigned i = 0; i < options.threads; i++) {
        pthread_join(threads[i].thread, NULL);
        failed |= threads[i].failed;
        for (int phase = 0; phase < PHASES; phase++)
            errors += threads[i].results[phase].errors;
        for (unsigned j = 0; j < threads[i].client_count; j++)
            client_free(threads[i].clients[j]);
        free(threads[i].clients);
    }
    if (failed) {
        fputs("cache_load: the server closed a connection, or its answers cannot be understood\n", stderr);
        return 1;
    }
    print_results();
    return errors > 0;
}
