/* Calls that count the threads of a process, or do the same in all of them: threads of our own stand back
 * (cache/own_thread.h), the next definition of the function does what it does, and they may come back.
 *
 * - Who changes users or groups: libc lets each thread make the system call, and ends the process if it fails
 *   in some only. What a thread may do (capabilities, securebits) is its own affair in Linux, so it may fail
 *   in ours alone. While nobody has any of his own, ours take part like all others: they stay.
 * - unshare and setns: some namespaces want a process of one thread.
 * - capset, and prctl (api/sandbox.c), where they take rights away for good: threads of ours are not to keep
 *   them beside the program. They are started again by a thread that has them no more.
 *
 * A thread that libc knows nothing of would have no part in all this, and be a way back to root's rights.
 *
 * Part of the shared library only. What calls the kernel directly goes unseen. */
#include <grp.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/api.h"
#include "base/libc.h"
#include "base/os.h"
#include "cache/own_thread.h"

enum call {
	SETUID,
	SETGID,
	SETEUID,
	SETEGID,
	SETREUID,
	SETREGID,
	SETRESUID,
	SETRESGID,
	SETGROUPS,
	INITGROUPS,
	UNSHARE,
	SETNS,
	CAPSET,
	CALLS
};

/* The next definitions. Looked up when the library is loaded: later, a look-up may wait for a lock of the
 * loader's, and would take the program's dlerror. Who is loaded before us may call one of them earlier. */
static struct {
	const char name[12];
	_Atomic(void *) function;
} next[CALLS] = {
	[SETUID].name = "setuid",         [SETGID].name = "setgid",       [SETEUID].name = "seteuid",
	[SETEGID].name = "setegid",       [SETREUID].name = "setreuid",   [SETREGID].name = "setregid",
	[SETRESUID].name = "setresuid",   [SETRESGID].name = "setresgid", [SETGROUPS].name = "setgroups",
	[INITGROUPS].name = "initgroups", [UNSHARE].name = "unshare",     [SETNS].name = "setns",
	[CAPSET].name = "capset",
};

static void *find(enum call call) {
	void *function = atomic_load_explicit(&next[call].function, memory_order_relaxed);
	if (likely(function != NULL)) return function;
	const int saved = errno;
	function = libc_next(next[call].name);
	atomic_store_explicit(&next[call].function, function, memory_order_relaxed);
	errno = saved;
	return function;
}

__attribute__((constructor)) static void find_all(void) {
	for (enum call call = 0; call < CALLS; call++) find(call);
}

static bool stand_back_if_differing(void) { return own_threads_differ() && own_threads_stand_back(); }

static void come_back(bool stood_back) {
	const int saved = errno;
	if (stood_back) own_threads_return(false);
	errno = saved;
}

/* uid_t and gid_t are the same to the machine. */
typedef unsigned id;
static_assert(sizeof(uid_t) == sizeof(id) && sizeof(gid_t) == sizeof(id), "functions of one ID take either");

static int change_one(enum call call, id a) {
	int (*function)(id) = find(call);
	const bool back = stand_back_if_differing();
	const int result = function(a);
	come_back(back);
	return result;
}

static int change_two(enum call call, id a, id b) {
	int (*function)(id, id) = find(call);
	const bool back = stand_back_if_differing();
	const int result = function(a, b);
	come_back(back);
	return result;
}

static int change_three(enum call call, id a, id b, id c) {
	int (*function)(id, id, id) = find(call);
	const bool back = stand_back_if_differing();
	const int result = function(a, b, c);
	come_back(back);
	return result;
}

EXPORT int setuid(uid_t user) { return change_one(SETUID, user); }
EXPORT int setgid(gid_t group) { return change_one(SETGID, group); }
EXPORT int seteuid(uid_t user) { return change_one(SETEUID, user); }
EXPORT int setegid(gid_t group) { return change_one(SETEGID, group); }
EXPORT int setreuid(uid_t real, uid_t effective) { return change_two(SETREUID, real, effective); }
EXPORT int setregid(gid_t real, gid_t effective) { return change_two(SETREGID, real, effective); }

EXPORT int setresuid(uid_t real, uid_t effective, uid_t saved) {
	return change_three(SETRESUID, real, effective, saved);
}
EXPORT int setresgid(gid_t real, gid_t effective, gid_t saved) {
	return change_three(SETRESGID, real, effective, saved);
}

EXPORT int setgroups(size_t count, const gid_t *groups) {
	int (*function)(size_t, const gid_t *) = find(SETGROUPS);
	const bool back = stand_back_if_differing();
	const int result = function(count, groups);
	come_back(back);
	return result;
}

/* Its setgroups is libc's own. */
EXPORT int initgroups(const char *user, gid_t group) {
	int (*function)(const char *, gid_t) = find(INITGROUPS);
	const bool back = stand_back_if_differing();
	const int result = function(user, group);
	come_back(back);
	return result;
}

/* What the kernel gives to processes of one thread only (unshare(2)), or to threads that share no
 * directory with others (setns(2)). All else is the calling thread's own affair. */
#define UNSHARED_ALONE (CLONE_NEWUSER | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
#define JOINED_ALONE (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME)
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

EXPORT int unshare(int what) {
	int (*function)(int) = find(UNSHARE);
	const bool back = (what & UNSHARED_ALONE) != 0 && own_threads_stand_back();
	const int result = function(what);
	come_back(back);
	return result;
}

EXPORT int setns(int file, int kind) {
	const int saved = errno;
	int (*function)(int, int) = find(SETNS);
	/* 0: of whatever kind the file is. */
	const long told = kind != 0 ? kind : os_pass(SYS_ioctl, file, NS_GET_NSTYPE, 0, 0, 0, 0);
	errno = saved;
	const bool back = told > 0 && (told & JOINED_ALONE) != 0 && own_threads_stand_back();
	const int result = function(file, kind);
	come_back(back);
	return result;
}

/* No header of libc has it, but libc has the function; libcap calls it. */
int capset(cap_user_header_t header, const cap_user_data_t data);

/* Other capabilities than the thread has? What cannot be told is left to the kernel to refuse. */
static bool changes_rights(cap_user_header_t header, const cap_user_data_t data) {
	if (header == NULL || data == NULL || header->version != _LINUX_CAPABILITY_VERSION_3) return true;
	static_assert(sizeof(struct os_rights) == sizeof *data, "one is compared with the other");
	struct os_rights now[_LINUX_CAPABILITY_U32S_3];
	return os_rights(0, now) != 0 || memcmp(now, data, sizeof now) != 0;
}

EXPORT int capset(cap_user_header_t header, const cap_user_data_t data) {
	int (*function)(cap_user_header_t, const cap_user_data_t) = find(CAPSET);
	const bool back = changes_rights(header, data) && own_threads_stand_back();
	const int result = function(header, data);
	come_back(back);
	return result;
}
