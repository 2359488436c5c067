/* Messages about a program's misuse of memory. */
#ifndef ARENA_REPORT_H
#define ARENA_REPORT_H

/* Writes one line to stderr about the pointer that free (or a function that frees) was given, and ends the program. */
_Noreturn void report_bad_free(const void *pointer, const char *what);

#endif
