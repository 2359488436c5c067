// A small cache server, as a workload for allocators: worker threads with epoll, memcached's text protocol over TCP on
// 127.0.0.1. The main thread accepts and deals the connections out; a maintenance thread frees what was deleted.
#define _GNU_SOURCE // accept4
#include "cache_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_WORKERS = 64, REAP_INTERVAL_MS = 20 };

struct worker {
    pthread_t thread;
    int epoll;
    struct store *store;
    int stop; // an eventfd: readable for ever once the server stops
};

static void die(const char *what)
{
    fprintf(stderr, "cache_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void usage(FILE *out)
{
    fputs("usage: cache_server [--port N] [--threads N] [--memory MIB]\n"
          "  --port N      TCP port on 127.0.0.1 (default 0: any free one); the first line printed is \"port N\"\n"
          "  --threads N   worker threads (default: the number of cores, 2 to 8)\n"
          "  --memory MIB  keys, values and entries that are kept; the oldest go first (default 256)\n"
          "Stops on SIGTERM and SIGINT.\n",
          out);
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct epoll_event events[64];

    for (;;) {
        int count = epoll_wait(worker->epoll, events, 64, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;
            if (!conn) // the stop event
                return NULL;
            enum conn_state state = conn_ready(conn, worker->store);
            bool writing = events[i].events & EPOLLOUT;
            if (state == CONN_CLOSE) {
                conn_free(conn); // leaves the epoll set with its descriptor
            } else if (writing != (state == CONN_WRITE)) {
                // Level-triggered, and only for the direction that the connection waits for.
                struct epoll_event event = {.events = state == CONN_WRITE ? EPOLLOUT : EPOLLIN, .data.ptr = conn};
                if (epoll_ctl(worker->epoll, EPOLL_CTL_MOD, conn_fd(conn), &event) < 0)
                    die("epoll_ctl");
            }
        }
    }
}

static void *maintenance_main(void *argument)
{
    struct worker *worker = argument;
    struct pollfd stop = {.fd = worker->stop, .events = POLLIN};

    while (poll(&stop, 1, REAP_INTERVAL_MS) <= 0)
        store_reap(worker->store);
    return NULL;
}

static int listen_on(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); // inherited by the connections
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 512) < 0)
        die("listening on 127.0.0.1");
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        die("getsockname");
    printf("port %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void start_worker(struct worker *worker, struct store *store, int stop)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    worker->store = store;
    worker->stop = stop;
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll < 0 || epoll_ctl(worker->epoll, EPOLL_CTL_ADD, stop, &event) < 0)
        die("epoll");
    errno = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (errno)
        die("pthread_create");
}

// Accepts until a signal asks to stop. Connections are allocated here and freed by their worker.
static void serve(int listener, int signals, struct worker *workers, unsigned worker_count)
{
    struct pollfd fds[] = {{.fd = signals, .events = POLLIN}, {.fd = listener, .events = POLLIN}};

    for (unsigned next = 0;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            die("poll");
        if (fds[0].revents)
            return;
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) { // gone already, or out of descriptors: then wait for some to be closed
            if (errno != EAGAIN)
                poll(NULL, 0, 10);
            continue;
        }
        struct conn *conn = conn_new(fd);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
        if (!conn)
            close(fd);
        else if (epoll_ctl(workers[next].epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            conn_free(conn);
        else
            next = (next + 1) % worker_count;
    }
}

static unsigned number_option(const char *text, unsigned low, unsigned high)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || value < low || value > high) {
        fprintf(stderr, "cache_server: \"%s\" is not a number from %u to %u\n", text, low, high);
        exit(2);
    }
    return (unsigned)value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, 0, 'p'},
                                            {"threads", required_argument, 0, 't'},
                                            {"memory", required_argument, 0, 'm'},
                                            {"help", no_argument, 0, 'h'},
                                            {0}};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned port = 0, threads = cores < 2 ? 2 : cores > 8 ? 8 : (unsigned)cores, megabytes = 256;
    struct worker workers[MAX_WORKERS] = {0};

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p': port = number_option(optarg, 0, 65535); break;
        case 't': threads = number_option(optarg, 1, MAX_WORKERS); break;
        case 'm': megabytes = number_option(optarg, 1, 1u << 20); break;
        case 'h': usage(stdout); return 0;
        default: usage(stderr); return 2;
        }
    }

    // Blocked before any thread starts: the signals arrive as readable events, nowhere else.
    sigset_t stop_signals;
    sigemptyset(&stop_signals);
    sigaddset(&stop_signals, SIGTERM);
    sigaddset(&stop_signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop_signals, NULL);
    int signals = signalfd(-1, &stop_signals, SFD_CLOEXEC), stop = eventfd(0, EFD_CLOEXEC);
    struct store *store = store_new((size_t)megabytes << 20);
    if (signals < 0 || stop < 0 || !store)
        die("starting");

    for (unsigned i = 0; i < threads; i++)
        start_worker(&workers[i], store, stop);
    pthread_t maintenance;
    errno = pthread_create(&maintenance, NULL, maintenance_main, &workers[0]);
    if (errno)
        die("pthread_create");

    serve(listen_on(port), signals, workers, threads);

    if (write(stop, &(uint64_t){1}, sizeof(uint64_t)) < 0)
        die("stopping");
    for (unsigned i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_join(maintenance, NULL);
    conn_free_all();
    store_free(store);
    return 0;
}
