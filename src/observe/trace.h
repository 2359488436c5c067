/* The trace: every call of malloc, free and their relatives, in a file (trace_format.h).
 *
 * All threads hide their caches (cache/tcache.h), so each call takes its slow path, and comes to the traced
 * front from there (trace_front.c). The file is mapped and shared: what was recorded is in it however the
 * process ends. */
#ifndef OBSERVE_TRACE_H
#define OBSERVE_TRACE_H

#include <stdatomic.h>

#include "cache/front.h"
#include "observe/trace_format.h"

struct trace_writer;

/* Makes the file that conf_files.trace_file names, and records from now on: returns the traced front, with
 * plain behind it. NULL: what is wrong was said on stderr. Once. */
const struct front *trace_start(const struct front *plain);

/* The loader and libc are ready: if there is a trace, the clocks are compared once more, and exit is waited
 * for. `stays`: nobody will unload us. */
void trace_late_start(bool stays);

/* ---- between trace_front.c and trace.c ---- */

/* The file, for trace_start. */
bool trace_begin(void);

/* Recording is over: threads use their caches again, each from its next call on. */
extern _Atomic bool trace_stopped;

/* A writer for the calling thread's records, until the thread ends. NULL: all are taken. */
NOINLINE struct trace_writer *trace_thread_begin(void);

/* Records that a call allocated: after it did. `own`: the thread's writer, or NULL. `block` is NULL: it
 * failed. */
void trace_allocated(struct trace_writer *own, enum trace_op op, const void *block, size_t size, size_t align,
                     enum family family);

/* Records that a call frees the block: before it does. */
void trace_freed(struct trace_writer *own, const void *block, enum family family);

/* Records that realloc, called at that time, has made `moved` of the block. */
void trace_moved(struct trace_writer *own, uint64_t called, const void *block, const void *moved,
                 size_t size);

/* ---- for all ---- */

/* Around fork. */
void trace_lock(void);
void trace_unlock(void);

#endif
