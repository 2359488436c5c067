/* The blocks that are live at a moment of a trace, by address. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "trace_file.h"

struct block {
	uint64_t address; /* BLOCK_NONE: an empty place */
	uint64_t size;
	uint64_t ns;      /* when it was allocated */
	uint32_t thread;  /* who allocated it */
	uint32_t number;  /* counts allocations, from 0 */
};
#define BLOCK_NONE UINT64_MAX

struct blocks {
	struct block *table; /* open addressing */
	size_t capacity;     /* a power of two */
	size_t count;
	uint64_t bytes;
	uint32_t numbers;    /* allocations so far */
	/* A MOVE that waits for its REALLOC, by thread. */
	struct block *moving;
};

void blocks_init(struct blocks *b, const struct trace *t);

/* What an event did. */
struct change {
	bool frees, allocates;
	struct block old;  /* when it frees */
	struct block new_; /* when it allocates */
	bool unknown;      /* it freed a block from before the trace, or one that never was */
};

/* For each event in order. Of a realloc that moves, only the second event is a change. */
struct change blocks_apply(struct blocks *b, const struct event *e);

#endif
