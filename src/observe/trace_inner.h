/* What the files of the trace share: trace.c, who writes records, and trace_start.c, which turns it on and
 * off. */
#ifndef OBSERVE_TRACE_INNER_H
#define OBSERVE_TRACE_INNER_H

#include <signal.h>

#include "base/conf.h"
#include "base/lock.h"
#include "observe/trace.h"
#include "observe/trace_record.h"

/* Threads with a writer of their own at one time; others share one. */
#define TRACE_WRITERS 65536

/* Wiped on fork as a whole. */
struct trace_shared {
	struct lock lock;
	size_t opened;                      /* bytes of the mapping that are accessible */
	struct trace_writer *free;          /* of threads that have ended, with the rest of their chunks */
	struct trace_writer late;           /* of threads without a cache, for a record at a time. Owner: lock */
	_Atomic uint32_t late_users;        /* threads that have it, or wait for it */
	struct trace_chunk *_Atomic latest; /* of this process; NULL: it has recorded nothing */
	struct trace_writer writers[TRACE_WRITERS];
};

/* Constant while calls are recorded. Written when nobody uses a writer: before the first trace, or when it
 * was stopped and all were seen idle (trace_start.c). */
extern struct trace_shared *trace_shared;
extern struct trace_header *trace_header; /* NULL: there is no trace */
extern struct os_file trace_file;
extern char trace_path[2 * CONF_PATH_MAX];

/* Writers that were handed out. */
extern _Atomic uint32_t trace_writers_used;

/* Recording is over, for this reason: threads use their caches again, each from its next call on.
 * TRACE_STOPPED: nothing is said, nor noted. False: it was over already. */
COLD bool trace_stop_for(enum trace_state state);

/* Makes the first bytes of the mapping accessible. */
bool trace_open_up(size_t size);

/* What is attached to the cache of a thread that has ended. */
void trace_end_writer(void *writer);

/* For action_install_mending. */
bool trace_mend(const siginfo_t *info);

#endif
