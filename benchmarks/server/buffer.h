// A growable queue of bytes: appended to at the end, consumed from the front.
#ifndef BENCH_BUFFER_H
#define BENCH_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data;
    size_t start, end, capacity; // the bytes are data[start..end)
};

static inline size_t buffer_length(const struct buffer *b) { return b->end - b->start; }
static inline char *buffer_front(const struct buffer *b) { return b->data + b->start; }

// Room for at least `more` bytes; NULL without memory. Commit what was written there with buffer_commit.
char *buffer_reserve(struct buffer *b, size_t more);
static inline void buffer_commit(struct buffer *b, size_t written) { b->end += written; }

// False without memory: the buffer is then as it was.
bool buffer_append(struct buffer *b, const void *bytes, size_t length);
bool buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Gives the memory of an empty buffer back when it has grown large.
void buffer_consume(struct buffer *b, size_t length);
void buffer_free(struct buffer *b);

#endif
