#include "digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "heap_map.h"

/* Moments that a curve has. */
#define STEPS 600

/* Sizes: four steps for each doubling, from 16 bytes on. */
#define SIZES 180

/* Lifetimes: two steps for each power of ten, from 100 ns on; the last one: never freed. */
#define LIFETIMES 24

/* Threads that have a row of their own; all others together have one more. */
#define THREADS_SHOWN 15
#define THREADS (THREADS_SHOWN + 1)

struct tally {
	uint64_t calls, bytes;
};

struct thread_tally {
	uint64_t allocated, bytes, freed, foreign; /* foreign: freed, of other threads */
	struct tally peak;                         /* live at the peak */
};

static struct digest {
	uint64_t ops[TRACE_OPS];
	uint64_t unknown;                /* frees of blocks from before the trace */
	struct { uint64_t bytes, blocks, allocated, freed, allocated_bytes; } steps[STEPS]; /* the most at one time; the rest: sums */
	struct { struct tally all, peak; uint64_t freed; double lifetime; } sizes[SIZES];
	struct tally lifetimes[LIFETIMES];
	struct tally peak_by[SIZES][THREADS]; /* live at the peak, by size and row */
	uint64_t crossings[THREADS][THREADS]; /* blocks of a row's thread that a column's freed */
	uint64_t peak_bytes, peak_blocks, peak_ns, peak_event;
	uint64_t end_bytes, end_blocks;
	uint64_t allocated, allocated_bytes, foreign;
	struct thread_tally *threads;
	unsigned *rows;                       /* by thread */
} d;

static unsigned size_step(uint64_t size) {
	if (size <= 16) return 0;
	const unsigned log = 63 - (unsigned)__builtin_clzll(size - 1);
	const unsigned step = (log - 4) * 4 + (unsigned)((size - 1) >> (log - 2) & 3) + 1;
	return step < SIZES ? step : SIZES - 1;
}

/* The largest size of the step. */
static uint64_t size_limit(unsigned step) {
	if (step == 0) return 16;
	const unsigned log = (step - 1) / 4 + 4;
	return (UINT64_C(1) << log) + (UINT64_C(1) << (log - 2)) * ((step - 1) % 4 + 1);
}

static unsigned lifetime_step(uint64_t ns) {
	unsigned step = 0;
	for (uint64_t limit = 100; ns >= limit && step < LIFETIMES - 2; step++)
		limit = step % 2 == 0 ? limit / 10 * 32 : limit / 32 * 100;
	return step;
}

static size_t time_step(const struct trace *t, uint64_t ns) {
	return ns >= t->last_ns ? STEPS - 1 : (size_t)((double)ns / (double)t->last_ns * STEPS);
}

static void count_freed(const struct event *e, const struct block *old) {
	const unsigned size = size_step(old->size), life = lifetime_step(e->ns - old->ns);
	d.sizes[size].freed++;
	d.sizes[size].lifetime += (double)(e->ns - old->ns);
	d.lifetimes[life].calls++;
	d.lifetimes[life].bytes += old->size;
	d.threads[e->thread].freed++;
	if (old->thread != e->thread) d.threads[e->thread].foreign++, d.foreign++;
}

static void count_allocated(const struct event *e) {
	const unsigned size = size_step(e->size);
	d.sizes[size].all.calls++;
	d.sizes[size].all.bytes += e->size;
	d.threads[e->thread].allocated++;
	d.threads[e->thread].bytes += e->size;
	d.allocated++;
	d.allocated_bytes += e->size;
}

/* What is summed up, and when the peak is. */
static void first_pass(struct trace *t) {
	struct blocks b;
	blocks_init(&b, t);
	uint64_t number = 0;
	size_t last_step = 0;
	for (struct event e; trace_next(t, &e); number++) {
		const size_t step = time_step(t, e.ns);
		for (; last_step < step; last_step++) { /* nothing happened in between */
			d.steps[last_step + 1].bytes = b.bytes;
			d.steps[last_step + 1].blocks = b.count;
		}
		d.ops[e.op]++;
		const struct change c = blocks_apply(&b, &e);
		d.unknown += c.unknown;
		if (c.frees) {
			d.steps[step].freed++;
			count_freed(&e, &c.old);
		}
		if (c.allocates) {
			d.steps[step].allocated++;
			d.steps[step].allocated_bytes += e.size;
			count_allocated(&e);
			map_note_address(e.address, e.size);
		}
		if (b.bytes > d.steps[step].bytes) d.steps[step].bytes = b.bytes;
		if (b.count > d.steps[step].blocks) d.steps[step].blocks = b.count;
		if (b.bytes > d.peak_bytes) {
			d.peak_bytes = b.bytes;
			d.peak_blocks = b.count;
			d.peak_ns = e.ns;
			d.peak_event = number;
		}
	}
	for (; last_step < STEPS - 1; last_step++) {
		d.steps[last_step + 1].bytes = b.bytes;
		d.steps[last_step + 1].blocks = b.count;
	}
	d.end_bytes = b.bytes;
	d.end_blocks = b.count;
	for (size_t i = 0; i < b.capacity; i++)
		if (b.table[i].address != BLOCK_NONE) {
			d.lifetimes[LIFETIMES - 1].calls++;
			d.lifetimes[LIFETIMES - 1].bytes += b.table[i].size;
		}
	free(b.table);
	free(b.moving);
}

static int by_work(const void *a, const void *b) {
	const struct thread_tally *x = &d.threads[*(const uint32_t *)a], *y = &d.threads[*(const uint32_t *)b];
	const uint64_t one = x->allocated + x->freed, other = y->allocated + y->freed;
	return one != other ? (one < other) - (one > other) : (x > y) - (x < y);
}

/* Rows for the threads that did most. Returns all threads in that order. */
static uint32_t *choose_rows(const struct trace *t) {
	uint32_t *order = take(t->thread_count, sizeof *order);
	for (uint32_t i = 0; i < t->thread_count; i++) order[i] = i;
	qsort(order, t->thread_count, sizeof *order, by_work);
	for (uint32_t i = 0; i < t->thread_count; i++) d.rows[order[i]] = i < THREADS_SHOWN ? i : THREADS_SHOWN;
	return order;
}

static void count_peak(const struct blocks *b) {
	for (size_t i = 0; i < b->capacity; i++) {
		const struct block *block = &b->table[i];
		if (block->address == BLOCK_NONE) continue;
		const unsigned size = size_step(block->size);
		struct tally *const tallies[] = { &d.sizes[size].peak, &d.peak_by[size][d.rows[block->thread]], &d.threads[block->thread].peak };
		for (size_t k = 0; k < 3; k++) {
			tallies[k]->calls++;
			tallies[k]->bytes += block->size;
		}
	}
}

/* What needs to know how the trace ends: who crosses, the peak, the map. */
static void second_pass(struct trace *t) {
	struct blocks b;
	blocks_init(&b, t);
	trace_rewind(t);
	uint64_t number = 0;
	for (struct event e; trace_next(t, &e); number++) {
		map_until((double)e.ns / (double)(t->last_ns > 0 ? t->last_ns : 1));
		const struct change c = blocks_apply(&b, &e);
		if (c.frees) {
			map_change(c.old.address, c.old.size, false);
			d.crossings[d.rows[c.old.thread]][d.rows[e.thread]]++;
		}
		if (c.allocates) map_change(c.new_.address, c.new_.size, true);
		if (number == d.peak_event) count_peak(&b);
	}
	map_until(1);
}

/* ---- JSON ---- */

void print_string(const char *text) {
	putchar('"');
	for (; *text != 0; text++) {
		const unsigned char c = (unsigned char)*text;
		if (c < 32 || c > 126 || c == '"' || c == '\\')
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

void print_summary(const struct trace *t) {
	char name[TRACE_NAME + 1] = { 0 };
	memcpy(name, t->header.name, TRACE_NAME);
	uint64_t calls = 0;
	for (size_t i = 0; i < t->process_count; i++) calls += t->processes[i].calls;
	printf("{\"name\":");
	print_string(name);
	printf(",\"date\":%lu,\"pid\":%u,\"chosen\":%u,\"state\":%u,\"late\":%u,\"ns\":%lu,\"calls\":%lu,\"bytes\":%lu,\"length\":%lu,\"damaged\":%zu,"
	       "\"chunks\":%lu,\"threads\":%zu,\"writers\":%d,\"processes\":[",
	       t->header.date, t->header.pid, t->pid, t->header.state, t->header.late, t->last_ns, calls, t->used, t->length, t->damaged,
	       t->header.chunks, t->thread_count, t->writers);
	for (size_t i = 0; i < t->process_count && i < 100; i++)
		printf("%s[%u,%lu,%u,%d]", i > 0 ? "," : "", t->processes[i].pid, t->processes[i].calls, t->processes[i].end,
		       (int)t->processes[i].status);
	printf("]}");
}

static void print_tally(const struct tally *tally) { printf("[%lu,%lu]", tally->calls, tally->bytes); }

static void print_threads(const struct trace *t, const uint32_t *order) {
	printf(",\"threads\":[");
	for (size_t i = 0; i < t->thread_count && i < 200; i++) {
		const struct thread *thread = &t->threads[order[i]];
		const struct thread_tally *tally = &d.threads[order[i]];
		printf("%s{\"tid\":%u,\"name\":", i > 0 ? "," : "", thread->tid);
		print_string(thread->name);
		printf(",\"allocated\":%lu,\"bytes\":%lu,\"freed\":%lu,\"foreign\":%lu,\"ended\":%s,\"peak\":", tally->allocated,
		       tally->bytes, tally->freed, tally->foreign, thread->ended ? "true" : "false");
		print_tally(&tally->peak);
		putchar('}');
	}
	printf("],\"crossings\":[");
	for (unsigned from = 0; from < THREADS; from++) {
		printf("%s[", from > 0 ? "," : "");
		for (unsigned to = 0; to < THREADS; to++) printf("%s%lu", to > 0 ? "," : "", d.crossings[from][to]);
		putchar(']');
	}
	putchar(']');
}

static void print_sizes(void) {
	printf(",\"sizes\":[");
	const char *comma = "";
	for (unsigned i = 0; i < SIZES; i++) {
		if (d.sizes[i].all.calls == 0) continue;
		printf("%s{\"to\":%lu,\"all\":", comma, size_limit(i));
		comma = ",";
		print_tally(&d.sizes[i].all);
		printf(",\"peak\":");
		print_tally(&d.sizes[i].peak);
		printf(",\"lifetime\":%.0f,\"by\":[", d.sizes[i].freed > 0 ? d.sizes[i].lifetime / (double)d.sizes[i].freed : -1);
		for (unsigned k = 0; k < THREADS; k++) printf("%s%lu", k > 0 ? "," : "", d.peak_by[i][k].bytes);
		printf("]}");
	}
	putchar(']');
}

void print_digest(struct trace *t) {
	d.threads = take(t->thread_count, sizeof *d.threads);
	d.rows = take(t->thread_count, sizeof *d.rows);
	first_pass(t);
	uint32_t *order = choose_rows(t);
	map_begin();
	second_pass(t);
	printf("{\"summary\":");
	print_summary(t);
	printf(",\"ops\":{\"malloc\":%lu,\"calloc\":%lu,\"aligned\":%lu,\"free\":%lu,\"realloc\":%lu,\"failed\":%lu}", d.ops[TRACE_MALLOC],
	       d.ops[TRACE_CALLOC], d.ops[TRACE_ALIGNED], d.ops[TRACE_FREE], d.ops[TRACE_REALLOC], d.ops[TRACE_FAILED]);
	printf(",\"unknown\":%lu,\"foreign\":%lu,\"allocated\":[%lu,%lu],\"end\":[%lu,%lu],\"peak\":{\"ns\":%lu,\"blocks\":%lu,\"bytes\":%lu}",
	       d.unknown, d.foreign, d.allocated, d.allocated_bytes, d.end_blocks, d.end_bytes, d.peak_ns, d.peak_blocks, d.peak_bytes);
	printf(",\"steps\":[");
	for (size_t i = 0; i < STEPS; i++)
		printf("%s[%lu,%lu,%lu,%lu,%lu]", i > 0 ? "," : "", d.steps[i].bytes, d.steps[i].blocks, d.steps[i].allocated, d.steps[i].freed,
		       d.steps[i].allocated_bytes);
	printf("],\"lifetimes\":[");
	for (unsigned i = 0; i < LIFETIMES; i++) {
		if (i > 0) putchar(',');
		print_tally(&d.lifetimes[i]);
	}
	putchar(']');
	print_sizes();
	print_threads(t, order);
	map_print();
	printf("}\n");
}
