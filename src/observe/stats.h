/* Counters of all layers put together, and the table that a person reads. */
#ifndef OBSERVE_STATS_H
#define OBSERVE_STATS_H

#include "arenal/arenal.h"
#include "base/base.h"

void stats_get(struct arenal_stats *out);

/* The histograms of times in it (stats_times.c), which are empty before; and a line of a table about one of
 * them, by its number: false when it is empty. */
#define STATS_TIMES 7
void stats_times_add(struct arenal_stats *stats);
bool stats_times_line(const struct arenal_stats *stats, unsigned which, char *text, size_t size);
extern const char stats_times_head[] __attribute__((visibility("hidden")));

/* Bytes of Arenal's memory that the kernel backs now, as it says itself: a walk over the heap (resident.c),
 * for those who ask for just that. No other figure takes one. */
size_t stats_resident(void);

/* One size class over all arenas. */
struct class_stats {
	size_t spans, blocks_out; /* blocks_out: held by the program and by thread caches */
	uint64_t refills, flushes;
};
void stats_of_class(unsigned class_, struct class_stats *out);

/* One arena, all size classes; or all of those that a hardened child inherited, which nobody uses. */
struct arena_stats {
	uint32_t kind, threads; /* kind: enum region_kind */
	size_t spans, bytes;    /* bytes: held by the program and by thread caches */
	uint64_t refills, flushes;
	const char *name; /* of a heap of the program's; "": it is none, or has none */
};
/* The next one; *place is 0 for the first. False: there are no more. */
bool stats_next_arena(uint32_t *place, struct arena_stats *out);

/* Writes the table. Returns 0 or the errno of the write that failed. */
int stats_print(int fd);

/* The same, line by line, to a function. */
void stats_print_by(void (*write)(void *opaque, const char *text), void *opaque);

#endif
