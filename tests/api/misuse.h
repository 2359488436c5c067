/* What the tests of misuse share: functions that take a block, children that give them what they must not
 * have, and the line that ends the child. */
#ifndef MISUSE_H
#define MISUSE_H

#include "support.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* What the child says of itself before it ends. */
extern struct told {
	char *pointer; /* that it gave to the function */
	char *block;   /* that the pointer has to do with */
	size_t usable; /* bytes of the block */
} *shared;

/* A function that takes a block. */
struct way {
	const char *name; /* in messages */
	void (*give)(void *block);
	enum { FREES, MOVES, LOOKS } does; /* to a block of some bytes */
};

enum { WAYS = 8 };
extern const struct way ways[WAYS];

struct misuse {
	const struct way *way;
	size_t size;
	size_t offset;
};

/* Found by name: what libc's headers, or C, do not have. */
extern void *(*new_)(size_t);
extern void *(*new_aligned)(size_t, size_t);
extern void (*delete_)(void *), (*delete_array)(void *);
extern void (*delete_sized)(void *, size_t), (*delete_array_sized)(void *, size_t);
extern void (*delete_sized_aligned)(void *, size_t, size_t);
extern void (*free_sized_)(void *, size_t);
extern void (*free_aligned_sized_)(void *, size_t, size_t);
extern int (*set)(const char *, int64_t);

/* What follows a wrong size: the values of the tunables. */
enum { MISUSE_DEFAULT = -1, MISUSE_IGNORE, MISUSE_REPORT, MISUSE_END };

/* Finds them, for the group's setup. */
int find_functions(void **state);

/* A block, which the child tells. */
char *take(size_t size);

/* Gives the pointer to the function, and tells it. */
void give(const struct misuse *misuse, char *pointer);

/* What is behind "arenal: NAME(POINTER): ", with which the text must start. */
const char *behind_name(const char *text, const char *name);

/* Runs the body in a child, which must end by SIGABRT with one line on stderr: that of function `name`.
 * Returns the line, from behind the address on. */
const char *end_of(void (*body)(void *), void *argument, const char *name);

/* The line is exactly this one, but for the arena's number. */
void expect_line(const char *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Small ones in spans of one slice, with a tail and without, and of several; runs, kept by their thread
 * and not; mappings. */
enum kind { SMALL, LARGE, HUGE };
enum { SAMPLES = 14 };
extern const struct sample {
	size_t size;
	enum kind kind;
} samples[SAMPLES];

#endif
