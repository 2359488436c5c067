/* The trace's file, its chunks, and who writes to them. The front (trace_front.c) comes here for each
 * call. */
#include "observe/trace.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/conf.h"
#include "base/lock.h"
#include "base/print.h"
#include "cache/hooks.h"
#include "cache/tcache.h"
#include "harden/action.h"
#include "observe/trace_clock.h"
#include "observe/trace_end.h"
#include "observe/trace_record.h"

/* The file is made as long as it may ever get, ten thousand million calls. What nobody wrote to takes no
 * room. */
#define FILE_MAX (64 * GIB)
#define FILE_MIN (16 * TRACE_CHUNK)

/* Of the mapping, so much more is made accessible at a time. Not all of it at once: mlockall would fill the
 * file. */
#define WINDOW (16 * MIB)

/* Threads with a writer of their own at one time; others share one. */
#define WRITERS 65536

/* Wiped on fork as a whole. */
static struct shared {
	struct lock lock;
	size_t opened;                      /* bytes of the mapping that are accessible */
	struct trace_writer *free;          /* of threads that have ended, with the rest of their chunks */
	struct trace_writer late;           /* of threads without a cache, for a record at a time. Owner: lock */
	struct trace_chunk *_Atomic latest; /* of this process; NULL: it has recorded nothing */
	struct trace_writer writers[WRITERS];
} * shared;

/* Constant after the start. */
static struct trace_header *header;
static struct os_file file;
static char path[2 * CONF_PATH_MAX];

static _Atomic uint32_t writers_used; /* not wiped: a writer of the parent stays its thread's in the child */
_Atomic bool trace_stopped;

/* ---- chunks ---- */

/* Recording is over: threads use their caches again, each from its next call on. */
static COLD void stop(enum trace_state state) {
	if (atomic_exchange(&trace_stopped, true)) return;
	tcache_hide_no_more();
	if (trace_is_ending()) return;
	if (os_back_file(header, os_page_size)) header->state = state;
	if (state == TRACE_FULL)
		print_fd(2, "arenal: %s has its greatest length of %zu bytes: calls are not recorded any more\n",
		         path, file.size);
	else
		print_fd(2, "arenal: there is no room for %s: calls are not recorded any more\n", path);
}

/* A chunk that was backed cannot be written to any more: its file system keeps no room for what it has
 * written once (btrfs), or somebody has cut the file. What is there is left as it is. */
static bool mend(const siginfo_t *info) {
	const size_t offset = (size_t)((char *)info->si_addr - (char *)header);
	if (info->si_signo != SIGBUS || info->si_code <= 0 || offset >= file.size) return false;
	char *chunk = (char *)header + ALIGN_DOWN(offset, TRACE_CHUNK);
	if (!os_replace_file(chunk, TRACE_CHUNK)) return false;
	stop(TRACE_NO_SPACE);
	return true;
}

/* Makes the first bytes of the mapping accessible. */
static bool open_up(size_t size) {
	lock_take(&shared->lock, RANK_TRACE);
	bool done = size <= shared->opened;
	if (!done) {
		const size_t wanted = min_size(ALIGN_UP(size, WINDOW), file.size);
		done = os_commit(header, wanted);
		if (done) shared->opened = wanted;
	}
	lock_drop(&shared->lock, RANK_TRACE);
	return done;
}

static void put_thread(struct trace_writer *w, enum trace_op op) {
	const uint64_t stamp = trace_now(), passed = stamp > header->stamp ? stamp - header->stamp : 0;
	w->thread = (uint32_t)os_thread_id();
	w->stamp = header->stamp + passed;
	w->place = 0;
	const unsigned time_length = length_of(passed), address_length = length_of(w->thread);
	char *at = put_field(w->at + 2, passed, time_length);
	at = put_field(at, w->thread, address_length);
	*at++ = TRACE_NAME;
	os_thread_name(at);
	put_head(w->at, op | time_length << TRACE_TIME_SHIFT | address_length << TRACE_ADDRESS_SHIFT);
	w->at = at + TRACE_NAME;
}

/* Takes a new chunk. Several are taken by several threads at once, without a lock. */
static NOINLINE bool begin_chunk(struct trace_writer *w) {
	if (atomic_load_explicit(&trace_stopped, memory_order_relaxed)) return false;
	if (!os_back_file(header, os_page_size)) {
		stop(TRACE_NO_SPACE);
		return false;
	}
	const uint64_t number = __atomic_fetch_add(&header->chunks, 1, __ATOMIC_RELAXED);
	if (number >= file.size / TRACE_CHUNK || !open_up((number + 1) * TRACE_CHUNK)) {
		stop(TRACE_FULL);
		return false;
	}
	char *start = (char *)header + number * TRACE_CHUNK;
	if (!os_back_file(start, TRACE_CHUNK)) {
		stop(TRACE_NO_SPACE);
		return false;
	}
	/* The one that is full need not be in memory for our sake. */
	if (w->at != NULL) {
		const size_t offset = ALIGN_DOWN((size_t)(w->at - (char *)header), TRACE_CHUNK);
		os_purge((char *)header + offset, TRACE_CHUNK, false);
	}
	struct trace_chunk *chunk = (struct trace_chunk *)start;
	const uint32_t pid = (uint32_t)os_process_id();
	*chunk = (struct trace_chunk){ .pid = pid, .stamp = trace_now(), .ns = os_nanoseconds() };
	/* Last: the file may be read meanwhile. */
	__atomic_store_n(&chunk->magic, TRACE_CHUNK_MAGIC, __ATOMIC_RELEASE);
	atomic_store(&shared->latest, chunk);
	w->at = start + sizeof(struct trace_chunk);
	w->limit = start + TRACE_CHUNK - TRACE_RECORD_MAX - sizeof(uint64_t);
	w->thread = 0;
	return true;
}

/* Two records may follow without another look. */
static inline bool ready(struct trace_writer *w) {
	if (unlikely(w->at + TRACE_RECORD_MAX >= w->limit) && !begin_chunk(w)) return false;
	if (unlikely(w->thread == 0)) put_thread(w, TRACE_THREAD);
	return true;
}

/* ---- writers ---- */

NOINLINE struct trace_writer *trace_thread_begin(void) {
	lock_take(&shared->lock, RANK_TRACE);
	struct trace_writer *w = shared->free;
	if (w != NULL) shared->free = w->next;
	lock_drop(&shared->lock, RANK_TRACE);
	if (w == NULL) {
		const uint32_t number = atomic_fetch_add_explicit(&writers_used, 1, memory_order_relaxed);
		if (number < WRITERS) return &shared->writers[number];
		atomic_fetch_sub_explicit(&writers_used, 1, memory_order_relaxed);
	}
	return w;
}

/* What is attached to the cache of a thread that has ended. */
static void end_writer(void *attached) {
	struct trace_writer *w = attached;
	if (w->at != NULL && ready(w)) put_thread(w, TRACE_END);
	w->thread = 0;
	lock_take(&shared->lock, RANK_TRACE);
	w->next = shared->free;
	shared->free = w;
	lock_drop(&shared->lock, RANK_TRACE);
}

static NOINLINE struct trace_writer *borrow_late(void) {
	struct trace_writer *late = &shared->late;
	lock_take(&shared->lock, RANK_TRACE);
	/* Taking a chunk takes the lock. */
	while (late->at + TRACE_RECORD_MAX >= late->limit) {
		struct trace_writer fresh = *late;
		lock_drop(&shared->lock, RANK_TRACE);
		if (!begin_chunk(&fresh)) return NULL;
		lock_take(&shared->lock, RANK_TRACE);
		*late = fresh;
	}
	put_thread(late, TRACE_THREAD);
	return late;
}

/* The writer for a record or two; NULL: nothing is recorded. A thread has one of its own, or borrows the late
 * one. */
static inline struct trace_writer *borrow(struct trace_writer *own) {
	if (unlikely(own == NULL)) return borrow_late();
	return likely(ready(own)) ? own : NULL;
}

static inline void give_back(const struct trace_writer *own) {
	if (unlikely(own == NULL)) lock_drop(&shared->lock, RANK_TRACE);
}

void trace_lock(void) {
	if (shared != NULL) lock_take(&shared->lock, RANK_TRACE);
}

void trace_unlock(void) {
	if (shared != NULL) lock_drop(&shared->lock, RANK_TRACE);
}

/* ---- records ---- */

void trace_allocated(struct trace_writer *own, enum trace_op op, const void *block, size_t size, size_t align,
                     enum family family) {
	struct trace_writer *w = borrow(own);
	if (unlikely(w == NULL)) return;
	char *start = w->at;
	if (unlikely(block == NULL)) {
		put(w, TRACE_FAILED, family, trace_now(), (void *)(w->place * MIN_ALIGN), true, size);
	} else if (likely(op != TRACE_ALIGNED)) {
		put(w, op, family, trace_now(), block, true, size);
	} else {
		/* The last byte first, where it will be: its place is known when the rest is written. */
		put(w, TRACE_NOTHING, family, trace_now(), block, true, size);
		*w->at++ = (char)__builtin_ctzll(align);
		put_head(start, *(volatile uint16_t *)start | op);
	}
	give_back(own);
}

void trace_freed(struct trace_writer *own, const void *block, enum family family) {
	struct trace_writer *w = borrow(own);
	if (unlikely(w == NULL)) return;
	put(w, TRACE_FREE, family, trace_now(), block, false, 0);
	give_back(own);
}

void trace_moved(struct trace_writer *own, uint64_t called, const void *block, const void *moved,
                 size_t size) {
	struct trace_writer *w = borrow(own);
	if (unlikely(w == NULL)) return;
	if (unlikely(moved == NULL)) {
		put(w, TRACE_FAILED, FAMILY_MALLOC, trace_now(), (void *)(w->place * MIN_ALIGN), true, size);
	} else {
		if (moved != block) put(w, TRACE_MOVE, FAMILY_MALLOC, called, block, false, 0);
		put(w, TRACE_REALLOC, FAMILY_MALLOC, trace_now(), moved, true, size);
	}
	give_back(own);
}

/* ---- the file ---- */

/* The name as given; the process's number behind it when there is such a file already, and one more
 * number. */
static int create(void **address) {
	char given[sizeof path];
	size_t length = 0;
	if (conf_files.trace_file[0] != '/' && os_directory(given, CONF_PATH_MAX)) {
		length = strlen(given);
		given[length++] = '/';
	}
	print_text(given + length, sizeof given - length, "%s", conf_files.trace_file);
	int result = EEXIST;
	for (unsigned attempt = 0; attempt < 100 && result == EEXIST; attempt++) {
		size_t end = print_text(path, sizeof path, "%s", given);
		if (attempt > 0) end += print_text(path + end, sizeof path - end, ".%d", os_process_id());
		if (attempt > 1) print_text(path + end, sizeof path - end, ".%u", attempt);
		result = os_create_mapped(path, FILE_MAX, FILE_MIN, &file, address);
	}
	return result;
}

/* NULL when all is well; what is wrong else. */
static const char *begin_file(void) {
	void *address = NULL;
	const int error = create(&address);
	if (error != 0) {
		static char why[96];
		switch (error) {
		case EACCES:
		case EPERM:
		case EROFS: return "it may not be made there";
		case ENOENT:
		case ENOTDIR: return "there is no such directory";
		case EEXIST: return "there are too many files of this name";
		case ENOSPC:
		case EDQUOT: return "there is no room for it";
		case ENODEV:
		case EINVAL: return "files cannot be mapped and shared there";
		case EFBIG:
		case ENOMEM:
			return "there is no address space for it, or files may not be long (ulimit -v, ulimit -f)";
		default: print_text(why, sizeof why, "it cannot be made (error %d)", error); return why;
		}
	}
	header = address;
	shared = os_map(ALIGN_UP(sizeof *shared, os_page_size), os_page_size);
	const char *wrong = NULL;
	if (shared == NULL)
		wrong = "there is no memory for it";
	else if (!os_wipe_on_fork(shared, ALIGN_UP(sizeof *shared, os_page_size)))
		wrong = "the kernel is too old";
	else if (!open_up(TRACE_CHUNK) || !os_back_file(header, TRACE_CHUNK))
		wrong = "there is no room for it, or the kernel is older than 5.14";
	if (wrong != NULL) {
		const int fd = os_lock_file(path, &file);
		if (fd >= 0) os_cut_file(fd, 0);
		os_unmap(header, file.size);
		header = NULL;
	}
	return wrong;
}

bool trace_begin(void) {
	const char *wrong = begin_file();
	if (wrong != NULL) {
		print_fd(2, "arenal: calls are not recorded in %s: %s\n", conf_files.trace_file, wrong);
		conf_files.trace_file[0] = 0;
		return false;
	}
	trace_clock_choose();
	memcpy(header->magic, TRACE_MAGIC, sizeof header->magic);
	header->version = TRACE_VERSION;
	header->chunk_size = TRACE_CHUNK;
	header->pid = (uint32_t)os_process_id();
	header->date = os_date();
	header->stamp = trace_now();
	header->ns = os_nanoseconds();
	os_thread_name(header->name);
	header->held = trace_end_expect(path, &file, header, &shared->latest);
	__atomic_store_n(&header->chunks, 1, __ATOMIC_RELEASE);
	header->later_stamp = trace_now();
	header->later_ns = os_nanoseconds();
	atomic_store(&cache_hooks.end_attached, end_writer);
	return true;
}

void trace_late_start(bool stays) {
	if (header == NULL) return;
	header->later_stamp = trace_now();
	header->later_ns = os_nanoseconds();
	trace_end_expect_exit(stays);
	action_install_mending(mend);
}
