#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "available.h"
#include "blocks.h"

/* Bytes; and for each record two steps, a block's size and its address. */
#define SHORTEST_RECORD 4
#define BYTES_PER_RECORD (2 * sizeof(struct step) + 2 * sizeof(uint64_t))

static char *room;
static size_t room_used, room_size;

static void *reserve(size_t count, size_t size) {
	const size_t bytes = (count * size + 63) & ~(size_t)63;
	if (bytes > room_size - room_used) fail("the trace changed while it was read");
	room_used += bytes;
	return room + room_used - bytes;
}

/* Steps of each thread, and what there is of everything. */
static uint64_t *count(struct trace *t, struct plan *plan) {
	uint64_t *steps = take(t->thread_count, sizeof *steps), events = 0;
	uint32_t *epochs = take(t->thread_count, sizeof *epochs);
	for (struct event e; trace_next(t, &e); events++) {
		const uint32_t epoch = (uint32_t)(events / EPOCH) + 1;
		if (epochs[e.thread] != epoch) steps[e.thread]++;
		epochs[e.thread] = epoch;
		steps[e.thread]++;
		plan->block_count += e.op != TRACE_FREE && e.op != TRACE_FAILED && e.op != TRACE_MOVE;
	}
	plan->epoch_count = (events + EPOCH - 1) / EPOCH;
	for (size_t i = 0; i < t->thread_count; i++) plan->step_count += ++steps[i];
	free(epochs);
	return steps;
}

static const enum step_kind kinds[TRACE_OPS] = {
	[TRACE_MALLOC] = STEP_MALLOC, [TRACE_CALLOC] = STEP_CALLOC, [TRACE_ALIGNED] = STEP_ALIGNED,
};

static void fill(struct trace *t, struct plan *plan, const uint64_t *counts) {
	struct blocks b;
	blocks_init(&b, t);
	uint64_t *next = take(t->thread_count, sizeof *next), events = 0, first = 0;
	uint32_t *epochs = take(t->thread_count, sizeof *epochs);
	for (size_t i = 0; i < t->thread_count; i++) {
		next[i] = plan->threads[i].first = first;
		plan->threads[i].ends = t->threads[i].ended;
		first += counts[i];
	}
	trace_rewind(t);
	for (struct event e; trace_next(t, &e); events++) {
		const uint32_t epoch = (uint32_t)(events / EPOCH) + 1;
		if (events % EPOCH == 0 && b.bytes > plan->peak_epoch_bytes) plan->peak_epoch_bytes = b.bytes;
		if (epochs[e.thread] != epoch) {
			if (epochs[e.thread] == 0) plan->threads[e.thread].first_epoch = epoch - 1;
			plan->left[epoch - 1]++;
			plan->steps[next[e.thread]++] = (struct step){ .kind = STEP_EPOCH, .block = epoch - 1 };
			epochs[e.thread] = epoch;
		}
		const struct change c = blocks_apply(&b, &e);
		struct step step = { .size = e.size & ((UINT64_C(1) << 48) - 1), .align_log = e.align_log, .block = c.new_.number, .old = c.old.number };
		if (c.allocates && c.frees)
			step.kind = STEP_REALLOC;
		else if (c.allocates)
			step.kind = kinds[e.op]; /* realloc of a block that was there before the trace is a malloc */
		else if (c.frees)
			step.kind = STEP_FREE, step.old = c.old.number;
		else {
			plan->unknown += c.unknown;
			continue;
		}
		if (c.allocates) plan->sizes[c.new_.number] = step.size;
		plan->unknown += c.unknown;
		plan->allocations += c.allocates;
		plan->frees += c.frees;
		plan->steps[next[e.thread]++] = step;
		if (b.bytes > plan->peak_bytes) plan->peak_bytes = b.bytes;
	}
	plan->end_bytes = b.bytes;
	if (b.bytes > plan->peak_epoch_bytes) plan->peak_epoch_bytes = b.bytes;
	for (size_t i = 0; i < t->thread_count; i++) plan->steps[next[i]].kind = STEP_END;
}

static void make(struct plan *plan, const char *path, uint32_t pid) {
	struct trace t;
	trace_open(&t, path, pid);
	const uint64_t *counts = count(&t, plan);
	if (plan->block_count == 0) fail("%s has no allocation", path);
	plan->thread_count = t.thread_count;
	plan->threads = reserve(t.thread_count, sizeof *plan->threads);
	plan->steps = reserve(plan->step_count, sizeof *plan->steps);
	plan->sizes = reserve(plan->block_count, sizeof *plan->sizes);
	plan->blocks = reserve(plan->block_count, sizeof *plan->blocks);
	plan->left = reserve(plan->epoch_count, sizeof *plan->left);
	fill(&t, plan, counts);
}

/* What is in use of the file: it is longer, without contents, where nobody cut it. */
static size_t bytes_of(const char *path) {
	struct stat about;
	struct trace_header header = { 0 };
	/* Not to wait for somebody at the other end of a pipe. */
	const int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (file < 0 || fstat(file, &about) != 0) fail("%s: %s", path, strerror(errno));
	if (!S_ISREG(about.st_mode)) fail("%s is not a trace: it is no plain file", path);
	if (pread(file, &header, sizeof header, 0) < 0) fail("%s: %s", path, strerror(errno));
	close(file);
	const uint64_t most = (uint64_t)about.st_size / TRACE_CHUNK + 1;
	uint64_t chunks = header.chunks < most ? header.chunks : most;
	if (header.state == TRACE_RUNNING) chunks += chunks / 4 + 1024; /* perhaps it grows until it is read */
	return (size_t)(chunks * TRACE_CHUNK);
}

const struct plan *plan_make(const char *path, uint32_t pid) {
	room_size = bytes_of(path) / SHORTEST_RECORD * BYTES_PER_RECORD + (1 << 20);
	room = mmap(NULL, room_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED) fail("there is not enough memory for this trace");
	struct plan *plan = reserve(1, sizeof *plan);
	fflush(NULL);
	const pid_t child = fork();
	if (child < 0) fail("there is no process to read the trace: %s", strerror(errno));
	if (child == 0) {
		make(plan, path, pid);
		exit(0);
	}
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR) fail("the process that read the trace was lost");
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0) exit(1); /* it said why */
	if (!WIFEXITED(status)) fail("the process that read the trace was killed by signal %d", WTERMSIG(status));
	const uint64_t available = memory_available();
	if (plan->peak_bytes > available / 4 * 3)
		fail("the trace needs %lu MiB at its peak, and there are %lu MiB", plan->peak_bytes >> 20, available >> 20);
	return plan;
}
