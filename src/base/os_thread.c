/* System calls about threads: sleeping and waking, barriers, which ones there are, and how our own are
 * scheduled. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "base/libc.h"
#include "base/os.h"
#include "base/sandbox.h"
#include "base/syscall.h"

static void futex(uint32_t *word, int operation, uint32_t value, const struct timespec *limit) {
	CALL(SYS_futex, word, operation, value, limit, NULL, 0);
}

void os_futex_wait(uint32_t *word, uint32_t expected) { futex(word, FUTEX_WAIT_PRIVATE, expected, NULL); }

void os_futex_wait_for(uint32_t *word, uint32_t expected, uint64_t milliseconds) {
	const struct timespec limit = { (time_t)(milliseconds / 1000), (long)(milliseconds % 1000 * 1000000) };
	futex(word, FUTEX_WAIT_PRIVATE, expected, &limit);
}

void os_futex_wait_shared(uint32_t *word, uint32_t expected, uint64_t milliseconds) {
	const struct timespec limit = { (time_t)(milliseconds / 1000), (long)(milliseconds % 1000 * 1000000) };
	futex(word, FUTEX_WAIT, expected, milliseconds > 0 ? &limit : NULL);
}
void os_futex_wake_shared(uint32_t *word) { futex(word, FUTEX_WAKE, INT_MAX, NULL); }
void os_futex_wake(uint32_t *word) { futex(word, FUTEX_WAKE_PRIVATE, 1, NULL); }
void os_futex_wake_all(uint32_t *word) { futex(word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL); }

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer does not know what membarrier orders, and would report every block that passes by it:
 * both the block's contents and the slot of the magazine. The protocol around it is checked by
 * tests/models/drain.pml and, with barriers, by the stress tests of the other builds. */
bool os_barrier_in_all_threads(void) { return false; }
bool os_has_barrier(void) { return false; }
#else
static bool barrier(int command) { return CALL(SYS_membarrier, command, 0, 0) == 0; }

/* It is refused to those who have not said before that they want it, which takes long: once, and not in
 * every program. */
bool os_barrier_in_all_threads(void) {
	if (sandbox_is_on()) return false;
	return barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) ||
	       (barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) && barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
}

bool os_has_barrier(void) {
	const long known = sandbox_is_on() ? 0 : CALL(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
	return known > 0 && (known & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0;
}
#endif

bool os_is_single_threaded(void) { return libc.single_threaded != NULL && *libc.single_threaded != 0; }

int os_thread_id(void) { return sandbox_is_on() ? -1 : (int)CALL(SYS_gettid, 0); }

void os_thread_name(char *name) {
	memset(name, 0, 16);
	if (!sandbox_is_on()) CALL(SYS_prctl, PR_GET_NAME, name);
}

/* /proc/self/stat is "PID (NAME) STATE", seventeen numbers, and that of the threads. The state is that of
 * the first thread, which stays as a zombie when it ends before the others. */
bool os_is_last_thread(void) {
	char text[512];
	if (os_read_file("/proc/self/stat", 0, text, sizeof text) == 0) return false;
	const char *at = strrchr(text, ')');
	if (at == NULL || at[1] != ' ' || at[2] != 'Z') return false;
	for (int i = 0; at != NULL && i < 18; i++) at = strchr(at + 1, ' ');
	return at != NULL && at[1] == '2' && at[2] == ' ';
}

/* ---- threads of our own ---- */

long os_affinity(unsigned char *set, size_t size) {
	return CALL(SYS_sched_getaffinity, 0, (long)size, (long)set, 0);
}

bool os_set_affinity(const unsigned char *set, size_t size) {
	return CALL(SYS_sched_setaffinity, 0, (long)size, (long)set, 0) == 0;
}

/* The first version of the kernel's structure (Linux 3.14). */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

#define DEFAULT_TIMER_SLACK 50000 /* nanoseconds */

void os_schedule_as_process(void) {
	struct scheduling own = { 0 }, first = { 0 };
	if (CALL(SYS_sched_getattr, 0, (long)&own, sizeof own, 0) == 0 &&
	    CALL(SYS_sched_getattr, os_process_id(), (long)&first, sizeof first, 0) == 0) {
		struct scheduling wanted = { .size = sizeof wanted, .policy = SCHED_OTHER, .nice = first.nice };
		if (first.policy == SCHED_BATCH || first.policy == SCHED_IDLE) wanted.policy = first.policy;
		/* Who may not have a nicer one back keeps that of the thread that made it. */
		if (own.policy != wanted.policy || own.nice != wanted.nice)
			if (CALL(SYS_sched_setattr, 0, (long)&wanted, 0, 0) != 0 && own.policy != wanted.policy) {
				wanted.nice = own.nice;
				CALL(SYS_sched_setattr, 0, (long)&wanted, 0, 0);
			}
	}
	CALL(SYS_prctl, PR_SET_TIMERSLACK, DEFAULT_TIMER_SLACK, 0, 0);
}

void os_thread_rename(const char *name) { CALL(SYS_prctl, PR_SET_NAME, (long)name, 0, 0); }

/* As the kernel gives them. */
struct directory_entry {
	uint64_t number;
	int64_t next;
	unsigned short length;
	unsigned char type;
	char name[];
};

size_t os_threads(int *ids, size_t room) {
	char buffer[2048] __attribute__((aligned(8)));
	const int folder = os_open_file("/proc/self/task");
	size_t count = 0;
	if (folder < 0) return 0;
	for (long length; (length = CALL(SYS_getdents64, folder, buffer, sizeof buffer)) > 0;) {
		for (long at = 0; at < length;) {
			const struct directory_entry *e = (const struct directory_entry *)(buffer + at);
			int id = 0;
			for (const char *c = e->name; *c >= '0' && *c <= '9'; c++) id = 10 * id + (*c - '0');
			if (id > 0 && count < room) ids[count++] = id;
			at += e->length;
		}
	}
	os_close(folder);
	return count;
}

bool os_signal_thread(int id, int signal) { return CALL(SYS_tgkill, os_process_id(), id, signal) == 0; }

bool os_has_thread(int id) { return CALL(SYS_tgkill, os_process_id(), id, 0, 0) == 0; }

long os_rights(int id, struct os_rights sets[2]) {
	struct {
		uint32_t version;
		int id;
	} header = { 0x20080522, id }; /* _LINUX_CAPABILITY_VERSION_3 */
	memset(sets, 0, 2 * sizeof *sets);
	return CALL(SYS_capget, (long)&header, (long)sets, 0, 0);
}

bool os_has_same_rights(int id) {
	struct os_rights own[2], other[2];
	const long error = os_rights(id, other);
	return error == -ESRCH || (error == 0 && os_rights(0, own) == 0 && memcmp(own, other, sizeof own) == 0);
}

/* A thread loses its number and its place in the list of the process under one lock of the kernel. This
 * call takes it for reading; what it asks for is of no interest. */
void os_pass_thread_list(void) { CALL(SYS_getpriority, PRIO_PGRP, 0, 0, 0); }

void os_pause(unsigned microseconds) {
	const struct timespec time = { 0, (long)microseconds * 1000 };
	if (microseconds == 0)
		CALL(SYS_sched_yield, 0, 0, 0, 0);
	else
		CALL(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&time, 0);
}
