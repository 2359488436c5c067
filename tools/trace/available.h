/* How much memory a replay may take. */
#ifndef TRACE_AVAILABLE_H
#define TRACE_AVAILABLE_H

#include <stdint.h>

/* Bytes that the system has left, or the limits of our cgroup and of those above it, if that is less. */
uint64_t memory_available(void);

#endif
