/* The file of a trace, as the library writes it and tools/replay reads it. All numbers are little-endian.
 *
 * The file is a row of pieces of TRACE_CHUNK bytes. The first begins with struct trace_header. Each other one
 * is a *chunk*, or nothing: who took it could not write. A chunk belongs to one process, begins with struct
 * trace_chunk, and holds records to its end or to the first zero byte; behind them all is zero. Each record
 * belongs to the thread of the last TRACE_THREAD before it in its chunk; what such a record starts is a
 * *stretch*. The stretches of a thread, by their times, are all that it did, in order; records of several
 * threads, by their times, are in an order in which each block is freed after it was allocated and each
 * address is handed out after it was freed.
 *
 * A record is a head of two bytes and fields of one to eight bytes each:
 *   bits 0-3   what happened, enum trace_op, never 0
 *   bits 4-6   length of the time, less one
 *   bits 7-9   length of the address, less one
 *   bits 10-12 length of the size, less one
 *   bits 13-15 the family: malloc, new, new[], both with an alignment (enum family)
 *   time       stamps since the last record of the stretch; in TRACE_THREAD since trace_header.stamp
 *   address    a sixteenth of it, less that of the last record of the stretch (0 at its start), zigzag: 2n,
 *              or -2n - 1
 *   size       in bytes, as the program asked for it; not in TRACE_FREE and TRACE_MOVE
 *   one byte   the alignment's logarithm, in TRACE_ALIGNED only
 * The head is written last: a record that is there is whole, however the process ended. */
#ifndef OBSERVE_TRACE_FORMAT_H
#define OBSERVE_TRACE_FORMAT_H

#include <stdint.h>

#define TRACE_MAGIC "ARENALTR"
#define TRACE_VERSION 2
#define TRACE_CHUNK ((uint64_t)64 << 10)

enum trace_op {
	TRACE_NOTHING,
	TRACE_MALLOC, /* and operator new: see the family */
	TRACE_CALLOC,
	TRACE_ALIGNED, /* any function with an alignment of more than 16 */
	TRACE_FREE,    /* or operator delete, or realloc to no bytes. Not of NULL */
	TRACE_MOVE,    /* realloc gives up a block to make another, which the thread's next TRACE_REALLOC is, if
	                  recording goes on until then: perhaps at the same address */
	TRACE_REALLOC, /* realloc's new block. Without TRACE_MOVE before it, which older files have, it is the old
	                  one with another size */
	TRACE_FAILED,  /* nothing was allocated, and nothing freed; the address is none */
	TRACE_THREAD,  /* the records that follow are this thread's: the address is its number, not shifted, nor
	                  relative; the size is that of its name, TRACE_NAME, which follows */
	TRACE_END,     /* the thread has ended: its number, as in TRACE_THREAD */
	TRACE_OPS
};
#define TRACE_NAME 16

#define TRACE_TIME_SHIFT 4
#define TRACE_ADDRESS_SHIFT 7
#define TRACE_SIZE_SHIFT 10
#define TRACE_FAMILY_SHIFT 13

/* No record is longer. */
#define TRACE_RECORD_MAX (2 + 3 * 8 + TRACE_NAME)

enum trace_state {
	TRACE_RUNNING,  /* or the last process ended without a word */
	TRACE_ENDED,    /* the last process has ended, and cut the file to its length */
	TRACE_NO_SPACE, /* the file system had no room, or the file was cut: recording has stopped */
	TRACE_FULL,     /* the file has the greatest length that it may: recording has stopped */
	TRACE_STOPPED,  /* somebody said so, or the time was over: recording has stopped */
};

/* How a process ended, as far as it could say. */
enum trace_end {
	TRACE_NO_END, /* it runs, or ended without exit: by _exit, by executing a program, whose calls are in a
	                 file of their own if anywhere, or by a signal */
	TRACE_EXIT,   /* it called exit, or main ended, or its last thread */
	TRACE_ENDS
};

struct trace_header {
	char magic[8];
	uint32_t version;
	uint32_t chunk_size;
	uint32_t pid;                   /* the process that made the file */
	uint32_t state;                 /* enum trace_state */
	uint64_t date;                  /* when that was, in nanoseconds since 1970 */
	uint64_t stamp, ns;             /* a moment then, in stamps and in nanoseconds of CLOCK_MONOTONIC */
	uint64_t later_stamp, later_ns; /* a later moment. Chunks have others: the farthest tells best how long a
	                                   stamp is */
	char name[TRACE_NAME];          /* the process's */
	uint64_t chunks;                /* pieces taken so far, the first included. Changed atomically, by all
	                                   processes */
	uint32_t held;                  /* 1: who may write holds a lock on the file (F_OFD_SETLK, to read), which
	                                   the kernel drops when all have ended */
	uint32_t cut;                   /* pieces that there were when the last process cut the file; 0: it did
	                                   not */
	uint32_t late;                  /* 1: recording began while the process ran, with blocks that it does not
	                                   know */
	uint32_t reserved;
};

#define TRACE_CHUNK_MAGIC UINT32_C(0x4B4E4843) /* "CHNK" */

struct trace_chunk {
	uint32_t magic;
	uint32_t pid;
	uint64_t stamp, ns; /* when it was begun */
	uint32_t end;       /* enum trace_end of the process: in the one of its chunks that it began last */
	uint32_t status;    /* its exit status then */
};

#endif
