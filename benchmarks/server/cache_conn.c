#include "cache_conn.h"
#include "buffer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_SIZE = 16 * 1024,
    READS_PER_TURN = 16, // then the other connections of this worker have their turn
    MAX_KEY = 250,
    MAX_VALUE = 1024 * 1024,
    MAX_LINE = 2048,
    MAX_WORDS = 24,
};

struct conn {
    int fd;
    struct buffer in, out;
    struct conn *next, **link; // the list of all open connections, for conn_free_all
};

static struct conn *open_conns;
static pthread_mutex_t open_conns_lock = PTHREAD_MUTEX_INITIALIZER;

// What became of the bytes at the front of the input.
enum command_result { COMMAND_DONE, COMMAND_INCOMPLETE, COMMAND_FATAL };

struct word {
    const char *text;
    size_t length;
};

struct conn *conn_new(int fd)
{
    struct conn *conn = calloc(1, sizeof *conn);

    if (!conn)
        return NULL;
    conn->fd = fd;
    pthread_mutex_lock(&open_conns_lock);
    conn->next = open_conns;
    conn->link = &open_conns;
    if (conn->next)
        conn->next->link = &conn->next;
    open_conns = conn;
    pthread_mutex_unlock(&open_conns_lock);
    return conn;
}

void conn_free(struct conn *conn)
{
    pthread_mutex_lock(&open_conns_lock);
    *conn->link = conn->next;
    if (conn->next)
        conn->next->link = conn->link;
    pthread_mutex_unlock(&open_conns_lock);
    close(conn->fd);
    buffer_free(&conn->in);
    buffer_free(&conn->out);
    free(conn);
}

void conn_free_all(void)
{
    while (open_conns)
        conn_free(open_conns);
}

int conn_fd(const struct conn *conn)
{
    return conn->fd;
}

static size_t split_words(const char *line, size_t length, struct word *words)
{
    size_t count = 0, i = 0;

    while (count < MAX_WORDS) {
        while (i < length && line[i] == ' ')
            i++;
        if (i == length)
            break;
        words[count].text = line + i;
        while (i < length && line[i] != ' ')
            i++;
        words[count].length = (size_t)(line + i - words[count].text);
        count++;
    }
    return count;
}

static bool word_is(struct word word, const char *text)
{
    return word.length == strlen(text) && memcmp(word.text, text, word.length) == 0;
}

static bool word_number(struct word word, uint32_t *number)
{
    uint64_t value = 0;

    if (word.length == 0 || word.length > 10)
        return false;
    for (size_t i = 0; i < word.length; i++) {
        if (word.text[i] < '0' || word.text[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(word.text[i] - '0');
    }
    *number = (uint32_t)value;
    return value <= UINT32_MAX;
}

static enum command_result reply(struct conn *conn, const char *line)
{
    return buffer_printf(&conn->out, "%s\r\n", line) ? COMMAND_DONE : COMMAND_FATAL;
}

struct get_reply {
    struct buffer *out;
    bool no_memory;
};

// Called under the shard's lock: copies the value, as it may be gone right after.
static void append_value(void *argument, const struct store_entry *entry)
{
    struct get_reply *reply = argument;

    reply->no_memory |= !buffer_printf(reply->out, "VALUE %.*s %" PRIu32 " %" PRIu32 "\r\n", (int)entry->key_length,
                                       entry->key, entry->flags, entry->value_length) ||
                        !buffer_append(reply->out, entry->value, entry->value_length) ||
                        !buffer_append(reply->out, "\r\n", 2);
}

static enum command_result command_get(struct conn *conn, struct store *store, struct word *words, size_t count)
{
    struct get_reply found = {.out = &conn->out};

    for (size_t i = 1; i < count; i++)
        store_get(store, words[i].text, words[i].length, append_value, &found);
    return found.no_memory ? COMMAND_FATAL : reply(conn, "END");
}

// `available` bytes of the input follow the command line; *used says how many belong to the value.
static enum command_result command_set(struct conn *conn, struct store *store, struct word *words, size_t count,
                                       size_t available, const char *value, size_t *used)
{
    uint32_t flags, exptime, length;

    // Without a length, there is no telling where the next command starts.
    if (count < 5 || !word_number(words[2], &flags) || !word_number(words[3], &exptime) ||
        !word_number(words[4], &length) || length > MAX_VALUE) {
        reply(conn, "CLIENT_ERROR bad set command");
        return COMMAND_FATAL;
    }
    if (available < (size_t)length + 2)
        return COMMAND_INCOMPLETE;
    *used = (size_t)length + 2;
    if (memcmp(value + length, "\r\n", 2) != 0) {
        reply(conn, "CLIENT_ERROR bad data chunk");
        return COMMAND_FATAL;
    }
    bool stored = store_set(store, words[1].text, words[1].length, flags, value, length);
    if (count > 5 && word_is(words[5], "noreply"))
        return COMMAND_DONE;
    return reply(conn, stored ? "STORED" : "SERVER_ERROR out of memory");
}

static enum command_result command_delete(struct conn *conn, struct store *store, struct word *words, size_t count)
{
    bool deleted = store_delete(store, words[1].text, words[1].length);

    if (count > 2 && word_is(words[2], "noreply"))
        return COMMAND_DONE;
    return reply(conn, deleted ? "DELETED" : "NOT_FOUND");
}

static enum command_result command_stats(struct conn *conn, struct store *store)
{
    struct store_stats stats;

    store_get_stats(store, &stats);
    const struct {
        const char *name;
        uint64_t value;
    } lines[] = {
        {"pid", (uint64_t)getpid()},   {"curr_items", stats.entries},    {"bytes", stats.bytes},
        {"cmd_set", stats.sets},       {"get_hits", stats.hits},         {"get_misses", stats.misses},
        {"delete_hits", stats.deletes}, {"evictions", stats.evictions}, {"reaped", stats.reaped},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!buffer_printf(&conn->out, "STAT %s %" PRIu64 "\r\n", lines[i].name, lines[i].value))
            return COMMAND_FATAL;
    return reply(conn, "END");
}

static bool keys_fit(const struct word *words, size_t count, bool all)
{
    if (count < 2)
        return false;
    for (size_t i = 1; i < (all ? count : 2); i++)
        if (words[i].length > MAX_KEY)
            return false;
    return true;
}

// Executes the command at the front of the input, and consumes it unless it is incomplete.
static enum command_result execute_one(struct conn *conn, struct store *store)
{
    size_t available = buffer_length(&conn->in), used = 0, count;
    const char *line = buffer_front(&conn->in);
    const char *newline = available ? memchr(line, '\n', available) : NULL;
    struct word words[MAX_WORDS];
    enum command_result result;

    if (!newline)
        return available > MAX_LINE ? COMMAND_FATAL : COMMAND_INCOMPLETE;
    size_t line_size = (size_t)(newline + 1 - line), length = line_size - 1;
    if (length && line[length - 1] == '\r')
        length--;
    count = split_words(line, length, words);

    if (count && word_is(words[0], "get") && keys_fit(words, count, true))
        result = command_get(conn, store, words, count);
    else if (count && word_is(words[0], "set") && keys_fit(words, count, false))
        result = command_set(conn, store, words, count, available - line_size, newline + 1, &used);
    else if (count && word_is(words[0], "delete") && keys_fit(words, count, false))
        result = command_delete(conn, store, words, count);
    else if (count && word_is(words[0], "stats"))
        result = command_stats(conn, store);
    else if (count && word_is(words[0], "version"))
        result = reply(conn, "VERSION cache_server");
    else if (count && word_is(words[0], "quit"))
        result = COMMAND_FATAL;
    else
        result = reply(conn, "ERROR");

    if (result == COMMAND_DONE)
        buffer_consume(&conn->in, line_size + used);
    return result;
}

// CONN_WRITE while the socket does not take everything.
static enum conn_state flush(struct conn *conn)
{
    while (buffer_length(&conn->out) > 0) {
        ssize_t sent = send(conn->fd, buffer_front(&conn->out), buffer_length(&conn->out), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? CONN_WRITE : CONN_CLOSE;
        buffer_consume(&conn->out, (size_t)sent);
    }
    return CONN_READ;
}

enum conn_state conn_ready(struct conn *conn, struct store *store)
{
    enum conn_state state = flush(conn);

    // A client that does not read its answers is not read from either: this bounds the output.
    for (int reads = 0; state == CONN_READ && reads < READS_PER_TURN; reads++) {
        char *room = buffer_reserve(&conn->in, READ_SIZE);
        if (!room)
            return CONN_CLOSE;
        size_t size = conn->in.capacity - conn->in.end;
        ssize_t received = recv(conn->fd, room, size, 0);
        if (received < 0 && errno == EINTR)
            continue;
        if (received < 0 && errno == EAGAIN)
            return CONN_READ;
        if (received <= 0)
            return CONN_CLOSE;
        buffer_commit(&conn->in, (size_t)received);

        enum command_result result;
        do
            result = execute_one(conn, store);
        while (result == COMMAND_DONE);
        state = flush(conn);
        if (result == COMMAND_FATAL)
            return CONN_CLOSE;
        if ((size_t)received < size)
            return state; // the socket is most likely empty: spare the call that says so
    }
    return state;
}
