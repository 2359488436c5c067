/* The stacks of the heap profile: how deep they are, and what happens when there are more than it tells
 * apart. */
#include "profile.h"

#include <arenal/arenal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void deep_recursion(int depth) {
	if (depth > 0)
		deep_recursion(depth - 1);
	else
		free(site_200());
	sink = NULL; /* no tail call */
}

static void deep_stacks_are_cut(void **state) {
	(void)state;
	start_exactly();
	deep_recursion(40);
	deep_recursion(4000);
	arenal_profile_stop();
	char *line = dump_text();
	size_t found = 0, longest = 0;
	while ((line = strstr(line, "stack ")) != NULL) {
		size_t frames = 0;
		for (line += 6; *line != '\n'; line++) frames += *line == ' ';
		longest = longest > frames - 3 ? longest : frames - 3;
		found++;
	}
	assert_true(found >= 2);
	assert_int_equal(longest, 64);
}

/* ---- more stacks than are told apart ---- */

enum { STACKS = 16384, MANY = 20000, BITS = 15 };
static void *many[MANY];

/* Each path of so many bits is a stack of its own. */
NOINLINE void *by_path(unsigned path, int bits) {
	void *block;
	if (bits == 0)
		block = site_200();
	else if (path & 1)
		block = by_path(path >> 1, bits - 1);
	else
		block = by_path(path >> 1, bits - 1), sink = NULL;
	sink = block; /* no tail call */
	return block;
}

/* Of the dump: its stacks, and what is in the one that stands for all others. */
static struct counts others(size_t *stacks) {
	struct counts c, found = { 0 };
	*stacks = 0;
	for (char *line = dump_text(), *next; line != NULL; line = next) {
		int end = 0;
		next = cut_line(line);
		if (strncmp(line, "stack ", 6) == 0) ++*stacks;
		if (sscanf(line, "stack %lf %lf %lf %lf 0%n", &c.live_blocks, &c.live_bytes, &c.total_blocks,
		           &c.total_bytes, &end) == 4 &&
		    end > 0 && line[end] == 0)
			found = c;
	}
	return found;
}

static size_t metadata(void) {
	struct arenal_stats stats;
	arenal_stats_get(&stats, sizeof stats);
	return stats.metadata;
}

static void stacks_are_bounded(void **state) {
	(void)state;
	size_t stacks, before = 0;
	for (int round = 0; round < 2; round++) {
		start_exactly();
		void *lives = site_1040(), *larger = site_5000();
		for (unsigned i = 0; i < MANY; i++) free(by_path(i, BITS));
		/* All are counted, whatever lives has kept its stack, and so has the last one that came. */
		assert_counts((const void *)site_200, 0, 0, MANY - others(&stacks).total_blocks);
		assert_true(others(&stacks).total_blocks >= MANY - STACKS && others(&stacks).live_blocks == 0);
		assert_true(stacks <= STACKS);
		assert_counts((const void *)site_1040, 1, 1040, 1);
		assert_counts((const void *)site_5000, 1, 5000, 1);
		free(site_16());
		assert_counts((const void *)site_16, 0, 0, 1);
		free(lives);
		free(larger);
		arenal_profile_stop();
		if (round == 0) before = metadata();
	}
	assert_int_equal(metadata(), before);
}

/* Where all of them hold something, none gives its place. */
static void further_stacks_are_one(void **state) {
	(void)state;
	size_t stacks;
	for (int round = 0; round < 2; round++) {
		start_exactly();
		for (unsigned i = 0; i < MANY; i++) many[i] = by_path(i, BITS);
		const struct counts c = others(&stacks);
		assert_int_equal(stacks, STACKS);
		assert_true(c.live_blocks >= MANY - STACKS && c.live_blocks < MANY - STACKS + 100);
		assert_true(c.live_bytes == 200 * c.live_blocks && c.total_blocks == c.live_blocks);
		assert_counts((const void *)site_200, MANY - c.live_blocks, 200 * (MANY - c.live_blocks), MANY - c.live_blocks);
		for (unsigned i = 0; i < MANY; i++) free(many[i]);
		assert_true(others(&stacks).live_blocks == 0);
		void *block = site_1040();
		assert_counts((const void *)site_1040, 1, 1040, 1);
		free(block);
		arenal_profile_stop();
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deep_stacks_are_cut),
		cmocka_unit_test(stacks_are_bounded),
		cmocka_unit_test(further_stacks_are_one),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
