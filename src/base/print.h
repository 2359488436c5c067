/* Formatted text without stdio, which may allocate. Knows %s %.*s %c %d %u %ld %lu %zu %x %p, widths, and -
 * and 0. */
#ifndef BASE_PRINT_H
#define BASE_PRINT_H

#include <stdarg.h>

#include "base/base.h"

/* Writes at most size - 1 characters and a zero; returns the length written. */
size_t print_text(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t print_text_args(char *buffer, size_t size, const char *format, va_list args);

/* Writes a line of at most 511 characters to a file descriptor in one call. Returns 0 or the errno. */
int print_fd(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
