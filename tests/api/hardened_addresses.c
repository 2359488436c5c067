/* Hardened mode: when the addresses and the memory of freed blocks come back, which is late, and what that
 * leaves to a process with few addresses or little memory, and to children. Runs with ARENAL_HARDEN=1. */
#include "hardened.h"

#include <arenal/arenal.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Large blocks of one length come back with their memory, but late, and cleared. */
static void large_blocks_come_back(void **state) {
	(void)state;
	enum { ROUNDS = 200, LATE = 8 };
	static char *freed[ROUNDS];
	const size_t length = 100000;
	size_t again = 0;
	for (int n = 0; n < ROUNDS; n++) {
		freed[n] = unknown(malloc(length));
		for (size_t i = 0; i < length; i++)
			if (freed[n][i] != 0) fail_msg("round %d: byte %zu does not read as zero", n, i);
		memset(freed[n], 'A', length);
		for (int before = 0; before < n; before++) {
			if (freed[before] != freed[n]) continue;
			again++;
			assert_true(n - before >= LATE);
		}
		free(freed[n]);
	}
	assert_true(again > 0);
	assert_int_equal(malloc_trim(0), 1); /* their memory goes back */
	assert_int_equal(malloc_trim(0), 0);
}

/* So do the addresses of longer ones, of any length, and those that realloc has moved a block away from,
 * which is two addresses a round: after `late` rounds. */
static void check_late(size_t length, size_t moved_to, int late) {
	enum { ROUNDS = 60 };
	static char *freed[ROUNDS];
	for (int n = 0; n < ROUNDS; n++) {
		freed[n] = unknown(malloc(length));
		for (int before = n - late < 0 ? 0 : n - late; before < n; before++)
			if (freed[before] == freed[n])
				fail_msg("%zu bytes, moved to %zu: round %d has the address of round %d", length, moved_to, n,
				         before);
		char *last = moved_to > 0 ? realloc(unknown(freed[n]), moved_to) : freed[n];
		assert_true(last && (moved_to == 0 || last != freed[n]));
		free(last);
	}
}

static void addresses_of_long_blocks_come_back_late(void **state) {
	(void)state;
	check_late(100000, 300000, 4);
	check_late(7 * MIB, 0, 8);
	check_late(7 * MIB, 14 * MIB, 4);
	check_late(9 * MIB, 0, 8);
	check_late(9 * MIB, 18 * MIB, 4);
	/* Not so many, for all that wait are no more than 256 MiB, but for one alone. */
	check_late(64 * MIB, 0, 3);
	check_late(64 * MIB, 128 * MIB, 1);
	check_late(1000 * MIB, 0, 1);
	malloc_trim(0);
}

static bool moved; /* the block that is freed twice was realloc's */

static void free_twice_beside_the_next(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size)), *copy = unknown(block);
	free(moved ? realloc(block, 2 * size) : block);
	/* Who gets that address next would be the one whose block goes. */
	for (int i = 0; i < 7; i++) unknown(malloc(size));
	free(copy);
}

static void long_blocks_freed_twice(void **state) {
	(void)state;
	static const size_t lengths[] = { 100000, 5 * MIB, 9 * MIB, 64 * MIB, 1000 * MIB };
	/* The last one waits until the next free only. */
	for (size_t i = 0; i < 2 * COUNT_OF(lengths) - 1; i++) {
		size = lengths[i / 2];
		moved = i % 2 != 0;
		expect_end(free_twice_beside_the_next, SIGABRT, "was freed already");
	}
	moved = false;
}

/* Beyond so many large blocks, new ones have no guards. */
static void free_twice_without_guards(void *unused) {
	enum { MANY = 8500 };
	for (int i = 0; i < MANY; i++) unknown(malloc(33000));
	free_twice_beside_the_next(unused);
}

static void blocks_without_guards_freed_twice(void **state) {
	(void)state;
	size = 33000;
	expect_end(free_twice_without_guards, SIGABRT, "was freed already");
}

/* A process with a limit of address space keeps most of it for itself: other mappings of the program are
 * not to fail. */
static void map_under_a_limit(void *unused) {
	(void)unused;
	limit_address_space(virtual_bytes() + 1024 * MIB);
	for (int i = 0; i < 100; i++) free(unknown(malloc(100 * MIB)));
	CHILD_CHECK(mmap(NULL, 700 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

/* A malloc that fails has given back all that waits, the parent's, too. */
static void start_without_addresses(void) {
	CHILD_CHECK(unknown(malloc(((size_t)1 << 47) - 4096)) == NULL);
	free(unknown(malloc(100)));
}

static void free_ordinary_ones_under_a_limit(void *unused) {
	(void)unused;
	start_without_addresses();
	limit_address_space(virtual_bytes() + 400 * MIB);
	for (size_t i = 0; i < 150; i++) free(unknown(malloc(MIB + i * 4096)));
	CHILD_CHECK(mmap(NULL, 300 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

/* Any process may limit its addresses, at any time: they are few before that, too. */
static void limit_later(void *unused) {
	(void)unused;
	static const size_t lengths[] = { MIB, 9 * MIB, 64 * MIB, 200 * MIB, 250 * MIB, 3000 * MIB };
	start_without_addresses();
	const size_t before = virtual_bytes();
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		for (size_t n = 0; n < 40; n++) free(unknown(malloc(lengths[i] + n * 4096)));
	CHILD_CHECK(virtual_bytes() < before + 400 * MIB);
	/* One that grows. */
	char *block = NULL;
	for (size_t length = MIB; length < 3000 * MIB; length += length / 4)
		CHILD_CHECK((block = realloc(block, length)) != NULL);
	free(block);
	CHILD_CHECK(virtual_bytes() < before + 400 * MIB);
	/* The one that waits alone, and when it does no more. */
	free(unknown(malloc(900 * MIB)));
	CHILD_CHECK(virtual_bytes() < before + 1100 * MIB);
	free(unknown(malloc(100000)));
	CHILD_CHECK(virtual_bytes() < before + 400 * MIB);
	limit_address_space(before + 1024 * MIB);
	CHILD_CHECK(mmap(NULL, 600 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static void addresses_that_wait_leave_room_under_a_limit(void **state) {
	(void)state;
	assert_int_equal(run_in_child(map_under_a_limit, NULL), 0);
	assert_int_equal(run_in_child(free_ordinary_ones_under_a_limit, NULL), 0);
	assert_int_equal(run_in_child(limit_later, NULL), 0);
}

/* A child has arenas of its own. Those that it inherited, from all generations, are not in use, and one
 * line of the table. */
static void print_after_generations(void *unused) {
	(void)unused;
	size_t arenas = 0;
	for (int generation = 1; generation <= 6; generation++) {
		const pid_t child = fork();
		int status;
		if (child > 0) _exit(waitpid(child, &status, 0) == child && status == 0 ? 0 : 1);
		CHILD_CHECK(child == 0);
		free(unknown(malloc(100)));
		struct arenal_stats stats;
		CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0 &&
		            (generation == 1 || stats.arenas == arenas));
		arenas = stats.arenas;
	}
	malloc_stats();
}

static void inherited_arenas_are_not_counted(void **state) {
	(void)state;
	int status;
	const char *text = written_by_child(print_after_generations, NULL, &status),
			   *end = strstr(text, "\n size");
	assert_int_equal(status, 0);
	assert_non_null(end);
	int lines = 0;
	for (const char *line = strstr(text, " guarded  "); (line = strstr(line, " guarded ")) && line < end;
	     line++)
		lines++;
	assert_int_equal(lines, 3); /* the number of guarded blocks, the arena, what was inherited */
}

static void come_near_the_limit(void *unused) {
	(void)unused;
	enum { COUNT = 50 };
	char *blocks[COUNT];
	CHILD_CHECK(arenal_set("memory_limit", (int64_t)MIB) == 0);
	for (int i = 0; i < COUNT; i++) blocks[i] = unknown(malloc(100000));
	for (int i = 0; i < COUNT; i++) free(blocks[i]);
	CHILD_CHECK(unknown(malloc(20 * MIB)) != NULL); /* so much that the limit is looked at */
	struct arenal_stats stats;
	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0 && stats.dirty < 2 * MIB);
}

static void freed_blocks_are_not_kept_near_the_limit(void **state) {
	(void)state;
	assert_int_equal(run_in_child(come_near_the_limit, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		/* First: its limit has not been looked for yet. */
		cmocka_unit_test(freed_blocks_are_not_kept_near_the_limit),
		cmocka_unit_test(large_blocks_come_back),
		cmocka_unit_test(addresses_of_long_blocks_come_back_late),
		cmocka_unit_test(long_blocks_freed_twice),
		cmocka_unit_test(blocks_without_guards_freed_twice),
		cmocka_unit_test(addresses_that_wait_leave_room_under_a_limit),
		cmocka_unit_test(inherited_arenas_are_not_counted),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
