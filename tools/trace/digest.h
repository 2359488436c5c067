/* What a report says about a trace, as JSON on stdout: as much as fits a page, however long the trace is. */
#ifndef DIGEST_H
#define DIGEST_H

#include "trace_file.h"

/* What is known without looking at single events. */
void print_summary(const struct trace *t);

void print_digest(struct trace *t);

/* A string of JSON; bytes that are no ASCII are shown as the characters of Latin-1. */
void print_string(const char *text);

#endif
