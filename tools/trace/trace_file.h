/* Reads a trace (src/observe/trace_format.h): the events of one process, in an order in which they can have happened.
 * Nothing in the file is believed: what makes no sense ends its chunk, or the program with a sentence. */
#ifndef TRACE_FILE_H
#define TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "observe/trace_format.h"

/* Ends the program: one sentence on stderr, exit code 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory, or the end. */
void *take(size_t count, size_t size);
void *take_more(void *block, size_t count, size_t size);

struct event {
	uint64_t ns;       /* since the start of the trace */
	uint64_t address;
	uint64_t size;     /* that was asked for */
	uint32_t thread;   /* index of struct trace.threads */
	uint8_t op;        /* enum trace_op; neither TRACE_THREAD nor TRACE_END */
	uint8_t family;
	uint8_t align_log; /* 0: none was asked for */
};

struct thread {
	uint32_t pid, tid;
	char name[TRACE_NAME + 1]; /* the last that is known; any bytes */
	size_t first_stretch, stretches;
	uint64_t first_stamp;
	bool ended;
	/* Where the reading is: */
	size_t next_stretch;
	const unsigned char *at, *end;
	uint64_t stamp, place;
	struct event event; /* the next one, while it waits for its turn */
};

struct process {
	uint32_t pid;
	uint64_t calls;
	uint32_t end;    /* enum trace_end */
	uint32_t status;
};

/* Processes that may write to the file still. */
enum writers { WRITERS_UNKNOWN = -1, NO_WRITERS, WRITERS };

struct trace {
	const unsigned char *bytes;
	size_t length;
	int file;
	struct trace_header header;
	enum writers writers;
	uint64_t used;    /* bytes in records */
	size_t damaged;   /* chunks that were not read to their end, or are not there */
	double ns_per_stamp;
	uint64_t last_ns; /* of the last event of all processes */
	struct process *processes; /* by calls, most first */
	size_t process_count;
	struct stretch *stretches;
	size_t stretch_count;
	struct thread *threads;    /* of the chosen process */
	size_t thread_count;
	uint32_t pid;              /* the chosen one */
	struct thread **heap;      /* threads that have a next event, the earliest first */
	size_t heap_count;
};

/* pid 0: the process with the most calls. */
void trace_open(struct trace *t, const char *path, uint32_t pid);

/* From the first event on. */
void trace_rewind(struct trace *t);

/* False at the end. */
bool trace_next(struct trace *t, struct event *event);

#endif
