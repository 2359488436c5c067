// What workload.c, options.c, latency.c and result.c have between themselves; workloads do not need it.
#ifndef WORKLOAD_HARNESS_H
#define WORKLOAD_HARNESS_H

#include "workload.h"

enum { MAX_THREADS = 4096 };

// Fills in seed, threads, operations or seconds, and the workload's own options. Ends the program after --help, or with
// status 2 and a sentence. Returns whether --latency was asked for.
bool options_read(struct run *run, int argc, char **argv);

// Finds out how long a tick of the clock for single calls is, and how long reading it takes.
void latency_calibrate(void);

// Prints the line of JSON; status 1 when it cannot be written.
void result_print(const struct run *run);

uint64_t peak_resident_bytes(void); // of this process, so far

#endif
