/* What the cases of api.actions share: they write down what a program sees of its handlers of SIGSEGV and
 * SIGBUS; each is a run of the program by itself. */
#ifndef ACTIONS_H
#define ACTIONS_H

#include "support.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

/* Past stdio: handlers write, too. */
#define say(...) dprintf(STDOUT_FILENO, __VA_ARGS__)

/* Of this run: at which of the moments "first" and "later" that the cases tell by at() the first block is
 * guarded; "thread": later, by another thread; or "never". */
extern const char *moment;
void at(const char *where);

/* Handlers that do nothing. */
void one(int signal);
void two(int signal);

/* Handlers that write down all that they can see of how they were called, and make the area accessible. */
void full(int signal, siginfo_t *info, void *context);
void plain(int signal);

/* Writes its last words. */
void say_last(int signal);

/* Write down a handler, an action, the signal's action. */
const char *name_of(sighandler_t handler);
unsigned long bits_of(const sigset_t *set);
void say_action(const char *what, const struct sigaction *action);
void ask(int signal);

/* Sets an action, and writes down the one before, and what it is now. */
void set(int signal, void *handler, int flags, unsigned long mask);

/* Memory that is not accessible until a handler makes it so; and an alternate stack. */
extern char *area;
extern size_t area_size;
void make_area(void);
void touch(char *address);

/* What handlers should return to: of the action that is set. */
extern void *restorer;

/* The cases. In actions_seen.c: what a program sees, and what it is told when it, or another library, asks
 * elsewhere. */
void actions(void);
void older_functions(void);
void direct_calls(void);
void others_see_changes(void);

/* In actions_handlers.c: how handlers run, in several threads, too. */
void handlers(void);
void buses(void);
void big_handler(void);
void system_calls(void);
void jumps(void);
void once_of_many(void);
void all_at_once(void);

/* In actions_ends.c: how it ends. */
void no_handler(void);
void sent_to_nobody(void);
void ignored(void);
void once(void);
void once_nested(void);
void nested(void);
void puts_back(void);
void puts_back_and_raises(void);
void chains(void);

/* In actions_children.c: children, and other programs. */
void vfork_children(void);
void fork_children(void);
void asked_by_another(void);
void other_programs(void);

#endif
