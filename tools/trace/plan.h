/* What the threads of a replay do: the trace, turned into lists before the clock runs. Made by another process, in memory that
 * is shared, so that the allocator under test has seen nothing before. */
#ifndef PLAN_H
#define PLAN_H

#include <stdatomic.h>

#include "trace_file.h"

enum step_kind {
	STEP_MALLOC,
	STEP_CALLOC,
	STEP_ALIGNED,
	STEP_FREE,
	STEP_REALLOC, /* of `old` into `block` */
	STEP_EPOCH,   /* those that follow are in epoch `block` */
	STEP_END,
};

struct step {
	uint64_t size : 48, kind : 8, align_log : 8;
	uint32_t block, old; /* numbers of allocations */
};

/* All threads are through with an epoch before one begins the next: so many events of all threads. That keeps what
 * is live at one time as it was, for blocks that one thread allocates and another frees. */
#define EPOCH 2048

struct plan_thread {
	uint64_t first;       /* its steps start there */
	uint32_t first_epoch;
	uint32_t ends;        /* it ended before the program did */
};

struct plan {
	uint64_t thread_count, step_count, block_count, epoch_count, allocations, frees;
	uint64_t unknown;          /* calls that freed or moved a block which the trace has not seen allocated */
	uint64_t peak_bytes;       /* live at one time, in the trace */
	uint64_t peak_epoch_bytes; /* the same at ends of epochs, and at the end: the replay must come to these */
	uint64_t end_bytes;
	struct plan_thread *threads;  /* by first epoch */
	struct step *steps;
	uint64_t *sizes;              /* of each block, to account for what is freed */
	_Atomic(void *) *blocks;      /* NULL: not allocated yet */
	_Atomic uint32_t *left;       /* threads that have not got through the epoch */
};

/* The plan, of the process or that with the most calls. Ends the program when it cannot be made. */
const struct plan *plan_make(const char *path, uint32_t pid);

#endif
