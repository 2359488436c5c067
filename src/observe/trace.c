/* The trace's chunks and writers. The front (trace_front.c) comes here for each call. */
#include <stdatomic.h>

#include "base/print.h"
#include "cache/tcache.h"
#include "observe/trace.h"
#include "observe/trace_clock.h"
#include "observe/trace_end.h"
#include "observe/trace_inner.h"

struct trace_shared *trace_shared;
struct trace_header *trace_header;
struct os_file trace_file;
char trace_path[2 * CONF_PATH_MAX];

/* Of the mapping, so much more is made accessible at a time. Not all of it at once: mlockall would fill the
 * file. */
#define WINDOW (16 * MIB)

/* Not wiped on fork: a writer of the parent stays its thread's in the child. */
_Atomic uint32_t trace_writers_used;
_Atomic bool trace_stopped;

/* ---- chunks ---- */

COLD bool trace_stop_for(enum trace_state state) {
	if (atomic_exchange(&trace_stopped, true)) return false;
	tcache_hide_no_more();
	if (trace_is_ending() || state == TRACE_STOPPED) return true;
	if (os_back_file(trace_header, os_page_size)) trace_header->state = state;
	if (state == TRACE_FULL)
		print_fd(2, "arenal: %s has its greatest length of %zu bytes: calls are not recorded any more\n",
		         trace_path, trace_file.size);
	else
		print_fd(2, "arenal: there is no room for %s: calls are not recorded any more\n", trace_path);
	return true;
}

/* A chunk that was backed cannot be written to any more: its file system keeps no room for what it has
 * written once (btrfs), or somebody has cut the file. What is there is left as it is. */
bool trace_mend(const siginfo_t *info) {
	const size_t offset = (size_t)((char *)info->si_addr - (char *)trace_header);
	if (info->si_signo != SIGBUS || info->si_code <= 0 || offset >= trace_file.size || trace_header == NULL)
		return false;
	char *chunk = (char *)trace_header + ALIGN_DOWN(offset, TRACE_CHUNK);
	if (!os_replace_file(chunk, TRACE_CHUNK)) return false;
	trace_stop_for(TRACE_NO_SPACE);
	return true;
}

bool trace_open_up(size_t size) {
	lock_take(&trace_shared->lock, RANK_TRACE);
	bool done = size <= trace_shared->opened;
	if (!done) {
		const size_t wanted = min_size(ALIGN_UP(size, WINDOW), trace_file.size);
		done = os_commit(trace_header, wanted);
		if (done) trace_shared->opened = wanted;
	}
	lock_drop(&trace_shared->lock, RANK_TRACE);
	return done;
}

static void put_thread(struct trace_writer *w, enum trace_op op) {
	const uint64_t stamp = trace_now(),
	               passed = stamp > trace_header->stamp ? stamp - trace_header->stamp : 0;
	w->thread = (uint32_t)os_thread_id();
	w->stamp = trace_header->stamp + passed;
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
	if (!os_back_file(trace_header, os_page_size)) {
		trace_stop_for(TRACE_NO_SPACE);
		return false;
	}
	/* The process that made the file was told to stop, after it had forked this one. */
	if (__atomic_load_n(&trace_header->state, __ATOMIC_RELAXED) == TRACE_STOPPED) {
		trace_stop_for(TRACE_STOPPED);
		return false;
	}
	const uint64_t number = __atomic_fetch_add(&trace_header->chunks, 1, __ATOMIC_RELAXED);
	if (number >= trace_file.size / TRACE_CHUNK || !trace_open_up((number + 1) * TRACE_CHUNK)) {
		trace_stop_for(TRACE_FULL);
		return false;
	}
	char *start = (char *)trace_header + number * TRACE_CHUNK;
	if (!os_back_file(start, TRACE_CHUNK)) {
		trace_stop_for(TRACE_NO_SPACE);
		return false;
	}
	/* The one that is full need not be in memory for our sake. */
	if (w->at != NULL) {
		const size_t offset = ALIGN_DOWN((size_t)(w->at - (char *)trace_header), TRACE_CHUNK);
		os_purge((char *)trace_header + offset, TRACE_CHUNK, false);
	}
	struct trace_chunk *chunk = (struct trace_chunk *)start;
	const uint32_t pid = (uint32_t)os_process_id();
	*chunk = (struct trace_chunk){ .pid = pid, .stamp = trace_now(), .ns = os_nanoseconds() };
	/* Last: the file may be read meanwhile. */
	__atomic_store_n(&chunk->magic, TRACE_CHUNK_MAGIC, __ATOMIC_RELEASE);
	atomic_store(&trace_shared->latest, chunk);
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
	lock_take(&trace_shared->lock, RANK_TRACE);
	struct trace_writer *w = trace_shared->free;
	if (w != NULL) trace_shared->free = w->next;
	lock_drop(&trace_shared->lock, RANK_TRACE);
	if (w == NULL) {
		const uint32_t number = atomic_fetch_add_explicit(&trace_writers_used, 1, memory_order_relaxed);
		if (number < TRACE_WRITERS) return &trace_shared->writers[number];
		atomic_fetch_sub_explicit(&trace_writers_used, 1, memory_order_relaxed);
	}
	return w;
}

/* The calling thread is about to write to it. False: recording has stopped. Who stops it waits for those that
 * are in between (trace_start.c), after a barrier in all threads: the store comes before the load. */
static inline bool use(struct trace_writer *w) {
	atomic_store_explicit(&w->busy, true, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	return likely(!atomic_load_explicit(&trace_stopped, memory_order_relaxed));
}
static inline void unuse(struct trace_writer *w) {
	atomic_store_explicit(&w->busy, false, memory_order_release);
}

void trace_end_writer(void *writer) {
	struct trace_writer *w = writer;
	if (use(w) && w->at != NULL && ready(w)) put_thread(w, TRACE_END);
	w->thread = 0;
	unuse(w);
	lock_take(&trace_shared->lock, RANK_TRACE);
	w->next = trace_shared->free;
	trace_shared->free = w;
	lock_drop(&trace_shared->lock, RANK_TRACE);
}

static void give_late_back(void) { atomic_fetch_sub(&trace_shared->late_users, 1); }

static NOINLINE struct trace_writer *borrow_late(void) {
	struct trace_writer *late = &trace_shared->late;
	atomic_fetch_add(&trace_shared->late_users, 1);
	lock_take(&trace_shared->lock, RANK_TRACE);
	/* Taking a chunk takes the lock. */
	while (late->at + TRACE_RECORD_MAX >= late->limit) {
		struct trace_writer fresh = *late;
		lock_drop(&trace_shared->lock, RANK_TRACE);
		if (!begin_chunk(&fresh)) {
			give_late_back();
			return NULL;
		}
		lock_take(&trace_shared->lock, RANK_TRACE);
		*late = fresh;
	}
	if (atomic_load(&trace_stopped)) {
		lock_drop(&trace_shared->lock, RANK_TRACE);
		give_late_back();
		return NULL;
	}
	put_thread(late, TRACE_THREAD);
	return late;
}

/* The writer for a record or two; NULL: nothing is recorded. A thread has one of its own, or borrows the late
 * one. */
static inline struct trace_writer *borrow(struct trace_writer *own) {
	if (unlikely(own == NULL)) return borrow_late();
	if (likely(use(own) && ready(own))) return own;
	unuse(own);
	return NULL;
}

static inline void give_back(struct trace_writer *own) {
	if (likely(own != NULL)) {
		unuse(own);
	} else {
		lock_drop(&trace_shared->lock, RANK_TRACE);
		give_late_back();
	}
}

/* Was the lock taken? The first trace may begin in between. Under the locks of a fork. */
static bool locked;

void trace_lock(void) {
	locked = trace_shared != NULL;
	if (locked) lock_take(&trace_shared->lock, RANK_TRACE);
}

void trace_unlock(void) {
	if (locked) lock_drop(&trace_shared->lock, RANK_TRACE);
	locked = false;
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

void trace_moves(struct trace_writer *own, const void *block) {
	struct trace_writer *w = borrow(own);
	if (unlikely(w == NULL)) return;
	put(w, TRACE_MOVE, FAMILY_MALLOC, trace_now(), block, false, 0);
	give_back(own);
}

void trace_stayed(struct trace_writer *own, const void *block, size_t has, size_t size) {
	struct trace_writer *w = borrow(own);
	if (unlikely(w == NULL)) return;
	put(w, TRACE_REALLOC, FAMILY_MALLOC, trace_now(), block, true, has);
	put(w, TRACE_FAILED, FAMILY_MALLOC, trace_now(), block, true, size);
	give_back(own);
}
