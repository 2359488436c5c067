/* figures SEED OPERATIONS THREADS: the statistics add up. While threads make all kinds of calls and memory goes back all the
 * time, allocated <= active <= resident <= mapped in each reading. At moments when the threads stand still, the figures are
 * held against the program's own account, against the ranges that the library's records list, and against what the kernel
 * backs of these: its smaps, and page by page where a range is a part of a mapping. */
#include "stress.h"

#include <arenal/arenal.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#ifndef ARENAL_TEST_PREFIX
#include "arena/layout.h"
#endif

enum { OWN_BLOCKS = 300, MOMENTS = 4, THREADS_MAX = 64, TRIES = 200 };

static struct arguments arguments;
static atomic_bool stopped;
static pthread_mutex_t reading_turn = PTHREAD_MUTEX_INITIALIZER; /* main holds it while nothing shall change */
static atomic_size_t readings;
static pthread_barrier_t still;
static struct block blocks[THREADS_MAX][OWN_BLOCKS];

static struct arenal_stats read_stats(void) {
	struct arenal_stats s;

	CHECK(arenal_stats_get(&s, sizeof s) == 0);
	if (!(s.allocated <= s.active && s.active <= s.resident && s.resident <= s.mapped))
		fail("allocated %zu, active %zu, resident %zu, mapped %zu", s.allocated, s.active, s.resident, s.mapped);
	if (s.allocated + s.cached > s.active || s.active + s.dirty > s.resident || s.huge_bytes > s.mapped)
		fail("cached %zu, dirty %zu, huge %zu do not fit into %zu, %zu, %zu", s.cached, s.dirty, s.huge_bytes, s.active,
		     s.resident, s.mapped);
	atomic_fetch_add(&readings, 1);
	return s;
}

static void *read_all_the_time(void *unused) {
	struct random random = random_for(arguments.seed, 1000);

	while (!atomic_load(&stopped)) {
		pthread_mutex_lock(&reading_turn);
		for (size_t i = 0; i < 50; i++)
			read_stats();
		const bool purge = random_below(&random, 8) == 0;
		if (purge)
			arenal_purge();
		pthread_mutex_unlock(&reading_turn);
		if (!purge)
			nanosleep(&(struct timespec){ 0, (long)random_below(&random, 2000000) }, NULL);
	}
	return unused;
}

static void step(struct random *random, struct block *own) {
	struct block *block = &own[random_below(random, OWN_BLOCKS)];
	size_t what = random_below(random, 1000);

	if (what == 0)
		malloc_trim(0);
	else if (block->address && what < 300)
		block_resize(block, random);
	else if (block->address)
		block_free(block);
	else if (what < 20) /* a mapping of its own, which stays untouched */
		*block = (struct block){ malloc(3 << 20), 0 };
	else
		*block = block_new(random);
}

static void *work(void *number) {
	struct random random = random_for(arguments.seed, (uintptr_t)number);

	for (int moment = 0; moment < MOMENTS; moment++) {
		for (size_t i = 0; i < arguments.operations; i++)
			step(&random, blocks[(uintptr_t)number]);
		pthread_barrier_wait(&still);
		pthread_barrier_wait(&still);
	}
	for (size_t i = 0; i < OWN_BLOCKS; i++)
		free(blocks[(uintptr_t)number][i].address);
	return NULL;
}

/* ---- the program's own account ---- */

/* What all threads hold: bytes they may use, and the most that a size class, or a page of its own and its canary, adds. */
static size_t held(size_t *at_most) {
	size_t bytes = 0;

	*at_most = 0;
	for (size_t t = 0; t < arguments.threads; t++) {
		for (size_t i = 0; i < OWN_BLOCKS; i++) {
			if (!blocks[t][i].address)
				continue;
			size_t usable = malloc_usable_size(blocks[t][i].address);
			bytes += usable;
			*at_most += usable + usable / 8 + (usable > 32768 ? 4096 : 32);
		}
	}
	return bytes;
}

/* The background thread may be moving blocks out of caches at this moment: then they count twice. */
static void check_allocated(size_t others) {
	size_t at_most, bytes = held(&at_most), allocated = 0;

	for (int i = 0; i < TRIES; i++) {
		allocated = read_stats().allocated;
		if (allocated < bytes)
			fail("the program holds %zu bytes, and %zu count as allocated", bytes, allocated);
		if (allocated <= at_most + others)
			return;
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	}
	fail("the program holds %zu bytes, at most %zu in their classes, but %zu count as allocated", bytes, at_most + others,
	     allocated);
}

/* ---- the kernel's ---- */

#ifndef ARENAL_TEST_PREFIX
enum { RANGES_MAX = 1 << 16 };

/* Static: nothing is allocated between two readings. */
static struct range {
	uintptr_t start, end;
} ranges[RANGES_MAX];
static size_t range_count;

static void add_range(uintptr_t start, size_t size) {
	if (size == 0)
		return;
	if (range_count > 0 && ranges[range_count - 1].end == start) {
		ranges[range_count - 1].end += size;
		return;
	}
	CHECK(range_count < RANGES_MAX);
	ranges[range_count++] = (struct range){ start, start + size };
}

/* Arenal's memory for blocks, from its records; but for guarded blocks, and large ones of hardened mode. Returns its bytes. */
static size_t find_ranges(void) {
	const struct address_entry *huge = (const struct address_entry *)arenal_layout.huge_table;
	const struct mapping *kept = (const struct mapping *)arenal_layout.kept_table;
	size_t total = 0;

	range_count = 0;
	for (const struct region *r = (const struct region *)arenal_layout.regions; r; r = r->next) {
		for (size_t i = 0; i < REGION_SLICES; i++) {
			if (r->ours[i / 64] >> (i % 64) & 1)
				add_range(r->base + i * SLICE_SIZE, SLICE_SIZE);
		}
	}
	for (size_t i = 0; i < arenal_layout.huge_capacity; i++) {
		if (huge[i].address > 1)
			add_range(huge[i].address, huge[i].size);
	}
	for (size_t i = 0; i < arenal_layout.kept_capacity; i++)
		add_range((uintptr_t)kept[i].address, kept[i].size);
	for (size_t i = 0; i < range_count; i++)
		total += ranges[i].end - ranges[i].start;
	return total;
}

static size_t pages_in_memory(uintptr_t start, uintptr_t end) {
	static uint64_t entries[1024];
	static int file = -1;
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes = 0;

	if (file < 0)
		file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	CHECK(file >= 0);
	for (uintptr_t at = start; at < end;) {
		size_t count = (end - at) / page < 1024 ? (end - at) / page : 1024;
		CHECK(pread(file, entries, count * 8, (off_t)(at / page * 8)) == (ssize_t)(count * 8));
		for (size_t i = 0; i < count; i++)
			bytes += entries[i] >> 63 ? page : 0;
		at += count * page;
	}
	return bytes;
}

/* Of a mapping with `rss` bytes in memory, those that lie in the ranges. */
static size_t rss_in_ranges(uintptr_t start, uintptr_t end, size_t rss) {
	size_t overlap = 0, bytes = 0;

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < range_count; i++) {
			uintptr_t low = ranges[i].start > start ? ranges[i].start : start;
			uintptr_t high = ranges[i].end < end ? ranges[i].end : end;
			if (low >= high)
				continue;
			if (pass == 0)
				overlap += high - low;
			else
				bytes += pages_in_memory(low, high);
		}
		if (overlap == 0 || overlap == end - start)
			return overlap ? rss : 0;
	}
	return bytes;
}

static size_t rss_of_ranges(void) {
	static char text[1 << 25];
	size_t length = 0, bytes = 0;
	unsigned long start, end, rss;
	int file = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);

	CHECK(file >= 0);
	for (ssize_t n; (n = read(file, text + length, sizeof text - 1 - length)) > 0;)
		length += (size_t)n;
	close(file);
	text[length] = '\0';
	start = end = 0;
	for (char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			continue;
		if (sscanf(line, "Rss: %lu kB", &rss) == 1)
			bytes += rss_in_ranges(start, end, rss * 1024);
	}
	return bytes;
}

/* The background thread may unmap something at this moment. */
static void check_mapped_and_resident(void) {
	const char *setting = getenv("ARENAL_HARDEN");
	const bool hardened = setting && *setting == '1';
	struct arenal_stats s;
	size_t total, least, most;

	for (int i = 0; i < TRIES; i++) {
		s = read_stats();
		total = find_ranges() + (hardened ? s.huge_bytes : 0);
		least = total + s.guarded * 4096;
		/* Freed large blocks of hardened mode that kept their memory are dirty. */
		most = total + s.guarded * SLICE_SIZE + (hardened ? s.dirty : 0);
		if (s.mapped >= least && s.mapped <= most) {
			size_t rss = rss_of_ranges();
			if (rss > s.resident)
				fail("%zu bytes are resident, %zu by the library's account", rss, s.resident);
			return;
		}
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	}
	fail("%zu bytes are mapped, by the library's account %zu, in %zu guarded blocks too", total, s.mapped, s.guarded);
}
#else
static void check_mapped_and_resident(void) {} /* the records are the library's, and its background thread changes them */
#endif

int main(int argc, char **argv) {
	pthread_t reading, threads[THREADS_MAX];

	arguments = read_arguments(argc, argv);
	CHECK(arguments.threads <= THREADS_MAX);
	CHECK(pthread_barrier_init(&still, NULL, (unsigned)arguments.threads + 1) == 0);
	/* What libc and the dynamic linker hold, and what libc is going to for each thread. */
	size_t others = read_stats().allocated + (arguments.threads + 2) * 4096;
	CHECK(pthread_create(&reading, NULL, read_all_the_time, NULL) == 0);
	for (uintptr_t i = 0; i < arguments.threads; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
	for (int moment = 0; moment < MOMENTS; moment++) {
		pthread_barrier_wait(&still);
		pthread_mutex_lock(&reading_turn);
		check_allocated(others);
		check_mapped_and_resident();
		pthread_mutex_unlock(&reading_turn);
		pthread_barrier_wait(&still);
	}
	for (size_t i = 0; i < arguments.threads; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	atomic_store(&stopped, true);
	CHECK(pthread_join(reading, NULL) == 0);
	CHECK(read_stats().allocated <= others);
	CHECK(atomic_load(&readings) >= 100);
	return 0;
}
