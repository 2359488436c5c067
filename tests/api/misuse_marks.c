/* What malloc finds: free blocks that were written to, and blocks that were freed twice. The program ends before such a block is handed
 * out, or, if it asks for that, goes on without it. */
#include "misuse.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void expect_lost(const char *line) {
	expect_line(line, "the free block of %zu bytes was written to after it was freed, or was freed twice and is in use", shared->usable);
}

/* ---- freed twice ---- */

/* For each function that frees and each size of small blocks. */
static void expect_end_in_malloc(void (*body)(void *)) {
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples) && samples[i].kind == SMALL; i++) {
			struct misuse misuse = { &ways[w], samples[i].size, 0 };
			if (ways[w].does == FREES)
				expect_lost(end_of(body, &misuse, "malloc"));
		}
}

/* Blocks until one is the second time that it would be handed out: that must not come. */
static void take_until_the_end(size_t size) {
	int times = 0;

	for (int i = 0; i < 100000; i++) {
		char *block = malloc(size);
		CHILD_CHECK(block);
		times += block == shared->pointer;
		memset(unknown(block), 0x44, size);
		CHILD_CHECK(times <= 1);
	}
}

static void give_with_others_between(void *argument) {
	const struct misuse *misuse = argument;
	char *block = take(misuse->size), *others[3];

	for (size_t i = 0; i < COUNT_OF(others); i++)
		others[i] = unknown(malloc(misuse->size));
	free(block);
	for (size_t i = 0; i < COUNT_OF(others); i++)
		free(others[i]);
	give(misuse, block);
	take_until_the_end(misuse->size);
}

static void blocks_freed_twice_with_others_between(void **state) {
	(void)state;
	expect_end_in_malloc(give_with_others_between);
}

/* So many blocks are freed after it that it leaves the cache; others of its span are in use. */
enum { MANY = 20000 };
static char *many[MANY];

static void free_many_after(char *block, size_t size) {
	for (size_t i = 0; i < MANY; i++)
		many[i] = unknown(malloc(size));
	free(block);
	for (size_t i = 0; i < MANY; i++)
		if (i % 100 != 0)
			free(many[i]);
}

static void give_much_later(void *argument) {
	const struct misuse *misuse = argument;
	char *block = take(misuse->size);

	free_many_after(block, misuse->size);
	give(misuse, block);
	take_until_the_end(misuse->size);
}

/* It gets back to its arena once more. */
static void give_and_trim(void *argument) {
	const struct misuse *misuse = argument;
	char *block = take(misuse->size);

	free_many_after(block, misuse->size);
	give(misuse, block);
	malloc_trim(0);
}

static void blocks_freed_twice_that_are_back_in_their_arena(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++) {
		struct misuse misuse = { &ways[w], 24, 0 };
		if (ways[w].does != FREES)
			continue;
		expect_lost(end_of(give_much_later, &misuse, "malloc"));
		expect_line(end_of(give_and_trim, &misuse, "free"), "the block of %zu bytes, arena 0, was freed already, and is back in its arena",
		            shared->usable);
	}
}

/* ... and whose page went back to the kernel. */
static void give_after_a_purge(void *argument) {
	const struct misuse *misuse = argument;
	const uintptr_t near = 2 * (uintptr_t)sysconf(_SC_PAGESIZE);
	char *block = take(misuse->size);

	free_many_after(block, misuse->size);
	for (size_t i = 0; i < MANY; i += 100)
		if ((uintptr_t)many[i] - (uintptr_t)block + near < 2 * near)
			free(many[i]);
	malloc_trim(0);
	give(misuse, block);
	take_until_the_end(misuse->size);
}

static void blocks_freed_twice_whose_page_went_back(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++) {
		struct misuse misuse = { &ways[w], 24, 0 };
		if (ways[w].does == FREES)
			expect_lost(end_of(give_after_a_purge, &misuse, "malloc"));
	}
}

/* ---- by two threads ---- */

static pthread_barrier_t both;

static void wait_for_other(void) {
	pthread_barrier_wait(&both);
}

/* Frees the block into its own cache, and allocates when the other one has freed it as well, and got it back. */
static void *free_and_take_later(void *argument) {
	const struct misuse *misuse = argument;

	free(unknown(malloc(misuse->size))); /* the first free of a thread goes past its cache */
	free(shared->block);
	wait_for_other();
	wait_for_other();
	if (misuse->offset == 0)
		take_until_the_end(misuse->size);
	return NULL; /* and its cache goes back */
}

static void give_after_another_thread(void *argument) {
	const struct misuse *misuse = argument;
	char *block = take(misuse->size);
	pthread_t thread;

	free(unknown(malloc(misuse->size))); /* there is room for it */
	CHILD_CHECK(pthread_barrier_init(&both, NULL, 2) == 0);
	CHILD_CHECK(pthread_create(&thread, NULL, free_and_take_later, argument) == 0);
	wait_for_other();
	give(misuse, block);
	CHILD_CHECK(malloc(misuse->size) == block);
	memset(block, 0x33, misuse->size);
	wait_for_other();
	pthread_join(thread, NULL);
	take_until_the_end(misuse->size);
}

static void blocks_freed_by_two_threads(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples) && samples[i].kind == SMALL; i++)
			for (size_t ends = 0; ends <= 1; ends++) {
				struct misuse misuse = { &ways[w], samples[i].size, ends };
				if (ways[w].does == FREES)
					expect_lost(end_of(give_after_another_thread, &misuse, "malloc"));
			}
}

/* ---- before and after a fork ---- */

static void give_after_the_fork(void *argument) {
	const struct misuse *misuse = argument;

	free(unknown(malloc(misuse->size)));
	char *other = unknown(malloc(misuse->size)), *another = unknown(malloc(misuse->size));
	CHILD_CHECK(other == shared->block);
	free(other);
	free(another);
	give(misuse, shared->block);
	take_until_the_end(misuse->size);
}

static void blocks_freed_before_a_fork(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples) && samples[i].kind == SMALL; i++) {
			struct misuse misuse = { &ways[w], samples[i].size, 0 };
			if (ways[w].does != FREES)
				continue;
			free(take(misuse.size));
			expect_lost(end_of(give_after_the_fork, &misuse, "malloc"));
		}
}

/* ---- written to ---- */

static void *by_calloc(size_t size) { return calloc(1, size); }
static void *by_realloc(size_t size) { return realloc(NULL, size); }
static void *by_new(size_t size) { return new_(size); }
static void *by_aligned_alloc(size_t size) { return aligned_alloc(size % 64 == 0 ? 64 : 16, size); }
static void *(*const functions[])(size_t) = { malloc, by_calloc, by_realloc, by_new, by_aligned_alloc };

struct written {
	void *(*allocate)(size_t);
	size_t size;
	uint64_t value;
};

static void write_to_a_free_block(void *argument) {
	const struct written *written = argument;
	char *block = take(written->size);

	shared->pointer = block;
	free(block);
	((uint64_t *)block)[1] = written->value;
	CHILD_CHECK(!written->allocate(shared->usable)); /* the program ends in there */
}

static void writes_to_free_blocks(void **state) {
	static const uint64_t values[] = { 0, 1, UINT64_MAX, 0x5555555555555555 };

	(void)state;
	for (size_t f = 0; f < COUNT_OF(functions); f++)
		for (size_t i = 0; i < COUNT_OF(samples) && samples[i].kind == SMALL; i++)
			for (size_t v = 0; v < COUNT_OF(values); v++) {
				struct written written = { functions[f], samples[i].size, values[v] };
				expect_lost(end_of(write_to_a_free_block, &written, "malloc"));
			}
}

/* ---- the program goes on ---- */

static int64_t action; /* that the child asks for */

static bool has_only(const char *block, char byte, size_t size) {
	for (size_t i = 0; i < size; i++)
		if (block[i] != byte)
			return false;
	return true;
}

/* Two of them: what is said is said once. */
static void go_on_without(void *argument) {
	const size_t size = *(const size_t *)argument;
	char *written = take(size), *twice = unknown(malloc(size)), *other = unknown(malloc(size));

	shared->pointer = written;
	CHILD_CHECK(set("misuse", action) == 0);
	free(written);
	memset(written, 0x11, shared->usable);
	CHILD_CHECK(malloc(size) != written);
	free(twice);
	free(other);
	free(twice);
	CHILD_CHECK(malloc(size) == twice);
	memset(twice, 0x22, shared->usable);
	for (int i = 0; i < 20000; i++) {
		char *block = malloc(size);
		CHILD_CHECK(block && block != written && block != twice);
		memset(block, 0x33, size);
	}
	CHILD_CHECK(has_only(written, 0x11, shared->usable) && has_only(twice, 0x22, shared->usable));
}

static void blocks_are_left_alone_when_the_program_is_to_go_on(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(samples) && samples[i].kind == SMALL; i++)
		for (action = MISUSE_IGNORE; action <= MISUSE_REPORT; action++) {
			int status;
			const char *text = written_by_child(go_on_without, (void *)&samples[i].size, &status);

			if (action == MISUSE_IGNORE) {
				if (status != 0 || *text != '\0')
					fail_msg("ended with %d and wrote \"%s\"", status, text);
				continue;
			}
			const char *line = behind_name(text, "malloc");
			if (status != 0 || !strstr(line, "was written to after it was freed, or was freed twice and is in use; the program goes on, and the "
			                                 "next ones are not reported\n  allocated by thread "))
				fail_msg("ended with %d and wrote \"%s\"", status, text);
			assert_non_null(strstr(line, "api_misuse_marks+0x"));
			assert_null(strstr(line, "arenal: "));
		}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_freed_twice_with_others_between),
		cmocka_unit_test(blocks_freed_twice_that_are_back_in_their_arena),
		cmocka_unit_test(blocks_freed_twice_whose_page_went_back),
		cmocka_unit_test(blocks_freed_by_two_threads),
		cmocka_unit_test(blocks_freed_before_a_fork),
		cmocka_unit_test(writes_to_free_blocks),
		cmocka_unit_test(blocks_are_left_alone_when_the_program_is_to_go_on),
	};

	return cmocka_run_group_tests(tests, find_functions, NULL);
}
