/* The histograms of times among the statistics, and their table. */
#include "base/lock.h"
#include "base/print.h"
#include "cache/slow_calls.h"
#include "observe/stats.h"

static_assert(ARENAL_TIMES == TIMES_BUCKETS && TIMES_FIRST_LIMIT == 128, "as arenal.h says");

static const struct {
	char name[14]; /* no pointer, which the loader would have to fill in */
	size_t offset;
	unsigned one_of; /* so many are timed */
} all[] = {
	{ "lock_wait", offsetof(struct arenal_stats, lock_wait), 1 },
	{ "purge", offsetof(struct arenal_stats, purge), 1 },
	{ "malloc_small", offsetof(struct arenal_stats, malloc_small), SLOW_CALLS_EACH },
	{ "free_small", offsetof(struct arenal_stats, free_small), SLOW_CALLS_EACH },
	{ "malloc_large", offsetof(struct arenal_stats, malloc_large), SLOW_CALLS_EACH },
	{ "free_large", offsetof(struct arenal_stats, free_large), SLOW_CALLS_EACH },
	{ "realloc_large", offsetof(struct arenal_stats, realloc_large), SLOW_CALLS_EACH },
};
#define FIRST_SLOW_CALL 2
static_assert(sizeof all / sizeof *all == STATS_TIMES && STATS_TIMES == FIRST_SLOW_CALL + SLOW_CALLS,
              "each kind has a row, in the order of enum slow_call");

static void add(struct arenal_stats *stats, unsigned which, const struct times *times) {
	struct arenal_times *out = (struct arenal_times *)((char *)stats + all[which].offset);
	for (unsigned i = 0; i < TIMES_BUCKETS; i++)
		out->counts[i] += atomic_load_explicit(&times->counts[i], memory_order_relaxed);
	out->nanoseconds += atomic_load_explicit(&times->nanoseconds, memory_order_relaxed);
}

void stats_times_add(struct arenal_stats *stats) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	add(stats, 0, &lock_waits.times);
	add(stats, 1, &os_purges.times);
	for (uint32_t a = 0; a < count; a++)
		for (unsigned kind = 0; kind < SLOW_CALLS; kind++)
			add(stats, FIRST_SLOW_CALL + kind, &arena_list[a]->slow_calls[kind]);
}

/* ---- the table ---- */

/* "8.1 us" */
struct human_time {
	char text[24];
};
static struct human_time human_time(uint64_t nanoseconds) {
	static const char *const units[] = { "ns", "us", "ms", "s" };
	struct human_time h;
	unsigned unit = 0;
	uint64_t below = 0; /* tenths */
	while (nanoseconds >= 1000 && unit < 3) {
		below = nanoseconds % 1000 / 100;
		nanoseconds /= 1000;
		unit++;
	}
	if (unit == 0)
		print_text(h.text, sizeof h.text, "%lu ns", (unsigned long)nanoseconds);
	else
		print_text(h.text, sizeof h.text, "%lu.%lu %s", (unsigned long)nanoseconds, (unsigned long)below,
		           units[unit]);
	return h;
}

/* The least limit of a bucket that `part` of 100 times do not exceed. */
static struct human_time at_most(const struct arenal_times *times, uint64_t count, unsigned part) {
	uint64_t seen = 0;
	for (unsigned i = 0; i < ARENAL_TIMES - 1; i++) {
		seen += times->counts[i];
		if (seen * 100 >= count * part) return human_time((uint64_t)TIMES_FIRST_LIMIT << i);
	}
	return (struct human_time){ "more" };
}

const char stats_times_head[] =
    "times of       one of        timed     half, up to      99%, up to      all, up to          total";

bool stats_times_line(const struct arenal_stats *stats, unsigned which, char *text, size_t size) {
	const struct arenal_times *times = (const struct arenal_times *)((const char *)stats + all[which].offset);
	uint64_t count = 0;
	for (unsigned i = 0; i < ARENAL_TIMES; i++) count += times->counts[i];
	if (count > 0)
		print_text(text, size, "%-13s %7u %12lu %15s %15s %15s %14s", all[which].name, all[which].one_of,
		           (unsigned long)count, at_most(times, count, 50).text, at_most(times, count, 99).text,
		           at_most(times, count, 100).text, human_time(times->nanoseconds).text);
	return count > 0;
}
