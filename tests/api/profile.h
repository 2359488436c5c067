/* What the tests of the heap profile share: functions that allocate, and what the dump has of their
 * stacks. */
#ifndef PROFILE_H
#define PROFILE_H

#include "support.h"

#define NOINLINE __attribute__((noinline, noclone))

struct counts {
	double live_blocks, live_bytes, total_blocks, total_bytes;
};

/* Takes what a function allocated, so that it is no tail call. */
extern void *volatile sink;

/* A function of its own for each size that is allocated: the dump is asked for its stacks. */
void *site_16(void);
void *site_40(void);
void *site_200(void);
void *site_1024(void);
void *site_1040(void);
void *site_5000(void);
void *site_20000(void);
void *site_32768(void);
void *site_50000(void);
void *site_300000(void);
void *site_1048576(void);

enum { SITES = 11 };
extern const struct site {
	void *(*allocate)(void);
	size_t size, calls; /* calls: of each thread */
} sites[SITES];

/* The text of a dump; never unmapped. */
char *dump_text(void);

/* Cuts the line off, and returns the next one; sscanf would measure the rest each time. */
char *cut_line(char *line);

/* What the stacks that begin in the function come to; NULL: all of them. The symbol is what dladdr says. */
struct counts counted(const void *function);

/* With a mean of one byte, each block is a sample, and the numbers are exact. */
void start_exactly(void);
void assert_counts(const void *function, double live_blocks, double live_bytes, double total_blocks);

#endif
