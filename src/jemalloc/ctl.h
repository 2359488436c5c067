/* The nodes that mallctl knows: names, types, and what is read and written there. Each file ctl_*.c has those
 * of a subject; ctl.c finds them, and keeps to what jemalloc(3) says of errors. */
#ifndef JEMALLOC_CTL_H
#define JEMALLOC_CTL_H

#include <errno.h>

#include "base/conf.h"

/* Of all arenas together, in place of an arena's number. */
#define CTL_ALL 4096

/* Names have no more components, of which no more are numbers. */
#define CTL_DEPTH 6
#define CTL_NUMBERS 2

enum ctl_type {
	CTL_VOID, /* neither read nor written: something is done */
	CTL_BOOL,
	CTL_UNSIGNED,
	CTL_UINT32,
	CTL_SIZE, /* and ssize_t, uint64_t, pointers */
	CTL_SIGNED,
	CTL_UINT64,
	CTL_STRING,
	CTL_POINTER,
};

enum ctl_read {
	CTL_UNREADABLE,
	CTL_CONSTANT, /* `detail` */
	CTL_WORD,     /* the detail-th of ctl_words */
	CTL_TUNABLE,  /* the one that lies `detail` bytes from the start of conf; */
	CTL_SWITCH,   /* whether that is not 0 */
	CTL_OWN,      /* its subject knows */
};
enum { WORD_NONE, WORD_DISABLED, WORD_FALSE, WORD_FREE, WORD_PRIMARY };

/* Without pointers: the loader would have to write each of them. */
struct ctl_node {
	char name[40];
	uint8_t type; /* enum ctl_type */
	uint8_t read; /* enum ctl_read */
	int32_t detail;
	bool sets;       /* the subject sets it; CTL_VOID: does it */
	bool sets_first; /* what is read is what there is after the change; else, what there was before */
	bool asks;       /* instead of both, the subject is asked, with a new value of type `asked`, or none */
	uint8_t asked;   /* enum ctl_type */
};

/* A node, and the numbers that `*` stands for in its name, in their order. */
struct ctl_at {
	const struct ctl_node *node;
	const size_t *numbers;
};

/* Nodes of a subject. Values of any type travel as 64 bits. Functions return 0, or what mallctl is to
 * return. */
struct ctl_subject {
	const struct ctl_node *nodes;
	size_t count;
	int (*get)(const struct ctl_at *at, uint64_t *value);
	int (*set)(const struct ctl_at *at, uint64_t value);
	/* *value: the new one, if is_given; then what is read. */
	int (*ask)(const struct ctl_at *at, bool is_given, uint64_t *value);
};
extern const struct ctl_subject ctl_config, ctl_options, ctl_thread, ctl_arenas, ctl_profile, ctl_stats,
    ctl_arena_stats;

/* The n-th of all; NULL: there are fewer. */
const struct ctl_node *ctl_node_at(size_t n);

/* The n-th node's value, if it can be read, for those who print all. */
int ctl_read(size_t n, const size_t *numbers, uint64_t *value);

/* The number of arenas, which is the number of all of them together, too, as it was in older versions. */
size_t ctl_arena_count(void);
static inline bool ctl_is_all(size_t number) { return number == CTL_ALL || number == ctl_arena_count(); }

/* The number of one, or of all of them. */
static inline bool ctl_is_arena(size_t number) { return number == CTL_ALL || number <= ctl_arena_count(); }

/* What lazy_purge is in milliseconds. */
static inline uint64_t ctl_muzzy_decay(void) { return conf.lazy_purge ? (uint64_t)-1 : 0; }

/* For CTL_TUNABLE and CTL_SWITCH. */
#define CTL_CONF(name) offsetof(struct conf, name)

#endif
