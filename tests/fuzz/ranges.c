#include "ranges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void wrong(const char *file, int line, const char *condition) {
	fprintf(stderr, "%s:%d: %s does not hold\n", file, line, condition);
	abort();
}

/* The number of ranges that start before the address. */
static size_t position(const struct ranges *ranges, uintptr_t address) {
	size_t low = 0, high = ranges->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (ranges->sorted[middle].start < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void ranges_add(struct ranges *ranges, const void *start_, size_t size) {
	uintptr_t start = (uintptr_t)start_, end = start + size;
	size_t i = position(ranges, start);

	REQUIRE(ranges->count < RANGES_MAX);
	REQUIRE(end >= start); /* blocks of no bytes have addresses of their own, too */
	REQUIRE(i == 0 || ranges->sorted[i - 1].end <= start);
	REQUIRE(i == ranges->count || (start < ranges->sorted[i].start && end <= ranges->sorted[i].start));
	memmove(&ranges->sorted[i + 1], &ranges->sorted[i], (ranges->count - i) * sizeof ranges->sorted[0]);
	ranges->sorted[i].start = start;
	ranges->sorted[i].end = end;
	ranges->count++;
	ranges->bytes += size;
}

void ranges_remove(struct ranges *ranges, const void *start) {
	size_t i = position(ranges, (uintptr_t)start);

	REQUIRE(i < ranges->count && ranges->sorted[i].start == (uintptr_t)start);
	ranges->bytes -= ranges->sorted[i].end - ranges->sorted[i].start;
	ranges->count--;
	memmove(&ranges->sorted[i], &ranges->sorted[i + 1], (ranges->count - i) * sizeof ranges->sorted[0]);
}
