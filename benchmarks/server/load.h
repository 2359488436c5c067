// What the parts of the load generator share: keys and values (load_values.c), a pipelined connection to the server
// (load_client.c), phases and threads (cache_load.c).
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "buffer.h"
#include "histogram.h"
#include "random.h"

#include <stdbool.h>
#include <stdint.h>

// Keys and values.

enum { MIN_VALUE = 16, MAX_VALUE = 32 * 1024, KEY_SPACE = 64 };

void values_init(uint64_t seed);

// Mixed lengths, 12 to 59 bytes; a key of its own for each id. Returns the length, without a final NUL.
unsigned key_format(char key[KEY_SPACE], uint64_t id);

// 70% of the values have 16 B to 256 B, 25% up to 4 KiB, 5% up to 32 KiB, each log-uniformly: 1.1 KiB on average.
uint32_t value_length(uint64_t *random);

// A value says which key it belongs to, and can be checked to the last byte.
bool value_append(struct buffer *out, uint64_t id, uint32_t length, uint64_t *random);
bool value_check(const char *value, uint32_t length, uint64_t id);

// Connections.

enum operation { OP_GET, OP_SET, OP_DELETE };

struct request {
    enum operation operation;
    uint64_t id;
};

struct results {
    uint64_t requests, errors, hits, misses;
    struct histogram latency;
};

struct client;

struct client *client_connect(unsigned port, unsigned depth); // NULL with errno set
void client_free(struct client *client);
int client_fd(const struct client *client);

// All of a batch has been answered: the next one can be sent.
bool client_idle(const struct client *client);
bool client_sending(const struct client *client);

// Queues a request for the next batch, up to the depth; false without memory.
bool client_queue(struct client *client, struct request request, uint64_t *random);

// Starts the clock of all requests queued, and sends them.
bool client_send(struct client *client);

// Goes on with what the socket allows. False when the connection is lost or the answers cannot be understood; wrong
// answers are counted as errors. Keys not found are remembered: client_take_miss returns them, once each.
bool client_ready(struct client *client, struct results *results);
bool client_take_miss(struct client *client, uint64_t *id);

#endif
