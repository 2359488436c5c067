/* A program that says that it gives up privileges for good (PR_SET_NO_NEW_PRIVS), or sets a filter, is heard
 * here (base/sandbox.h).
 *
 * Part of the shared library only. What calls the kernel directly goes unseen. */
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "api/api.h"
#include "api/fork.h"
#include "base/conf.h"
#include "base/libc.h"
#include "base/os.h"
#include "base/process.h"
#include "base/sandbox.h"
#include "cache/own_thread.h"
#include "cache/tcache.h"

/* libc's, or that of another library. Looked up when the library is loaded; until then, the kernel is
 * called. */
static int (*_Atomic next_prctl)(int option, ...);

/* A child by vfork has this memory, and often a sandbox of its own, with a program that it starts. */
static _Atomic int process;

static void look_at_process(void) { atomic_store(&process, os_process_id()); }

__attribute__((constructor)) static void find_next(void) {
	*(void *_Atomic *)&next_prctl = libc_next("prctl");
	look_at_process();
}

void sandbox_after_fork(void) {
	if (!sandbox_is_on()) look_at_process();
}

/* Before anything is forbidden. */
static COLD bool expect_filter(void) {
	if (sandbox_is_on() || (atomic_load(&process) != os_process_id() && !process_was_wiped())) return false;
	ensure_started();
	if (conf.sandbox == 0) return false;
	os_expect_sandbox();
	tcache_flush_all(); /* what other threads keep, nobody can take away afterwards */
	return true;
}

/* Rights that a thread of ours would keep beside the program (api/stand_back.c). */
static bool takes_rights(int option) {
	return option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SECCOMP || option == PR_CAPBSET_DROP ||
	       option == PR_CAP_AMBIENT || option == PR_SET_SECUREBITS;
}

static int pass(int option, const unsigned long *a) {
	int (*function)(int, ...) = next_prctl;
	if (likely(function != NULL)) return function(option, a[0], a[1], a[2], a[3]);
	return (int)os_pass(SYS_prctl, option, (long)a[0], (long)a[1], (long)a[2], (long)a[3], 0);
}

EXPORT int prctl(int option, ...) {
	unsigned long arguments[4];
	va_list rest;
	va_start(rest, option);
	for (int i = 0; i < 4; i++) arguments[i] = va_arg(rest, unsigned long);
	va_end(rest);
	if (option == PR_SET_KEEPCAPS || option == PR_SET_SECUREBITS) own_threads_may_differ();
	const bool back = takes_rights(option) && own_threads_stand_back();
	const bool expected = (option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SECCOMP) && expect_filter();
	const int result = pass(option, arguments), saved = errno;
	if (expected && result == 0) os_enter_sandbox();
	if (back) own_threads_return(sandbox_is_on());
	errno = saved;
	return result;
}
