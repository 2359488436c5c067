/* Who cuts the file, and how nobody's records are lost:
 *
 * The file is held once, when it has just been made: before the header says so, before anything is recorded,
 * before there is a child. Nobody begins to hold it later; children have the hold of their parents. So
 * holders become fewer, and when nobody is left, nobody will ever be. Who ends lets go first, and then asks
 * for the lock that excludes all holders. Only when he has got it he looks how many chunks were taken: who
 * takes one holds the file, unless he is ending himself, so there will be no more. What was read before may
 * be outdated: others went on until they ended. Of several who let go at once, each asks after that: one of
 * them gets the lock, for it is refused only while somebody holds the file, who will ask himself, or while
 * somebody has it and is cutting. Readers only ask whether there is a lock, which is in nobody's way.
 * tools/arenal takes the lock, too, to cut after a last process that could not, by the same rule. */
#include "observe/trace_end.h"

#include "base/conf.h"
#include "base/lock.h"
#include "observe/trace_clock.h"

/* What is recorded is not changed under the hands of who ends, nor the other way round: nobody waits for the
 * lock for long. */
static struct lock lock; /* RANK_TRACE */
static struct {
	const char *path;
	const struct os_file *file;
	struct trace_header *header; /* NULL: nothing is recorded */
	struct trace_chunk *_Atomic *latest;
} traced;

void trace_end_after_fork(void) { lock = (struct lock){ 0 }; }

static void *_Atomic hold;
static _Atomic bool ending;

bool trace_is_ending(void) { return atomic_load(&ending); }

bool trace_end_expect(const char *path, const struct os_file *file, struct trace_header *header,
                      struct trace_chunk *_Atomic *latest) {
	void *held = os_hold_file(path, file);
	atomic_store(&hold, held);
	if (lock_try(&lock, RANK_TRACE)) {
		traced.path = path;
		traced.file = file;
		traced.header = header;
		traced.latest = latest;
		lock_drop(&lock, RANK_TRACE);
	}
	return held != NULL;
}

/* Where the file system keeps no room for what was written once, there may be none now. */
static bool can_write(void *piece) { return os_back_file(piece, os_page_size); }

static void note_exit(int status) {
#ifndef __GLIBC__
	return; /* musl tells nobody the status */
#endif
	struct trace_chunk *chunk = atomic_load(traced.latest);
	if (chunk == NULL || !can_write(chunk)) return;
	__atomic_store_n(&chunk->status, (uint32_t)status, __ATOMIC_RELAXED);
	__atomic_store_n(&chunk->end, TRACE_EXIT, __ATOMIC_RELEASE);
}

static void let_go(void) {
	void *held = atomic_exchange(&hold, NULL);
	if (held == NULL) return;
	os_unmap(held, os_page_size);
	/* Who knows nothing of filters is not to open a file for a process that may have one. */
	const int fd =
	    conf.sandbox != 0 && traced.header->held != 0 ? os_lock_file(traced.path, traced.file) : -1;
	if (fd < 0) return;
	/* A thread of this process that goes on recording keeps the chunk that it has; it gets no other one
	 * behind these. */
	const uint64_t taken = __atomic_load_n(&traced.header->chunks, __ATOMIC_ACQUIRE);
	const size_t chunks = min_size(taken, traced.file->size / TRACE_CHUNK);
	if (can_write(traced.header)) {
		traced.header->cut = (uint32_t)chunks;
		if (traced.header->state == TRACE_RUNNING) traced.header->state = TRACE_ENDED;
	}
	os_cut_file(fd, chunks * TRACE_CHUNK);
}

bool trace_end_let_go(void) {
	if (!lock_try(&lock, RANK_TRACE)) return false;
	const bool may = !trace_is_ending() && traced.header != NULL;
	if (may) let_go();
	if (may) traced.header = NULL;
	lock_drop(&lock, RANK_TRACE);
	return may;
}

static void end(int status) {
	if (traced.header == NULL) return;
	if (can_write(traced.header)) {
		traced.header->later_stamp = trace_now();
		traced.header->later_ns = os_nanoseconds();
	}
	note_exit(status);
	let_go();
}

static void at_exit(void *unused, int status) {
	(void)unused;
	atomic_store(&ending, true);
	if (!lock_try(&lock, RANK_TRACE)) return;
	end(status);
	lock_drop(&lock, RANK_TRACE);
}

/* libc gives the status to these functions, too. Those of on_exit would be called when a plugin that they are
 * in is not there any more. */
extern int expect_exit(void (*function)(void *, int), void *argument, void *library) __asm__("__cxa_atexit");
extern void *__dso_handle __attribute__((visibility("hidden")));

/* The shared library is never unloaded. As no library's function, this one is called behind all destructors,
 * which do not know the status. */
void trace_end_expect_exit(bool stays) { expect_exit(at_exit, NULL, stays ? NULL : &__dso_handle); }
