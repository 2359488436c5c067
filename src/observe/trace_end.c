#include "observe/trace_end.h"

#include "base/conf.h"
#include "base/sandbox.h"
#include "observe/trace.h"

/* Constant after the start. */
static struct {
	const char *path;
	const struct os_file *file;
	struct trace_header *header;
	struct trace_chunk *_Atomic *latest;
} traced;

static void *_Atomic hold;
static _Atomic int owner;
static _Atomic bool ending;

bool trace_is_ending(void) { return atomic_load(&ending); }
void trace_end_owner(int process) { atomic_store(&owner, process); }

bool trace_end_expect(const char *path, const struct os_file *file, struct trace_header *header, struct trace_chunk *_Atomic *latest) {
	traced.path = path;
	traced.file = file;
	traced.header = header;
	traced.latest = latest;
	trace_end_owner(os_process_id());
	void *held = os_hold_file(path, file);
	atomic_store(&hold, held);
	return held != NULL;
}

/* Where the file system keeps no room for what was written once, there may be none now. */
static bool can_write(void *piece) { return os_back_file(piece, os_page_size); }

static void say(enum trace_end how, int status) {
	struct trace_chunk *chunk = atomic_load(traced.latest);
	if (chunk == NULL || !can_write(chunk)) return;
	__atomic_store_n(&chunk->status, (uint32_t)status, __ATOMIC_RELAXED);
	__atomic_store_n(&chunk->end, (uint32_t)how, __ATOMIC_RELEASE);
}

/* A thread that goes on recording keeps the chunk that it has; it gets no other one then. */
static size_t length(void) {
	return min_size(__atomic_load_n(&traced.header->chunks, __ATOMIC_RELAXED) * TRACE_CHUNK, traced.file->size);
}

static void let_go(void) {
	void *held = atomic_exchange(&hold, NULL);
	if (held == NULL) return;
	os_unmap(held, os_page_size);
	/* Who knows nothing of filters is not to open a file for a process that may have one. */
	if (conf.sandbox == 0 || traced.header->held == 0 || !os_cut_file(traced.path, traced.file, length())) return;
	if (can_write(traced.header) && traced.header->state == TRACE_RUNNING) traced.header->state = TRACE_ENDED;
}

static void at_exit(void *unused, int status) {
	(void)unused;
	atomic_store(&ending, true);
	if (can_write(traced.header)) {
		traced.header->later_stamp = trace_now();
		traced.header->later_ns = os_nanoseconds();
	}
	say(TRACE_EXIT, status);
	let_go();
}

/* libc gives the status to these functions, too. Those of on_exit would be called when a plugin that they are in is not there any more. */
extern int expect_exit(void (*function)(void *, int), void *argument, void *library) __asm__("__cxa_atexit");
extern void *__dso_handle __attribute__((visibility("hidden")));

/* The shared library is never unloaded. As no library's function, this one is called behind all destructors, which do not know the
 * status. */
void trace_end_expect_exit(bool stays) { expect_exit(at_exit, NULL, stays ? NULL : &__dso_handle); }

/* In a sandbox, a child by vfork cannot be told from its parent. */
static bool is_owner(void) { return traced.header != NULL && !sandbox_is_on() && atomic_load(&owner) == os_process_id(); }

void trace_end_by(enum trace_end how, int status) {
	if (!is_owner()) return;
	/* exit has said it already. */
	if (atomic_load(&ending) && how != TRACE_EXEC) return;
	say(how, status);
	/* Other threads go on until there is another program, and may fork. */
	if (how == TRACE_EXEC && !os_is_single_threaded()) return;
	atomic_store(&ending, true);
	let_go();
}

void trace_end_not(void) {
	if (!is_owner()) return;
	say(TRACE_NO_END, 0);
	if (atomic_load(&hold) != NULL) return;
	if (!can_write(traced.header)) return;
	if (traced.header->state == TRACE_ENDED) {
		traced.header->state = TRACE_RUNNING;
		os_cut_file(traced.path, traced.file, traced.file->size);
	}
	void *held = os_hold_file(traced.path, traced.file);
	if (held == NULL) traced.header->held = 0;
	atomic_store(&hold, held);
	atomic_store(&ending, false);
}
