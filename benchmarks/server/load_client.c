// A connection that sends requests in batches of up to `depth` and sends the next batch when all are answered. The
// latency of a request is the time from the start of sending its batch until its answer has been read.
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 64 * 1024, MAX_LINE = 512 };

struct client {
    int fd;
    unsigned depth;
    struct buffer in, out;
    uint64_t sent_at;
    unsigned queued, answered; // requests[answered..queued) wait for their answers
    unsigned missed;           // misses[0..missed) were not found
    struct request *requests;
    uint64_t *misses;
};

enum answer { ANSWER_OK, ANSWER_HIT, ANSWER_MISS, ANSWER_WRONG, ANSWER_INCOMPLETE, ANSWER_UNREADABLE };

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

struct client *client_connect(unsigned port, unsigned depth)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct client *client = calloc(1, sizeof *client);
    int yes = 1;

    if (!client)
        return NULL;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->depth = depth;
    client->requests = calloc(depth, sizeof *client->requests);
    client->misses = calloc(depth, sizeof *client->misses);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!client->requests || !client->misses || client->fd < 0 ||
        connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0 ||
        fcntl(client->fd, F_SETFL, O_NONBLOCK) < 0) {
        int error = errno;
        client_free(client);
        errno = error;
        return NULL;
    }
    return client;
}

void client_free(struct client *client)
{
    if (!client)
        return;
    if (client->fd >= 0)
        close(client->fd);
    buffer_free(&client->in);
    buffer_free(&client->out);
    free(client->requests);
    free(client->misses);
    free(client);
}

int client_fd(const struct client *client)
{
    return client->fd;
}

bool client_idle(const struct client *client)
{
    return client->answered == client->queued;
}

bool client_sending(const struct client *client)
{
    return buffer_length(&client->out) > 0;
}

bool client_take_miss(struct client *client, uint64_t *id)
{
    if (client->missed == 0)
        return false;
    *id = client->misses[--client->missed];
    return true;
}

bool client_queue(struct client *client, struct request request, uint64_t *random)
{
    char key[KEY_SPACE];
    int length = (int)key_format(key, request.id);

    if (client_idle(client))
        client->queued = client->answered = 0;
    client->requests[client->queued++] = request;
    if (request.operation == OP_GET)
        return buffer_printf(&client->out, "get %.*s\r\n", length, key);
    if (request.operation == OP_DELETE)
        return buffer_printf(&client->out, "delete %.*s\r\n", length, key);
    uint32_t size = value_length(random);
    return buffer_printf(&client->out, "set %.*s 0 0 %u\r\n", length, key, size) &&
           value_append(&client->out, request.id, size, random) && buffer_append(&client->out, "\r\n", 2);
}

static bool flush(struct client *client)
{
    while (client_sending(client)) {
        ssize_t sent = send(client->fd, buffer_front(&client->out), buffer_length(&client->out), MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return errno == EAGAIN;
        if (sent > 0)
            buffer_consume(&client->out, (size_t)sent);
    }
    return true;
}

bool client_send(struct client *client)
{
    client->sent_at = now();
    return flush(client);
}

// "VALUE KEY FLAGS BYTES", the value and "END", `available` bytes of which are there.
static enum answer parse_value(const char *text, size_t available, size_t line_size, uint64_t id, size_t *size)
{
    char line[MAX_LINE], key[KEY_SPACE];
    int numbers = 0;
    unsigned flags, length;

    memcpy(line, text, line_size);
    line[line_size] = 0;
    if (sscanf(line, "VALUE %*s%n %u %u", &numbers, &flags, &length) != 2 || length > MAX_VALUE)
        return ANSWER_UNREADABLE;
    *size = line_size + length + strlen("\r\nEND\r\n");
    if (available < *size)
        return ANSWER_INCOMPLETE;
    if (memcmp(text + line_size + length, "\r\nEND\r\n", 7) != 0)
        return ANSWER_UNREADABLE;

    unsigned key_length = key_format(key, id);
    bool right_key = (size_t)numbers == strlen("VALUE ") + key_length && memcmp(line + 6, key, key_length) == 0;
    return right_key && value_check(text + line_size, length, id) ? ANSWER_HIT : ANSWER_WRONG;
}

static bool line_is(const char *text, size_t size, const char *expected)
{
    return size == strlen(expected) && memcmp(text, expected, size) == 0;
}

// Looks at the answer at the front of the input; *size is how long it is.
static enum answer parse_answer(const struct client *client, struct request request, size_t *size)
{
    size_t available = buffer_length(&client->in);
    const char *text = buffer_front(&client->in);
    const char *newline = available ? memchr(text, '\n', available) : NULL;

    if (!newline)
        return available >= MAX_LINE ? ANSWER_UNREADABLE : ANSWER_INCOMPLETE;
    *size = (size_t)(newline + 1 - text);
    if (*size >= MAX_LINE)
        return ANSWER_UNREADABLE;
    switch (request.operation) {
    case OP_GET:
        if (line_is(text, *size, "END\r\n"))
            return ANSWER_MISS;
        if (*size > 6 && memcmp(text, "VALUE ", 6) == 0)
            return parse_value(text, available, *size, request.id, size);
        break;
    case OP_SET:
        if (line_is(text, *size, "STORED\r\n"))
            return ANSWER_OK;
        break;
    case OP_DELETE:
        if (line_is(text, *size, "DELETED\r\n") || line_is(text, *size, "NOT_FOUND\r\n"))
            return ANSWER_OK;
        break;
    }
    return *size > 12 && memcmp(text, "SERVER_ERROR", 12) == 0 ? ANSWER_WRONG : ANSWER_UNREADABLE;
}

// Takes the complete answers off the input. False when one makes no sense.
static bool take_answers(struct client *client, struct results *results)
{
    uint64_t latency = now() - client->sent_at;

    while (!client_idle(client)) {
        struct request request = client->requests[client->answered];
        size_t size = 0;
        enum answer answer = parse_answer(client, request, &size);

        if (answer == ANSWER_INCOMPLETE)
            return true;
        if (answer == ANSWER_UNREADABLE)
            return false;
        client->answered++;
        buffer_consume(&client->in, size);
        results->requests++;
        results->hits += answer == ANSWER_HIT;
        results->errors += answer == ANSWER_WRONG;
        if (answer == ANSWER_MISS) {
            results->misses++;
            if (client->missed < client->depth)
                client->misses[client->missed++] = request.id;
        }
        histogram_record(&results->latency, latency);
    }
    return buffer_length(&client->in) == 0; // nobody asked for more
}

bool client_ready(struct client *client, struct results *results)
{
    char *room = buffer_reserve(&client->in, READ_SIZE);

    if (!room || !flush(client))
        return false;
    ssize_t received = recv(client->fd, room, client->in.capacity - client->in.end, 0);
    if (received < 0)
        return errno == EAGAIN || errno == EINTR;
    if (received == 0)
        return false;
    buffer_commit(&client->in, (size_t)received);
    return take_answers(client, results);
}
