/* What the tests of signals share: children in which the pool of guarded blocks comes at one of two
 * moments, handlers that note what they find, and what is asked for. */
#ifndef SIGNALS_H
#define SIGNALS_H

#include "support.h"

#include <signal.h>
#include <unistd.h>

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define KIB ((size_t)1 << 10)

/* When the running child makes the pool, with which Arenal's own handler comes: before the program asks,
 * or after. */
extern enum moment { BEFORE, AFTER } moment;

/* From here on, blocks are guarded, and Arenal's handler is there. */
void make_pool(void);

/* Makes the pool if this is the moment. */
void pool_if(enum moment now);

/* Runs body(argument) in a child without the handlers of cmocka; returns its status. */
int plain_child(void (*body)(void *), void *argument);

/* Runs it once for each moment; each child must end with the status. */
void in_children(void (*body)(void *), void *argument, int status);

/* What the handler found; its child's. */
extern struct found {
	volatile int calls;
	bool on_alternate;
	sigset_t blocked;
	siginfo_t info;
	void *context;
} found;

enum { ALTERNATE = 64 * 1024 }; /* bytes of the alternate stack */
extern char *page;              /* that cannot be written to, until a handler has noted a fault */

/* The page, and the alternate stack. */
void set_up(void);

/* Writes to the page, which faults. */
void fault(void);

/* Handlers that note what they find. */
void note(void);
void simple_handler(int signal);
void full_handler(int signal, siginfo_t *info, void *context);

/* What is asked for: each of these, in either kind of handler. */
enum { FLAGS = 8 };
extern const int all_flags[FLAGS];
struct sigaction asked(int flags, bool full);
bool same(const struct sigaction *a, const struct sigaction *b);

#endif
