/* The ends of a process that no destructor hears of: _exit, and what executes a program. They are noted in the trace (observe/trace_end.h), if
 * there is one, and done by the next definitions. All of them may be called by a handler of a signal, or in a child by vfork.
 *
 * Part of the shared library only. What libc does inside (posix_spawn, system, daemon) does not come here, nor does what calls the
 * kernel directly. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/api.h"
#include "base/os.h"
#include "observe/trace.h"
#include "observe/trace_end.h"

/* Looked up when the library is loaded, or by the first call before that: later, a look-up may wait for a lock of the loader's. */
static struct {
	void (*_Atomic at_once)(int status);
	void (*_Atomic quick)(int status);
	int (*_Atomic execv)(const char *path, char *const *words);
	int (*_Atomic execve)(const char *path, char *const *words, char *const *environment);
	int (*_Atomic execvp)(const char *name, char *const *words);
	int (*_Atomic execvpe)(const char *name, char *const *words, char *const *environment);
	int (*_Atomic fexecve)(int file, char *const *words, char *const *environment);
	int (*_Atomic execveat)(int folder, const char *path, char *const *words, char *const *environment, int flags);
} next;

#define FIND(name, symbol) *(void *_Atomic *)&next.name = dlsym(RTLD_NEXT, symbol)

__attribute__((constructor(101))) static void find_next(void) {
	FIND(at_once, "_exit");
	FIND(quick, "quick_exit");
	FIND(execv, "execv");
	FIND(execve, "execve");
	FIND(execvp, "execvp");
	FIND(execvpe, "execvpe");
	FIND(fexecve, "fexecve");
	FIND(execveat, "execveat");
	dlerror(); /* libc before 2.34 has no execveat: nobody is to hear of that */
}

#define NEXT(name) (likely(next.name != NULL) ? next.name : (find_next(), next.name))

static _Noreturn void end(void (*function)(int), int status) {
	if (modes & MODE_TRACE) trace_end_by(TRACE_EXIT_AT_ONCE, status);
	if (function != NULL) function(status);
	for (;;) os_pass(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

EXPORT _Noreturn void _exit(int status) { end(next.at_once, status); }
EXPORT _Noreturn void _Exit(int status) { end(next.at_once, status); }
EXPORT _Noreturn void quick_exit(int status) { end(next.quick, status); }

static void begin(void) {
	if (modes & MODE_TRACE) trace_end_by(TRACE_EXEC, 0);
}

/* Nothing was executed. */
static int give_up(int result) {
	const int saved = errno;
	if (modes & MODE_TRACE) trace_end_not();
	errno = saved;
	return result;
}

EXPORT int execv(const char *path, char *const words[]) {
	begin();
	return give_up(NEXT(execv)(path, words));
}

EXPORT int execve(const char *path, char *const words[], char *const environment[]) {
	begin();
	return give_up(NEXT(execve)(path, words, environment));
}

EXPORT int execvp(const char *name, char *const words[]) {
	begin();
	return give_up(NEXT(execvp)(name, words));
}

EXPORT int execvpe(const char *name, char *const words[], char *const environment[]) {
	begin();
	return give_up(NEXT(execvpe)(name, words, environment));
}

EXPORT int fexecve(int file, char *const words[], char *const environment[]) {
	begin();
	return give_up(NEXT(fexecve)(file, words, environment));
}

/* No header of libc before 2.34 has it. */
int execveat(int folder, const char *path, char *const words[], char *const environment[], int flags);

EXPORT int execveat(int folder, const char *path, char *const words[], char *const environment[], int flags) {
	begin();
	int (*function)(int, const char *, char *const *, char *const *, int) = next.execveat;
	if (function == NULL) return give_up((int)os_pass(SYS_execveat, folder, (long)path, (long)words, (long)environment, flags, 0));
	return give_up(function(folder, path, words, environment, flags));
}

/* ---- words one by one ---- */

/* How many there are, the NULL behind the last one included. */
static size_t count(const char *first, va_list *more) {
	size_t words = 1;
	for (const char *word = first; word != NULL; words++) word = va_arg(*more, const char *);
	return words;
}

/* Puts them where libc does, on the stack of the function that is called. */
static void collect(char **words, size_t count, const char *first, va_list *more) {
	words[0] = (char *)first;
	for (size_t i = 1; i < count; i++) words[i] = va_arg(*more, char *);
}

EXPORT int execl(const char *path, const char *first, ...) {
	va_list more;
	va_start(more, first);
	const size_t length = count(first, &more);
	va_end(more);
	char *words[length];
	va_start(more, first);
	collect(words, length, first, &more);
	va_end(more);
	return execv(path, words);
}

EXPORT int execlp(const char *name, const char *first, ...) {
	va_list more;
	va_start(more, first);
	const size_t length = count(first, &more);
	va_end(more);
	char *words[length];
	va_start(more, first);
	collect(words, length, first, &more);
	va_end(more);
	return execvp(name, words);
}

/* Behind the NULL is the environment. */
EXPORT int execle(const char *path, const char *first, ...) {
	va_list more;
	va_start(more, first);
	const size_t length = count(first, &more);
	va_end(more);
	char *words[length];
	va_start(more, first);
	collect(words, length, first, &more);
	char **environment = va_arg(more, char **);
	va_end(more);
	return execve(path, words, environment);
}
