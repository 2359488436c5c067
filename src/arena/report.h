/* Messages about a program's misuse of memory: one line on stderr, then the program ends. */
#ifndef ARENA_REPORT_H
#define ARENA_REPORT_H

#include "base/base.h"

/* "function(pointer): ", then what is wrong with it. Locks may be held, and are open from then on: a handler
 * of SIGABRT that allocates shall get to say what it has to say. */
_Noreturn void report_end(const char *function, const void *pointer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* `function` is the one that the program called. What is wrong with the pointer that it gave is found out
 * here: it is not the start of a block, or of none that is in use. `place` tells where a small block waits
 * that was freed already; NULL: not known. */
_Noreturn void report_pointer(const char *function, const void *pointer, const char *place);

#endif
