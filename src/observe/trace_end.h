/* How a process that is recorded ends: it notes in its chunk that it called exit, and the last one cuts the
 * file to its length.
 *
 * Each process holds the file (os_hold_file), and so do the children that it makes, in whatever way. The
 * kernel lets go for a process that ends, by _exit or a signal, too, or that executes a program. So whether
 * anybody may write to the file is never counted: it is asked, by the processes themselves when they end, and
 * by tools/arenal, also of processes that it may not see. */
#ifndef OBSERVE_TRACE_END_H
#define OBSERVE_TRACE_END_H

#include <stdatomic.h>

#include "base/base.h"
#include "base/os.h"
#include "observe/trace_format.h"

/* When its file has just been made: of this one. `latest`: the chunk that the process began last, or NULL; in
 * memory that is wiped in children. False: the file cannot be held, and nobody will know who writes to it: it
 * stays long. */
bool trace_end_expect(const char *path, const struct os_file *file, struct trace_header *header,
                      struct trace_chunk *_Atomic *latest);

/* When libc is ready: exit is to be noted, of whatever is recorded then. `stays`: nobody will unload us. */
void trace_end_expect_exit(bool stays);

/* The process records no more, and writes to the file no more: if nobody else does, it is cut. False: the
 * process is just ending; the file is still needed. */
bool trace_end_let_go(void);

/* In the child of a fork: nobody else ends it. */
void trace_end_after_fork(void);

/* It has said that it ends: what is still recorded is of no importance. */
bool trace_is_ending(void);

#endif
