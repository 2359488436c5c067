/* A program that says that it gives up privileges for good (PR_SET_NO_NEW_PRIVS), or sets a filter, is heard here (base/sandbox.h).
 *
 * Part of the shared library only. What calls the kernel directly goes unseen. */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "api/api.h"
#include "api/fork.h"
#include "base/conf.h"
#include "base/os.h"
#include "base/sandbox.h"

/* libc's, or that of another library. Looked up when the library is loaded; until then, the kernel is called. */
static int (*_Atomic next_prctl)(int option, ...);

/* A child by vfork has this memory, and often a sandbox of its own, with a program that it starts. */
static _Atomic int process;

static void look_at_process(void) { atomic_store(&process, os_process_id()); }

__attribute__((constructor)) static void find_next(void) {
	*(void *_Atomic *)&next_prctl = dlsym(RTLD_NEXT, "prctl");
	dlerror(); /* nobody is to hear of that */
	look_at_process();
}

void sandbox_after_fork(void) {
	if (!sandbox_is_on()) look_at_process();
}

/* Before anything is forbidden. */
static COLD void expect_filter(void) {
	if (sandbox_is_on() || atomic_load(&process) != os_process_id()) return;
	ensure_started();
	if (conf.sandbox != 0) os_enter_sandbox();
}

EXPORT int prctl(int option, ...) {
	unsigned long arguments[4];
	va_list rest;
	va_start(rest, option);
	for (int i = 0; i < 4; i++) arguments[i] = va_arg(rest, unsigned long);
	va_end(rest);
	if (option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SECCOMP) expect_filter();
	int (*function)(int, ...) = next_prctl;
	if (likely(function != NULL)) return function(option, arguments[0], arguments[1], arguments[2], arguments[3]);
	return (int)os_pass(SYS_prctl, option, (long)arguments[0], (long)arguments[1], (long)arguments[2], (long)arguments[3], 0);
}
