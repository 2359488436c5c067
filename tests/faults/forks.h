/* What the cases of faults.forks share. Each is a run of the program by itself, in each of the modes. */
#ifndef FORKS_H
#define FORKS_H

#include "support.h"

#include <arenal/arenal.h>
#include <sys/types.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { SIZES = 10 };
extern const size_t sizes[SIZES];

/* Takes slow paths of all kinds. */
void allocate(void);
void allocate_in_another_thread(void);

/* Waits for the child, which must end well. */
void expect_success(pid_t child);

/* Forks without handlers, as raw clone and _Fork do it. */
pid_t fork_silently(void);

struct arenal_stats stats(void);

/* In forks_handlers.c: handlers of others, and streams, whose locks libc's fork takes. */
void handlers_wait(void);
void handlers_call(void);
void streams(void);

/* In forks_children.c: what the child finds, and that children do not choose alike. */
void caches_of_others(void);
void work_of_others(void);
void guarded_slots_of_others(void);
void pages_of_others(void);
void children_choose_by_chance(void);
void children_without_handlers_choose_by_chance(void);

#endif
