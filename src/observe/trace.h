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

/* The loader and libc are ready: exit is waited for, and if there is a trace, the clocks are compared once
 * more. `stays`: nobody will unload us. */
void trace_late_start(bool stays);

/* ---- in a process that runs (for the window) ---- */

/* Once: where the front is to be put, with plain behind it. */
void trace_offer(const struct front *plain, const struct front *_Atomic *place);

/* Records in a new file of this name from now on, so many bytes at most, and for so many milliseconds, or 0.
 * Returns 0 or an errno. EBUSY: calls are recorded already, or somebody writes to the trace before this one
 * still; EOPNOTSUPP: another front serves for good, as in hardened mode, or since the program made a heap.
 * Called by one of our own threads, as are all of these. */
int trace_open(const char *path, uint64_t most, uint64_t milliseconds);

/* Ends that, if it is on; the file is cut to its length where nobody else writes to it. Returns 0 or an
 * errno: EALREADY. */
int trace_close(void);

struct trace_state_now {
	uint64_t bytes;        /* of the file, so far */
	uint64_t milliseconds; /* since it began, or until it ended */
	uint64_t left;         /* until it ends by itself; 0: it does not */
	uint32_t state;        /* enum trace_state */
	bool is_on, was_on;    /* now; or ever */
	const char *path;
};
void trace_state_get(struct trace_state_now *now);

/* Milliseconds until trace_close is due; 0: it is not. And it is called, if it is due. */
uint64_t trace_time_left(void);
void trace_close_in_time(void);

/* ---- between trace_front.c and trace.c ---- */

/* The file, for trace_start. */
bool trace_begin(void);

/* Makes the traced front that of the process. False: it has another one. */
bool trace_take_front(void);

/* Recording is over: threads use their caches again, each from its next call on. Also before it begins. */
extern _Atomic bool trace_stopped;

/* Recording is over: threads that were led to their slow paths find their magazines again. Without any
 * lock. */
COLD void trace_lead_again(void);

/* A writer for the calling thread's records, until the thread ends. NULL: all are taken. */
NOINLINE struct trace_writer *trace_thread_begin(void);

/* Records that a call allocated: after it did. `own`: the thread's writer, or NULL. `block` is NULL: it
 * failed. */
void trace_allocated(struct trace_writer *own, enum trace_op op, const void *block, size_t size, size_t align,
                     enum family family);

/* Records that a call frees the block: before it does. */
void trace_freed(struct trace_writer *own, const void *block, enum family family);

/* Records that realloc may give up the block: before it does, as with free. Otherwise another thread could
 * have the block recorded as its own, and this record never come: the file is full by then, or the process
 * killed. What has become of the block is recorded with trace_allocated; or, when realloc failed, that it is
 * there still and has so many bytes. */
void trace_moves(struct trace_writer *own, const void *block);
void trace_stayed(struct trace_writer *own, const void *block, size_t has, size_t size);

/* ---- for all ---- */

/* Around fork. */
void trace_lock(void);
void trace_unlock(void);

#endif
