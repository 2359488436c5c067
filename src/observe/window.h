/* The window: how other processes of the same user, or root, look into this one and steer it.
 *
 * A thread, "arenal-window", holds a file in memory, "arenal-window", in a descriptor table of its own, so
 * that the program neither sees nor closes it. Whoever may open /proc/PID/task/TID/fd/N may look in: that is
 * the kernel's decision (the rules of ptrace(2), PTRACE_MODE_READ_FSCREDS: the same user, and the process may
 * be dumped; or root). Nothing is in any file system.
 *
 * The file is struct window_page. All figures are little-endian, and as wide as declared. Anybody may call a
 * file so: a client
 *   0. makes sure that it is a file in memory of one of the process's users, sealed against another size, and
 *      begins with the magic. Until then it writes nothing to it (that could be any file, mounted under this
 *      name), and a lock is nothing but a way to be kept waiting;
 *   1. takes flock(LOCK_EX) on the file: one client at a time. The lock goes with the client;
 *   2. writes 0 to request.number, then the request, then request.number: anything but 0, the last request's,
 *      and the last answer's;
 *   3. wakes the thread (FUTEX_WAKE on request.number, shared), which sleeps while nobody asks;
 *   4. waits until answer.number is request.number (FUTEX_WAIT), with a time limit: the process may have been
 *      stopped;
 *   5. reads the answer, and drops the lock.
 * Places and sizes of the first two structures never change, so that any client can ask any library for its
 * version. When what is behind the magic makes no sense, WINDOW_HELLO makes the library write it anew; where
 * the magic is missing, nobody is greeted.
 *
 * Invariant: the library never goes by what it finds in the page, but for the request, which it copies first;
 * and a client by nothing before step 0. So whoever scribbles over the page harms only those who read it, and
 * they stay whole, too. The program relies on the one, root's tools on the other: tools.window and
 * tools.hostile fail without. */
#ifndef OBSERVE_WINDOW_H
#define OBSERVE_WINDOW_H

#include "base/base.h"

#define WINDOW_MAGIC "ARENALW"
#define WINDOW_VERSION 1 /* changes when a client that knows the earlier one would read something wrong */

enum window_kind {
	WINDOW_HELLO,         /* nothing but the header */
	WINDOW_SNAPSHOT,      /* value: WINDOW_RESIDENT or 0. Fills the tables */
	WINDOW_GET,           /* name. answer.value: the tunable's */
	WINDOW_SET,           /* name, value */
	WINDOW_PURGE,         /* what arenal_purge does. answer.value: bytes given back */
	WINDOW_PROFILE_START, /* value: what arenal_profile_start takes */
	WINDOW_PROFILE_STOP,
	WINDOW_PROFILE_DUMP_IN_MEMORY, /* no more: the file in memory was the process's, whose limit might not
	                                  have had room for it */
	WINDOW_PROFILE_DUMP,           /* answer.value: the thread's descriptor of a pipe that the dump is written
	                                  to as it is read, until the next request, or until nobody has read for
	                                  WINDOW_PATIENCE */
};

/* Requests with more than a value: struct window_trace has it, or the answer. */
enum window_kind_of_trace {
	WINDOW_TRACE_START = 32, /* of what struct window_trace names. EEXIST and its like: no such file could be
	                            made; EBUSY, EOPNOTSUPP, EINVAL: as trace_open says */
	WINDOW_TRACE_STOP,       /* EALREADY: it was off */
	WINDOW_TRACE_STATE,
};

#define WINDOW_PATIENCE 2000 /* milliseconds */

#define WINDOW_RESIDENT 1 /* also what of the heap is in memory, for which all of it is walked */

struct window_header {
	char magic[8];    /* WINDOW_MAGIC */
	uint32_t version; /* WINDOW_VERSION */
	uint32_t size;    /* bytes of the file */
	int32_t pid;      /* as the process sees itself */
	uint32_t answer;  /* offset of struct window_answer */
	char library[32]; /* its version, ends with a zero */
	uint32_t trace;   /* offset of struct window_trace; 0: an older library */
	char reserved[4];
};

struct window_request {
	_Atomic uint32_t number; /* 0: none, or being written. Also a futex */
	uint32_t kind;           /* enum window_kind */
	int64_t value;
	char name[48]; /* ends with a zero */
};

/* `count` records, each `stride` bytes after the one before: later versions may append fields to a record. */
struct window_table {
	uint32_t offset, stride, count, reserved;
};

struct window_answer {
	_Atomic uint32_t number; /* that of the request, written last. Also a futex */
	int32_t error;           /* 0 or an errno: EINVAL, ENOENT, EPERM as arenal_set says; ENOSYS: an unknown
	                            kind. ENODATA: the profile was never on. Or what the system said */
	int64_t value;
	uint64_t milliseconds; /* of the snapshot; a clock that never goes back */
	uint64_t resident;     /* bytes of Arenal's memory that the kernel backs, when asked for */
	uint64_t brk_start, brk_end;
	struct window_table stats;    /* one record: struct arenal_stats */
	struct window_table classes;  /* struct window_class, those in use */
	struct window_table arenas;   /* struct window_arena */
	struct window_table regions;  /* struct window_region, newest first; as many as there is room for */
	struct window_table tunables; /* struct window_tunable */
};

struct window_class {
	uint32_t size; /* bytes of a block */
	uint32_t span_bytes, span_blocks;
	uint32_t reserved;
	uint64_t spans, blocks_out; /* blocks_out: with the program and in thread caches */
	uint64_t refills, flushes;  /* batches since the start */
	uint64_t blocks_cached;     /* of blocks_out, in thread caches */
};

struct window_arena {
	uint32_t kind; /* enum region_kind: where it likes its spans: 0 regions, 1 brk heap, 2 guarded regions */
	uint32_t threads;
	uint64_t spans, bytes; /* bytes: in blocks with the program and in thread caches */
	uint64_t refills, flushes;
};

struct window_region {
	uint64_t base;
	uint32_t kind;                /* enum region_kind */
	uint32_t slices, used, dirty; /* of 64 KiB */
};

struct window_tunable {
	char name[32];
	int64_t value, min, max;
	uint32_t live; /* 1: may be set */
	uint32_t reserved;
};

/* Written by the client before a WINDOW_TRACE_START, and by the library with each answer about traces. */
struct window_trace {
	uint64_t bytes;        /* of the file: at most; in answers: so far */
	uint64_t milliseconds; /* to record: 0, for ever; in answers: recorded */
	uint64_t left;         /* in answers: milliseconds until it ends by itself, or 0 */
	uint32_t state;        /* in answers: enum trace_state */
	uint32_t is_on;  /* in answers: 1, calls are recorded; 0, they are not, but were, into this file, if it
	                          has a name */
	char path[4096]; /* from the process's root; ends with a zero */
};

#define WINDOW_REGIONS 2048
#define WINDOW_ARENAS 1024
#define WINDOW_TUNABLES 64
#define WINDOW_CLASSES 80

/* Only the pages of it that were written to are memory. */
struct window_page {
	struct window_header header;
	struct window_request request;
	struct window_answer answer;
	uint64_t stats[320];
	struct window_class classes[WINDOW_CLASSES];
	struct window_tunable tunables[WINDOW_TUNABLES];
	struct window_arena arenas[WINDOW_ARENAS];
	struct window_region regions[WINDOW_REGIONS];
	struct window_trace trace;
};
static_assert(sizeof(struct window_header) == 64 && sizeof(struct window_request) == 64 &&
                  offsetof(struct window_page, request) == 64,
              "these never change");

/* Bytes of the file: a multiple of every page size. */
#define WINDOW_SIZE ALIGN_UP(sizeof(struct window_page), 64 * KIB)

/* Once, when libc is ready for threads: opens the window now or later, as the tunable `window` says. */
void window_start(void);

/* Opens it if that is due: the tunable may have changed. */
void window_look(void);

/* Somebody outside asks for one (observe/door.h): opens it, whatever the process is like, unless the tunable
 * is 0. Returns an enum door_answer. Without any lock. */
uint32_t window_ask_to_open(void);

/* Around fork, without any lock. */
void window_after_fork(void); /* in the child */
void window_after_fork_in_parent(void);

/* Writes everything to the page that no request changes. */
void window_describe(struct window_page *page);

/* Does what the request says, which is a copy, and writes the answer, but for its number. dump: a pipe that
 * the dump of the profile is to be written to when the answer has its number, or -1 twice. */
void window_answer(struct window_page *page, const struct window_request *request, int dump[2]);

#endif
