/* How much of its address space Arenal takes: little in a process that uses little, for processes limit theirs at any time, are
 * ended by managers that look at its size, and are dumped. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

#define WITH_LIBC "LD_PRELOAD"

static size_t idle_most = 64, limit_least = 30; /* MiB */

static void expect_success(const char *mib, const char *thread, const char *change) {
	const char *arguments[] = { LIMITED_PROGRAM, mib, thread, NULL }, *changes[] = { change, NULL };
	struct outcome outcome;
	run_program(&outcome, arguments, changes, NULL);
	if (outcome.status != 0) fail_msg("limit of %s MiB, %s: status %d: %s", mib, change, outcome.status, outcome.err);
	assert_string_equal(outcome.err, "");
}

static void limits_set_from_inside(void **state) {
	(void)state;
	/* The last one with a second thread, whose first block takes libc's malloc 128 MiB. */
	static const char *const limits[][2] = { { "30" }, { "100" }, { "512", "thread" } };
	for (size_t i = 0; i < COUNT_OF(limits); i++) {
		if (strtoul(limits[i][0], NULL, 10) < limit_least) continue;
		expect_success(limits[i][0], limits[i][1], WITH_LIBC); /* the test asks for nothing that libc's malloc has not */
		expect_success(limits[i][0], limits[i][1], NULL);
		/* The library starts before the program's first malloc then. */
		expect_success(limits[i][0], limits[i][1], "ARENAL_TOP_PAD=64K");
	}
}

static void tell(const char *change, size_t *kib, size_t *unused) {
	const char *arguments[] = { LIMITED_PROGRAM, NULL }, *changes[] = { change, NULL };
	struct outcome outcome;
	run_program(&outcome, arguments, changes, NULL);
	assert_int_equal(outcome.status, 0);
	assert_int_equal(sscanf(outcome.out, "%zu %zu", kib, unused), 2);
}

static void an_idle_process_takes_little(void **state) {
	(void)state;
	size_t ours, libcs, unused;
	tell(WITH_LIBC, &libcs, &unused);
	tell(NULL, &ours, &unused);
	assert_in_range(ours, libcs, libcs + idle_most * 1024);
	assert_int_equal(unused, 0);
}

/* LEAST MOST: limits from LEAST MiB on; an idle process takes MOST MiB more than with libc's. Guarded, there is a pool of 16 MiB
 * before the program sets its limit. Hardened, small blocks lie in a region of their own, of which free slices are reserved. */
int main(int argc, char **argv) {
	if (argc > 2) limit_least = strtoul(argv[1], NULL, 10), idle_most = strtoul(argv[2], NULL, 10);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_set_from_inside),
		cmocka_unit_test(an_idle_process_takes_little),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
