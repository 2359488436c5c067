/* What no program may do with blocks: the library ends the program with one line that names the function,
 * the address and what is known of it, when the function is called. What is found later: misuse_marks.c. */
#include "misuse.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void free_inside(void *argument) {
	const struct misuse *misuse = argument;

	give(misuse, take(misuse->size) + misuse->offset);
}

static void addresses_inside_of_blocks(void **state) {
	static const char *const words[] = { "block", "large block", "huge block" };

	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples); i++) {
			size_t offsets[] = { 1, 8, 16, 4096, samples[i].size - 1 };
			for (size_t o = 0; o < COUNT_OF(offsets); o++) {
				struct misuse misuse = { &ways[w], samples[i].size, offsets[o] };
				if (offsets[o] == 0 || (offsets[o] >= samples[i].size && offsets[o] > 8))
					continue;
				const char *line = end_of(free_inside, &misuse, ways[w].name);
				if (samples[i].kind == SMALL)
					expect_line(line, "the address is not the start of a block: it lies %zu bytes into the block of %zu bytes "
					            "at 0x%" PRIxPTR ", arena 0", misuse.offset, shared->usable, (uintptr_t)shared->block);
				else
					expect_line(line, "the address is not the start of a block: it lies %zu bytes into the %s of %zu bytes "
					            "at 0x%" PRIxPTR, misuse.offset, words[samples[i].kind], shared->usable, (uintptr_t)shared->block);
			}
		}
}

static void free_behind_the_last(void *way) {
	struct misuse misuse = { way, 48, 0 };

	give(&misuse, (char *)((uintptr_t)take(48) | 65535) + 1 - 65536 % 48);
}

static void addresses_behind_the_last_block(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++) {
		const char *line = end_of(free_behind_the_last, (void *)&ways[w], ways[w].name);
		expect_line(line, "the address is not a block: it lies behind the last of the blocks of 48 bytes at 0x%" PRIxPTR ", arena 0",
		            (uintptr_t)shared->block & ~(uintptr_t)65535);
	}
}

static void free_of_an_address(void *argument) {
	static char bytes[100000];
	const struct misuse *misuse = argument;
	char local[1000];
	void *mapping = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *const pointers[] = { bytes + 16, local + 16, mapping, (char *)16, (char *)0x123456789ab0, (char *)~(uintptr_t)15,
		                       (char *)((uintptr_t)1 << 63) };

	CHILD_CHECK(mapping != MAP_FAILED);
	take(100);
	give(misuse, pointers[misuse->offset]);
}

static void addresses_that_are_no_blocks(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < 7; i++) {
			struct misuse misuse = { &ways[w], 0, i };
			expect_line(end_of(free_of_an_address, &misuse, ways[w].name), "the address is not a block, nor in memory that blocks are in");
		}
}

static void give_twice(void *argument) {
	const struct misuse *misuse = argument;
	char *block = take(misuse->size), *others[3];

	for (size_t i = 0; i < COUNT_OF(others); i++)
		others[i] = unknown(malloc(misuse->size));
	free(block);
	for (size_t i = 0; i < misuse->offset; i++)
		free(others[i]);
	give(misuse, block);
}

/* What was unmapped is no memory of ours any more: mappings, and the window of the break (64 MiB) that nothing but
 * this run lay in. Where windows begin is chance: the break starts anywhere. */
static bool may_be_gone(enum kind kind) {
	return kind == HUGE || (kind != SMALL && (uintptr_t)shared->block % (64 * MIB) == 0);
}

static void expect_freed(const char *line, enum kind kind, const char *place) {
	if (kind == SMALL)
		expect_line(line, "the block of %zu bytes, arena 0, was freed already, and is %s", shared->usable, place);
	else if (!strstr(line, "freed already") && !(may_be_gone(kind) && strstr(line, "nor in memory that blocks are in")))
		fail_msg("not expected: \"%s\"", line);
}

/* free does not look at a small block: it knows the one that was freed last, and large ones. realloc reads it anyway. */
static bool is_found_at_once(const struct way *way, enum kind kind) {
	return kind != SMALL || way->does == MOVES;
}

static void blocks_that_are_free_already(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples); i++)
			for (size_t others = 0; others <= 3; others += 3) {
				struct misuse misuse = { &ways[w], samples[i].size, others };
				if (others > 0 && !is_found_at_once(&ways[w], samples[i].kind))
					continue;
				expect_freed(end_of(give_twice, &misuse, ways[w].name), samples[i].kind, "in the cache of this thread");
			}
}

/* So many blocks are freed after it that it leaves the cache; others of its span are in use. */
static void give_twice_much_later(void *argument) {
	const struct misuse *misuse = argument;
	static char *blocks[20000];
	char *block = take(misuse->size);

	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		blocks[i] = unknown(malloc(misuse->size));
	free(block);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		if (i % 100 != 0)
			free(blocks[i]);
	give(misuse, block);
}

static void blocks_that_are_back_in_their_arena(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++) {
		struct misuse misuse = { &ways[w], 24, 0 };
		if (!is_found_at_once(&ways[w], SMALL))
			continue;
		expect_freed(end_of(give_twice_much_later, &misuse, ways[w].name), SMALL, "back in its arena");
	}
}

static __attribute__((noreturn)) void *free_and_wait(void *block) {
	/* The first free of a thread goes past its cache. */
	free(unknown(malloc(malloc_usable_size(block))));
	free(block);
	shared->pointer = NULL;
	for (;;)
		pause();
}

static void give_after_another_thread(void *argument) {
	const struct misuse *misuse = argument;
	char *block = take(misuse->size);
	pthread_t thread;

	shared->pointer = block;
	CHILD_CHECK(pthread_create(&thread, NULL, free_and_wait, block) == 0);
	while (*(char *volatile *)&shared->pointer)
		usleep(1000);
	give(misuse, block);
}

static void blocks_in_the_cache_of_another_thread(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples); i++) {
			struct misuse misuse = { &ways[w], samples[i].size, 0 };
			if (!is_found_at_once(&ways[w], samples[i].kind))
				continue;
			expect_freed(end_of(give_after_another_thread, &misuse, ways[w].name), samples[i].kind, "in the cache of another thread");
		}
}

static void give_again(void *argument) {
	give(argument, shared->block);
}

/* Freed before the fork, and once more by the child. */
static void blocks_that_were_freed_before_a_fork(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples); i++) {
			struct misuse misuse = { &ways[w], samples[i].size, 0 };
			if (!is_found_at_once(&ways[w], samples[i].kind))
				continue;
			free(take(misuse.size));
			expect_freed(end_of(give_again, &misuse, ways[w].name), samples[i].kind, "in the cache of this thread");
		}
}

/* A block may well hold what lies in free ones, and is no free one for that. */
static void copies_of_free_blocks_are_blocks(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(samples) && samples[i].kind == SMALL; i++) {
		size_t size = samples[i].size < 16 ? 16 : samples[i].size;
		char *block = unknown(malloc(size)), *copy = unknown(malloc(size)), *third = unknown(malloc(size));
		free(block);
		memcpy(copy, block, size);
		memcpy(third, block, size);
		assert_true(malloc_usable_size(copy) >= size);
		free(copy);
		third = realloc(third, 3 * size);
		assert_non_null(third);
		free(third);
	}
}

static void write_to_nothing(void *unused) {
	(void)unused;
	signal(SIGSEGV, SIG_DFL); /* not cmocka's handler */
	*(volatile char *)unknown(malloc(0)) = 1;
}

static void give_nothing_twice(void *way) {
	struct misuse misuse = { way, 0, 0 };
	char *block = take(0);

	free(block);
	give(&misuse, block);
}

static void blocks_of_no_bytes(void **state) {
	static char *blocks[100000];

	(void)state;
	assert_int_equal(run_in_child(write_to_nothing, NULL), 128 + SIGSEGV);
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		expect_line(end_of(give_nothing_twice, (void *)&ways[w], ways[w].name),
		            "the block of no bytes was freed already");
	/* More than there are addresses for: all are different. */
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(0);
		assert_non_null(blocks[i]);
		if (malloc_usable_size(blocks[i]) > 0) {
			assert_int_equal(blocks[i][0], blocks[i][0]);
			*(size_t *)blocks[i] = i;
		}
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		if (malloc_usable_size(blocks[i]) > 0)
			assert_int_equal(*(size_t *)blocks[i], i);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free_sized_(blocks[i], 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_inside_of_blocks),
		cmocka_unit_test(addresses_behind_the_last_block),
		cmocka_unit_test(addresses_that_are_no_blocks),
		cmocka_unit_test(blocks_that_are_free_already),
		cmocka_unit_test(blocks_that_are_back_in_their_arena),
		cmocka_unit_test(blocks_in_the_cache_of_another_thread),
		cmocka_unit_test(blocks_that_were_freed_before_a_fork),
		cmocka_unit_test(copies_of_free_blocks_are_blocks),
		cmocka_unit_test(blocks_of_no_bytes),
	};

	return cmocka_run_group_tests(tests, find_functions, NULL);
}
