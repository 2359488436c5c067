/* The trace: every call of malloc, free and their relatives, in a file (trace_format.h).
 *
 * All threads hide their caches (cache/tcache.h), so each call takes its slow path. There it is recorded, and served with the
 * cache as if it were not hidden. The file is mapped and shared: what was recorded is in it however the process ends. */
#ifndef OBSERVE_TRACE_H
#define OBSERVE_TRACE_H

#include "base/base.h"
#include "cache/tcache.h"
#include "harden/harden.h"
#include "observe/trace_format.h"

/* Makes the file that conf_files.trace_file names, and records from now on; what is wrong is said on stderr. Once. */
void trace_start(void);

/* The loader and libc are ready: the clocks are compared once more, and exit is waited for. `stays`: nobody will unload us. */
void trace_late_start(bool stays);

/* A call that is recorded. Owner: its thread. */
struct trace_call {
	struct tcache *hidden;       /* what hides the thread's cache otherwise */
	struct trace_writer *writer; /* NULL: a thread without a cache */
};

/* Brings the thread's cache to light until trace_leave. False: the call is part of another one, as malloc is of realloc, or
 * recording has stopped: it is to be served, not recorded. */
bool trace_enter(struct trace_call *call);
static inline void trace_leave(const struct trace_call *call) { tcache_conceal(call->hidden); }

/* The time now, in stamps. */
uint64_t trace_now(void);

/* Records that the call allocated: after it did. NULL: it failed. */
void trace_allocated(const struct trace_call *call, enum trace_op op, const void *block, size_t size, size_t align,
                     enum family family);

/* Records that it frees the block: before it does. */
void trace_freed(const struct trace_call *call, const void *block, enum family family);

/* Records that realloc, called at that time, has made `moved` of the block. */
void trace_moved(const struct trace_call *call, uint64_t called, const void *block, const void *moved, size_t size);

/* Around fork. */
void trace_lock(void);
void trace_unlock(void);

#endif
