/* What the test programs share: cmocka with the headers it needs, child processes, sample sizes. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include <cmocka.h>

/* Says why, for the last lines of tools/test. Only what the machine is, has or allows may be a reason, never what the code under test says:
 * it would say so when it is broken, too. */
#define SKIP(reason) (print_message("skipped: %s\n", reason), skip())

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* Sizes around every quarter of every power of two: 1 to 64 one by one, then 79, 80, 81, 95, 96, 97, ... */
size_t sample_size(size_t index);

/* The same value, which the compiler does not know any more: for sizes it would warn about. */
size_t hidden(size_t value);

/* The same pointer, about which the compiler knows nothing any more. */
char *unknown(void *pointer);

/* Group setup: fails when the library is not in the process, unless TEST_WITH_LIBC is set. */
int require_arenal(void **state);

/* The function `name` as the program sees it; fails the test when there is none. */
void *find_function(const char *name);

/* Bytes of the process in memory, and in its address space. */
size_t resident_bytes(void);
size_t virtual_bytes(void);

/* Set the soft limits of this process; for children, as there is a CHILD_CHECK in them. */
void limit_address_space(size_t bytes);
void limit_data(size_t bytes);

/* Sets a filter of system calls for the calling thread, for good. For children, too. */
struct sock_filter;
void filter_calls(struct sock_filter *filter, size_t count);

/* Runs body(argument) in a forked child. Returns its exit status, 0 when the body returned and all its CHILD_CHECKs
 * held, or 128 + n when signal n killed it. */
int run_in_child(void (*body)(void *), void *argument);

/* The same; returns what the child wrote to stderr, until the next call. Of SIGABRT and SIGSEGV, no handlers are left in it. */
const char *written_by_child(void (*body)(void *), void *argument, int *status);

/* The assertion for children, which cannot jump back into cmocka. Prints without allocating. */
#define CHILD_CHECK(condition) ((condition) ? (void)0 : child_failed(__FILE__, __LINE__, #condition))
void child_failed(const char *file, int line, const char *condition) __attribute__((noreturn));

/* A program that ran to its end, and what it wrote. */
struct outcome {
	int status; /* as that of run_in_child() */
	char out[65536];
	char err[65536];
};

/* Runs a program with the environment of this one, changed by `changes`: "NAME=VALUE" sets, "NAME" removes; the list
 * ends with NULL and may be NULL. In the child, `before_exec` runs first unless it is NULL. */
void run_program(struct outcome *outcome, const char *const arguments[], const char *const changes[],
                 void (*before_exec)(void));

#ifdef __cplusplus
}
#endif
#endif
