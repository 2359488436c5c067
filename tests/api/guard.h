/* What the cases of api.guard share: guarded blocks, and the functions that the stacks of a report must
 * name. Each case is a run of the program by itself. */
#ifndef GUARD_H
#define GUARD_H

#include "support.h"

#define NOINLINE __attribute__((noinline, noclone))

/* What a case tells: which block the report has to be about. In the parent: the same, as it was told last. */
extern struct facts {
	void *block;
	int thread, freeing_thread;
} facts;

void tell_facts(void);
size_t guarded_now(void);

/* The functions that the stacks must name. */
char *allocate_here(size_t size);
void free_here(char *block);
void write_here(char *at);
char read_here(char *at);
char *realloc_here(char *block, size_t size);

/* A guarded block that begins, or ends, where its page does. */
enum side { ANY, AT_START, AT_END };
char *guarded_block(size_t size, enum side side);

/* The cases. In guard_misuses.c: what ends with a report. */
void overflow_write(void *unused);
void overflow_read_far(void *unused);
void underflow_write(void *unused);
void read_after_free(void *unused);
void write_after_free(void *unused);
void use_after_free_elsewhere(void *unused);
void double_free(void *unused);
void free_inside(void *unused);
void off_by_one(void *unused);
void off_by_many(void *unused);
void before_the_start(void *unused);
void realloc_after_free(void *unused);
void after_realloc(void *unused);

/* In guard_signals.c: signals of others, and handlers that come after a report. */
void own_fault(void *unused);
void own_fault_plain(void *unused);
void fault_without_handler(void *unused);
void sent_signal(void *unused);
void ignored_signal(void *unused);
void report_then_own_handler(void *unused);
void report_then_later_handler(void *unused);
void report_in_thread(void *unused);
void report_in_child(void *unused);

/* In guard_usual.c: what goes on as always, and how many blocks are guarded. */
void contents_and_sizes(void *unused);
void exhaustion(void *unused);
void live_switch(void *unused);
void fork_with_guarded_blocks(void *unused);
void use_after_free_in_a_child(void *unused);
void default_rate(void *unused);
void asked_for_rate(void *unused);

#endif
