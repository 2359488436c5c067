#include "buffer.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 4096, KEEP_CAPACITY = 128 * 1024 };

char *buffer_reserve(struct buffer *b, size_t more)
{
    size_t length = buffer_length(b);

    if (b->capacity - b->end >= more)
        return b->data + b->end;
    // Moving the bytes down is cheaper than growing, as long as the front half is what has been consumed.
    if (b->capacity - length >= more && b->start >= length) {
        memmove(b->data, b->data + b->start, length);
    } else {
        size_t capacity = b->capacity ? b->capacity : FIRST_CAPACITY;
        while (capacity < length + more)
            capacity *= 2;
        char *data = malloc(capacity);
        if (!data)
            return NULL;
        if (length)
            memcpy(data, b->data + b->start, length);
        free(b->data);
        b->data = data;
        b->capacity = capacity;
    }
    b->start = 0;
    b->end = length;
    return b->data + b->end;
}

bool buffer_append(struct buffer *b, const void *bytes, size_t length)
{
    char *room = buffer_reserve(b, length);

    if (!room)
        return false;
    memcpy(room, bytes, length);
    buffer_commit(b, length);
    return true;
}

bool buffer_printf(struct buffer *b, const char *format, ...)
{
    char line[512];
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return length >= 0 && (size_t)length < sizeof line && buffer_append(b, line, (size_t)length);
}

void buffer_consume(struct buffer *b, size_t length)
{
    b->start += length;
    if (b->start < b->end)
        return;
    b->start = b->end = 0;
    if (b->capacity > KEEP_CAPACITY)
        buffer_free(b);
}

void buffer_free(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){0};
}
