/* Programs near the memory that they may have: phases that each need most of it, in blocks that those of the phase before
 * are of no use for. Without eager purging, the free memory of one phase and the blocks of the next one are together too much.
 *
 * near_limit hand|group|phases N: the tests with ARENAL_MEMORY_LIMIT, those with a cgroup, and the program that both start:
 * N threads, together 120 MB in each phase. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define SKIPPED 77

/* A phase takes three fifths of the limit. */
#define LIMIT (200 * MIB)
#define PHASE (120 * MIB)

/* Of the group: what the kernel counts besides (page tables, stacks, the pages that each CPU keeps) differs from machine to
 * machine, and two phases still do not fit. */
#define GROUP_LIMIT (232 * MIB)

/* ---- the program ---- */

enum { MOST_THREADS = 4 };

/* A single thread purges what it frees as long as that is not too dear: the first phases use that allowance up. */
static const size_t sizes[] = { 4000, 4000, 4000, 4000, 4000, 4 * MIB, 200, 2 * MIB, 3000, 4 * MIB, 100000 };

static _Atomic size_t highest;
static pthread_barrier_t barrier;
static unsigned threads;

static void look(void) {
	size_t now = resident_bytes();

	for (size_t seen = highest; now > seen && !atomic_compare_exchange_weak(&highest, &seen, now);)
		;
}

static void phase(size_t size) {
	size_t count = PHASE / threads / size, looks = count / 50 + 1;
	char **blocks = calloc(count, sizeof *blocks);

	CHILD_CHECK(blocks);
	for (size_t i = 0; i < count; i++) {
		blocks[i] = malloc(size);
		CHILD_CHECK(blocks[i]);
		memset(blocks[i], (int)(i % 251), size);
		if (i % looks == 0)
			look();
	}
	pthread_barrier_wait(&barrier); /* all of it at once */
	look();
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < count; i++) {
		CHILD_CHECK(blocks[i][0] == (char)(i % 251) && blocks[i][size - 1] == (char)(i % 251));
		free(blocks[i]);
	}
	free(blocks);
}

static void *run_phases(void *unused) {
	for (size_t round = 0; round < COUNT_OF(sizes); round++) {
		phase(sizes[round]);
		pthread_barrier_wait(&barrier);
	}
	return unused;
}

/* Prints the highest resident set in MiB. */
static int phases(unsigned count) {
	pthread_t others[MOST_THREADS];

	threads = count;
	pthread_barrier_init(&barrier, NULL, count);
	for (unsigned i = 1; i < count; i++)
		CHILD_CHECK(pthread_create(&others[i], NULL, run_phases, NULL) == 0);
	run_phases(NULL);
	for (unsigned i = 1; i < count; i++)
		pthread_join(others[i], NULL);
	printf("%zu\n", highest / MIB);
	return 0;
}

/* ---- the tests ---- */

static const char *program;
static struct outcome outcome;

/* Without looking at any limit, and without giving anything back, by time or for being much: on a slow machine, that may be
 * enough. */
static const char *const without_limit[] = { "ARENAL_MEMORY_LIMIT=-1", "ARENAL_DECAY=-1", "ARENAL_DIRTY_MAX=4G", NULL };

static int start(const char *count, const char *const *settings, void (*before_exec)(void)) {
	const char *const arguments[] = { program, "phases", count, NULL };

	run_program(&outcome, arguments, settings, before_exec);
	return outcome.status;
}

static size_t highest_of(const char *count, const char *const *settings) {
	int status = start(count, settings, NULL);

	if (status != 0)
		fail_msg("the program ended with %d: %s", status, outcome.err);
	return strtoul(outcome.out, NULL, 10);
}

static void stays_below_a_limit_set_by_hand(void **state) {
	(void)state;
	static const char *const counts[] = { "1", "4" };

	for (size_t i = 0; i < COUNT_OF(counts); i++) {
		size_t without = highest_of(counts[i], without_limit);
		size_t with = SIZE_MAX;
		for (int attempts = 3; attempts > 0 && with > LIMIT / MIB * 11 / 10; attempts--)
			with = highest_of(counts[i], (const char *[]){ "ARENAL_MEMORY_LIMIT=200M", NULL });
		print_message("%s threads: %zu MiB with the limit, %zu without\n", counts[i], with, without);
		/* On a busy machine, the thread that looks may be late, by much when it gets no CPU: not three times. */
		assert_true(without > LIMIT / MIB * 6 / 5);
		assert_true(with <= LIMIT / MIB * 11 / 10);
	}
}

/* It is no cap: who needs more gets more. */
static void a_limit_that_is_too_small_fails_nothing(void **state) {
	(void)state;
	assert_true(highest_of("1", (const char *[]){ "ARENAL_MEMORY_LIMIT=64M", NULL }) >= PHASE / MIB);
	assert_true(highest_of("4", (const char *[]){ "ARENAL_MEMORY_LIMIT=1", NULL }) >= PHASE / MIB);
}

/* ---- a cgroup of our own, v1 or v2 ---- */

static char directory[300];

static bool write_to(const char *name, const char *value) {
	char path[400];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	int file = open(path, O_WRONLY | O_CLOEXEC);
	bool done = file >= 0 && write(file, value, strlen(value)) == (ssize_t)strlen(value);

	if (file >= 0)
		close(file);
	return done;
}

static bool make_group(const char *parent, const char *limit_name) {
	char value[32];

	snprintf(directory, sizeof directory, "%s/arenal-near-limit-%d", parent, (int)getpid());
	if (mkdir(directory, 0755) != 0)
		return false;
	snprintf(value, sizeof value, "%zu", GROUP_LIMIT);
	if (write_to(limit_name, value)) {
		/* Where there is swap, the limit would kill nobody. */
		write_to("memory.swap.max", "0");
		write_to("memory.memsw.limit_in_bytes", value);
		return true;
	}
	rmdir(directory);
	return false;
}

static int remove_group(void **state) {
	(void)state;
	for (int i = 0; i < 500; i++) {
		if (rmdir(directory) == 0 || errno != EBUSY)
			return 0;
		usleep(10000); /* the dead leave it a moment later */
	}
	return -1;
}

static void join_group(void) {
	/* Whoever is killed here should be this one. */
	int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (file >= 0) {
		ssize_t ignored = write(file, "1000", 4);
		(void)ignored;
		close(file);
	}
	CHILD_CHECK(write_to("cgroup.procs", "0"));
}

static void survives_in_a_group(void **state) {
	(void)state;
	static const char *const counts[] = { "1", "4" };

	for (size_t i = 0; i < COUNT_OF(counts); i++) {
		assert_int_equal(start(counts[i], without_limit, join_group), 128 + SIGKILL);
		int status = start(counts[i], (const char *[]){ "ARENAL_MEMORY_LIMIT", NULL }, join_group);
		if (status != 0)
			fail_msg("%s threads: the program ended with %d: %s", counts[i], status, outcome.err);
		print_message("%s threads: at most %s", counts[i], outcome.out);
	}
}

int main(int argc, char **argv) {
	const struct CMUnitTest by_hand[] = {
		cmocka_unit_test(stays_below_a_limit_set_by_hand),
		cmocka_unit_test(a_limit_that_is_too_small_fails_nothing),
	};
	const struct CMUnitTest in_group[] = { cmocka_unit_test(survives_in_a_group) };

	program = argv[0];
	if (argc > 2)
		return phases((unsigned)atoi(argv[2]));
	if (argc < 2 || strcmp(argv[1], "group") != 0)
		return cmocka_run_group_tests(by_hand, require_arenal, NULL);
	if (!make_group("/sys/fs/cgroup/memory", "memory.limit_in_bytes") && !make_group("/sys/fs/cgroup", "memory.max"))
		return puts("skipped: no cgroup whose memory may be limited"), SKIPPED;
	return cmocka_run_group_tests(in_group, require_arenal, remove_group);
}
