/* The shadow model's view of memory: the live blocks as ranges of addresses, ordered. Whoever calls this holds the model's
 * lock (calls.c). */
#ifndef FUZZ_RANGES_H
#define FUZZ_RANGES_H

#include <stddef.h>
#include <stdint.h>

enum { RANGES_MAX = 512 };

struct ranges {
	size_t count;
	size_t bytes; /* of all ranges */
	struct {
		uintptr_t start, end;
	} sorted[RANGES_MAX];
};

/* The program ends when the range overlaps another one. */
void ranges_add(struct ranges *ranges, const void *start, size_t size);

/* The program ends when there is no range that starts here. */
void ranges_remove(struct ranges *ranges, const void *start);

/* Prints what is wrong, and aborts. */
#define REQUIRE(condition) ((condition) ? (void)0 : wrong(__FILE__, __LINE__, #condition))
void wrong(const char *file, int line, const char *condition) __attribute__((noreturn));

#endif
