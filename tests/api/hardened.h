/* What the tests of hardened mode share: the sizes of their blocks, and what a wrong program is told. */
#ifndef HARDENED_H
#define HARDENED_H

#include "support.h"

#define MIB ((size_t)1 << 20)

/* Of small, medium and large blocks, smallest first. */
enum { HARDENED_SIZES = 13 };
extern const size_t sizes[HARDENED_SIZES];

/* Of the blocks of the running case. */
extern size_t size;

/* The body ends by the signal; with SIGABRT, stderr has one line, with the text in it. */
void expect_end(void (*body)(void *), int signal_, const char *text);

/* The body goes on, and stderr has one report, with the text in it; NULL: nothing. */
void expect_report(void (*body)(void *), const char *text);

#endif
