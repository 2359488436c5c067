#include "trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What one thread wrote into one chunk without a break. */
struct stretch {
	uint32_t pid, tid;
	uint64_t stamp; /* at its start */
	const unsigned char *at, *end;
	bool ends;      /* the thread's end */
};

/* More is no trace of ours. */
#define THREADS_MAX ((size_t)1 << 20)

void fail(const char *format, ...) {
	va_list args;
	va_start(args, format);
	fputs("arenal: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	exit(1);
}

void *take(size_t count, size_t size) {
	void *block = calloc(count > 0 ? count : 1, size);
	if (block == NULL) fail("there is not enough memory for this trace");
	return block;
}

void *take_more(void *block, size_t count, size_t size) {
	void *more = reallocarray(block, count, size);
	if (more == NULL) fail("there is not enough memory for this trace");
	return more;
}

/* ---- records ---- */

struct record {
	unsigned op, family, align_log;
	uint64_t time, address, size;
	const unsigned char *name;
};

static uint64_t field(const unsigned char **at, unsigned length) {
	uint64_t value = 0;
	memcpy(&value, *at, length);
	*at += length;
	return value;
}

enum decoded { RECORD, NO_MORE, DAMAGE };

static enum decoded decode(const unsigned char **at, const unsigned char *end, struct record *r) {
	const unsigned char *p = *at;
	if (end - p < 2) return NO_MORE;
	const unsigned head = (unsigned)(p[0] | p[1] << 8);
	r->op = head & 15;
	if (r->op == TRACE_NOTHING) return NO_MORE;
	if (r->op >= TRACE_OPS) return DAMAGE;
	const bool names = r->op == TRACE_THREAD || r->op == TRACE_END;
	const bool has_size = r->op != TRACE_FREE && r->op != TRACE_MOVE;
	const unsigned time = (head >> TRACE_TIME_SHIFT & 7) + 1, address = (head >> TRACE_ADDRESS_SHIFT & 7) + 1;
	const unsigned size = has_size ? (head >> TRACE_SIZE_SHIFT & 7) + 1 : 0;
	const unsigned rest = names ? TRACE_NAME : r->op == TRACE_ALIGNED;
	if ((size_t)(end - p) < 2 + time + address + size + rest) return DAMAGE;
	r->family = head >> TRACE_FAMILY_SHIFT;
	p += 2;
	r->time = field(&p, time);
	r->address = field(&p, address);
	r->size = field(&p, size);
	r->name = p;
	r->align_log = r->op == TRACE_ALIGNED ? *p & 63 : 0;
	*at = p + rest;
	return RECORD;
}

/* ---- the first reading: which stretches there are ---- */

static struct process *process_of(struct trace *t, uint32_t pid) {
	for (size_t i = t->process_count; i-- > 0;)
		if (t->processes[i].pid == pid) return &t->processes[i];
	if (t->process_count >= THREADS_MAX) fail("the trace has too many processes");
	t->processes = take_more(t->processes, t->process_count + 1, sizeof *t->processes);
	t->processes[t->process_count] = (struct process){ .pid = pid };
	return &t->processes[t->process_count++];
}

static void add_stretch(struct trace *t, const struct stretch *s) {
	if ((t->stretch_count & (t->stretch_count - 1)) == 0)
		t->stretches = take_more(t->stretches, t->stretch_count > 0 ? t->stretch_count * 2 : 1, sizeof *s);
	t->stretches[t->stretch_count++] = *s;
}

static uint64_t ns_of(const struct trace *t, uint64_t stamp) {
	const double ns = (double)(stamp - t->header.stamp) * t->ns_per_stamp;
	return stamp > t->header.stamp ? ns < 9e18 ? (uint64_t)ns : (uint64_t)9e18 : 0;
}

static void read_chunk(struct trace *t, const unsigned char *start, const unsigned char *end, uint64_t *last_stamp) {
	struct trace_chunk chunk;
	memcpy(&chunk, start, sizeof chunk);
	const unsigned char *at = start + sizeof chunk;
	struct process *process = process_of(t, chunk.pid);
	if (chunk.end != TRACE_NO_END && chunk.end < TRACE_ENDS) process->end = chunk.end, process->status = chunk.status;
	struct stretch s = { 0 };
	struct record r;
	enum decoded what;
	uint64_t stamp = 0;
	for (const unsigned char *before = at; (what = decode(&at, end, &r)) == RECORD; before = at) {
		if (r.op == TRACE_THREAD || r.op == TRACE_END) {
			if (s.at != NULL) s.end = before, add_stretch(t, &s);
			s = (struct stretch){ chunk.pid, (uint32_t)r.address, t->header.stamp + r.time, before, NULL, r.op == TRACE_END };
			stamp = s.stamp;
		} else if (s.at == NULL) {
			what = DAMAGE;
			break;
		} else {
			process->calls += r.op != TRACE_MOVE;
			stamp += r.time;
		}
		if (stamp > *last_stamp) *last_stamp = stamp;
	}
	if (s.at != NULL) s.end = at, add_stretch(t, &s);
	t->used += (uint64_t)(at - start) - sizeof chunk;
	t->damaged += what == DAMAGE || end - start < (ptrdiff_t)TRACE_CHUNK;
}

/* Goes on to the first chunk at `at` or behind it. What the file has no contents for is not touched: that would take room where
 * there may be none. */
static bool find_chunk(const struct trace *t, size_t *at) {
	for (;; *at += TRACE_CHUNK) {
		const off_t data = lseek(t->file, (off_t)*at, SEEK_DATA);
		if (data < 0 && errno == ENXIO) return false;
		if (data > (off_t)*at) *at = (size_t)data & ~(TRACE_CHUNK - 1);
		if (*at + sizeof(struct trace_chunk) > t->length) return false;
		struct trace_chunk chunk;
		memcpy(&chunk, t->bytes + *at, sizeof chunk);
		if (chunk.magic == TRACE_CHUNK_MAGIC) return true;
	}
}

/* How long a stamp is: by the moment that is farthest from the first. */
static void set_clock(struct trace *t) {
	const struct trace_header *h = &t->header;
	uint64_t stamp = h->later_stamp, ns = h->later_ns;
	for (size_t at = TRACE_CHUNK; find_chunk(t, &at); at += TRACE_CHUNK) {
		struct trace_chunk chunk;
		memcpy(&chunk, t->bytes + at, sizeof chunk);
		if (chunk.ns > ns) stamp = chunk.stamp, ns = chunk.ns;
	}
	t->ns_per_stamp = stamp > h->stamp && ns > h->ns ? (double)(ns - h->ns) / (double)(stamp - h->stamp) : 1;
	if (t->ns_per_stamp < 1e-3 || t->ns_per_stamp > 1e6) t->ns_per_stamp = 1;
}

static int by_calls(const void *a, const void *b) {
	const struct process *x = a, *y = b;
	return x->calls != y->calls ? (x->calls < y->calls) - (x->calls > y->calls) : (x->pid > y->pid) - (x->pid < y->pid);
}

static int by_thread_and_time(const void *a, const void *b) {
	const struct stretch *x = a, *y = b;
	if (x->pid != y->pid) return x->pid < y->pid ? -1 : 1;
	if (x->tid != y->tid) return x->tid < y->tid ? -1 : 1;
	if (x->stamp != y->stamp) return x->stamp < y->stamp ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

static int by_start(const void *a, const void *b) {
	const struct thread *x = a, *y = b;
	return x->first_stamp != y->first_stamp ? (x->first_stamp > y->first_stamp) - (x->first_stamp < y->first_stamp)
	                                        : (x->tid > y->tid) - (x->tid < y->tid);
}

static void find_threads(struct trace *t) {
	for (size_t i = 0; i < t->stretch_count; i++) {
		const struct stretch *s = &t->stretches[i];
		if (s->pid != t->pid) continue;
		struct thread *last = t->thread_count > 0 ? &t->threads[t->thread_count - 1] : NULL;
		if (last == NULL || last->tid != s->tid) {
			if (t->thread_count >= THREADS_MAX) fail("the trace has too many threads");
			if ((t->thread_count & (t->thread_count - 1)) == 0)
				t->threads = take_more(t->threads, t->thread_count > 0 ? t->thread_count * 2 : 1, sizeof *t->threads);
			last = &t->threads[t->thread_count++];
			*last = (struct thread){ .pid = s->pid, .tid = s->tid, .first_stretch = i, .first_stamp = s->stamp };
		}
		last->stretches++;
		last->ended |= s->ends;
		const unsigned char *at = s->at;
		struct record r;
		if (decode(&at, s->end, &r) == RECORD) memcpy(last->name, r.name, TRACE_NAME);
	}
	qsort(t->threads, t->thread_count, sizeof *t->threads, by_start);
	t->heap = take(t->thread_count, sizeof *t->heap);
}

/* ---- opening ---- */

static void cut_meanwhile(int signal) {
	(void)signal;
	static const char text[] = "arenal: the trace was cut while it was read\n";
	if (write(2, text, sizeof text - 1) < 0) _exit(2);
	_exit(1);
}

/* Does a process write to it? Such hold a lock, which the kernel drops when they end; unless they could have none. It is not taken here:
 * it would be in the way of somebody who ends, and cuts. */
static enum writers writers_of(int fd, const struct trace_header *h) {
	struct flock lock = { .l_type = F_WRLCK };
	if (h->held == 0 || fcntl(fd, F_OFD_GETLK, &lock) != 0) return WRITERS_UNKNOWN;
	return lock.l_type == F_RDLCK ? WRITERS : NO_WRITERS;
}

/* Of this file so many chunks are missing that were written to. */
static size_t missing(const struct trace *t) {
	const uint64_t taken = t->header.cut > 0 ? t->header.cut : t->header.chunks, there = (t->length + TRACE_CHUNK - 1) / TRACE_CHUNK;
	return t->header.state != TRACE_FULL && taken > there ? taken - there : 0;
}

static void map(struct trace *t, const char *path) {
	/* Not to wait for somebody at the other end of a pipe. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat about;
	if (fd < 0 || fstat(fd, &about) != 0) fail("%s: %s", path, strerror(errno));
	if (!S_ISREG(about.st_mode)) fail("%s is not a trace: it is no plain file", path);
	if ((size_t)about.st_size < sizeof t->header) fail("%s is not a trace: it is too short", path);
	t->length = (size_t)about.st_size;
	void *bytes = mmap(NULL, t->length, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED) fail("%s cannot be mapped: %s", path, strerror(errno));
	t->file = fd;
	signal(SIGBUS, cut_meanwhile);
	t->bytes = bytes;
	memcpy(&t->header, bytes, sizeof t->header);
	if (memcmp(t->header.magic, TRACE_MAGIC, sizeof t->header.magic) != 0) fail("%s is not a trace", path);
	t->writers = writers_of(fd, &t->header);
	/* Who ends cuts the file behind the chunks that there are; perhaps he is just about to. */
	if ((t->writers != NO_WRITERS || t->header.cut > 0) && t->header.chunks > 0 && t->header.chunks < t->length / TRACE_CHUNK)
		t->length = t->header.chunks * TRACE_CHUNK;
	if (t->header.version != TRACE_VERSION)
		fail("%s is a trace of version %u; this program reads version %d", path, t->header.version, TRACE_VERSION);
	if (t->header.chunk_size != TRACE_CHUNK)
		fail("%s is damaged: it says that its chunks have %u bytes, and they have %u", path, t->header.chunk_size, (unsigned)TRACE_CHUNK);
}

void trace_open(struct trace *t, const char *path, uint32_t pid) {
	*t = (struct trace){ 0 };
	map(t, path);
	set_clock(t);
	uint64_t last = t->header.stamp;
	for (size_t at = TRACE_CHUNK; find_chunk(t, &at); at += TRACE_CHUNK) {
		const size_t end = at + TRACE_CHUNK < t->length ? at + TRACE_CHUNK : t->length;
		read_chunk(t, t->bytes + at, t->bytes + end, &last);
	}
	t->damaged += missing(t);
	t->last_ns = ns_of(t, last);
	if (t->process_count > 0) qsort(t->processes, t->process_count, sizeof *t->processes, by_calls);
	t->pid = pid != 0 || t->process_count == 0 ? pid : t->processes[0].pid;
	if (t->stretch_count > 0) qsort(t->stretches, t->stretch_count, sizeof *t->stretches, by_thread_and_time);
	find_threads(t);
	if (pid != 0 && t->thread_count == 0) fail("the trace has nothing of a process %u", pid);
	trace_rewind(t);
}

/* ---- the second reading: in order ---- */

/* The thread's next event; false at its end. */
static bool advance(struct trace *t, struct thread *thread) {
	struct record r;
	for (;;) {
		if (thread->at == NULL || decode(&thread->at, thread->end, &r) != RECORD) {
			if (thread->next_stretch == thread->first_stretch + thread->stretches) return false;
			const struct stretch *s = &t->stretches[thread->next_stretch++];
			thread->at = s->at;
			thread->end = s->end;
			if (s->stamp > thread->stamp) thread->stamp = s->stamp; /* no thread goes back in time */
			thread->place = 0;
			continue;
		}
		if (r.op == TRACE_THREAD || r.op == TRACE_END) continue;
		thread->stamp += r.time;
		thread->place += r.address >> 1 ^ -(r.address & 1);
		thread->event = (struct event){ .ns = ns_of(t, thread->stamp), .address = thread->place << 4, .size = r.size,
			.thread = (uint32_t)(thread - t->threads), .op = (uint8_t)r.op, .family = (uint8_t)r.family,
			.align_log = (uint8_t)r.align_log };
		return true;
	}
}

static bool earlier(const struct thread *a, const struct thread *b) {
	return a->stamp != b->stamp ? a->stamp < b->stamp : a < b;
}

static void sink(struct trace *t, size_t i) {
	for (;;) {
		size_t first = i;
		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < t->heap_count; child++)
			if (earlier(t->heap[child], t->heap[first])) first = child;
		if (first == i) return;
		struct thread *other = t->heap[i];
		t->heap[i] = t->heap[first];
		t->heap[first] = other;
		i = first;
	}
}

void trace_rewind(struct trace *t) {
	t->heap_count = 0;
	for (size_t i = 0; i < t->thread_count; i++) {
		struct thread *thread = &t->threads[i];
		thread->next_stretch = thread->first_stretch;
		thread->at = thread->end = NULL;
		thread->stamp = thread->place = 0;
		if (advance(t, thread)) t->heap[t->heap_count++] = thread;
	}
	for (size_t i = t->heap_count; i-- > 0;) sink(t, i);
}

bool trace_next(struct trace *t, struct event *event) {
	if (t->heap_count == 0) return false;
	struct thread *first = t->heap[0];
	*event = first->event;
	if (!advance(t, first)) t->heap[0] = t->heap[--t->heap_count];
	if (t->heap_count > 0) sink(t, 0);
	return true;
}
