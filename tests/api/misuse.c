/* Frees that no program may do: the library ends the program with one line that names the address, at the latest when the
 * block leaves the thread's cache, and leaves what is in use alone. */
#include "support.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* A pointer that the compiler knows nothing about. */
static char *unknown(void *pointer) {
	return (char *)hidden((size_t)pointer);
}

/* Empties the thread's cache, so that what waits there is checked. */
static void settle(void) {
	malloc_trim(0);
}

static void free_of_static_memory(void *unused) {
	static char bytes[100000];

	(void)unused;
	free(unknown(bytes + 16));
	settle();
}

static void free_of_the_stack(void *unused) {
	char bytes[1000];

	(void)unused;
	free(unknown(bytes + 16));
	settle();
}

static void free_of_a_foreign_mapping(void *unused) {
	(void)unused;
	void *mapping = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHILD_CHECK(mapping != MAP_FAILED);
	free(unknown(mapping));
	settle();
}

static void free_of_a_wild_address(void *address) {
	free(unknown(address));
	settle();
}

static void free_inside_of_a_block(void *size) {
	char *block = malloc(*(const size_t *)size);

	CHILD_CHECK(block);
	free(unknown(block) + 16);
	settle();
}

static void free_twice(void *size) {
	char *block = malloc(*(const size_t *)size), *copy = unknown(block);

	CHILD_CHECK(block);
	free(block);
	free(unknown(copy));
	settle();
}

/* With other blocks of the same size freed in between. */
static void free_twice_with_others_between(void *size) {
	char *blocks[100];
	size_t count = *(const size_t *)size > MIB ? 5 : COUNT_OF(blocks);

	for (size_t i = 0; i < count; i++) {
		blocks[i] = malloc(*(const size_t *)size);
		CHILD_CHECK(blocks[i]);
	}
	char *copy = unknown(blocks[1]);
	for (size_t i = 0; i < count; i++)
		free(blocks[i]);
	free(unknown(copy));
	settle();
}

static void realloc_after_free(void *size) {
	char *block = malloc(*(const size_t *)size), *copy = unknown(block);

	CHILD_CHECK(block);
	free(block);
	settle();
	copy = realloc(unknown(copy), *(const size_t *)size * 3);
	free(copy);
	settle();
}

/* The body ends by SIGABRT, and stderr has the one line. */
static void expect_end(void (*body)(void *), void *argument) {
	int file = memfd_create("stderr", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	char text[4096];

	assert_true(file >= 0 && saved >= 0);
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	/* cmocka's handler for SIGABRT would go on in the child. */
	void (*handler)(int) = signal(SIGABRT, SIG_DFL);
	int status = run_in_child(body, argument);
	signal(SIGABRT, handler);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	ssize_t length = pread(file, text, sizeof text - 1, 0);
	close(file);
	assert_true(length >= 0);
	text[length] = '\0';
	if (status != 128 + SIGABRT || strncmp(text, "arenal: ", 8) != 0 || !strstr(text, "0x") ||
	    strchr(text, '\n') != text + length - 1)
		fail_msg("ended with %d and wrote \"%s\"", status, text);
}

static size_t small_and_large[] = { 24, 1000, 5000, 30000, 100000, 600000, 5 * MIB, 60 * MIB };

static void expect_end_for_all_sizes(void (*body)(void *)) {
	for (size_t i = 0; i < COUNT_OF(small_and_large); i++)
		expect_end(body, &small_and_large[i]);
}

static void addresses_that_are_no_blocks(void **state) {
	(void)state;
	expect_end(free_of_static_memory, NULL);
	expect_end(free_of_the_stack, NULL);
	expect_end(free_of_a_foreign_mapping, NULL);
	expect_end(free_of_a_wild_address, (void *)16);
	expect_end(free_of_a_wild_address, (void *)0x123456789ab0);
	expect_end(free_of_a_wild_address, (void *)~(uintptr_t)15);
	expect_end(free_of_a_wild_address, (void *)((uintptr_t)1 << 63));
}

static void addresses_inside_of_blocks(void **state) {
	(void)state;
	expect_end_for_all_sizes(free_inside_of_a_block);
}

static void blocks_that_are_free_already(void **state) {
	(void)state;
	expect_end_for_all_sizes(free_twice);
	expect_end_for_all_sizes(free_twice_with_others_between);
}

/* Large ones only: a small one is somebody else's block by then, or will be. */
static void realloc_of_free_large_blocks(void **state) {
	(void)state;
	for (size_t i = 4; i < COUNT_OF(small_and_large); i++)
		expect_end(realloc_after_free, &small_and_large[i]);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_that_are_no_blocks),
		cmocka_unit_test(addresses_inside_of_blocks),
		cmocka_unit_test(blocks_that_are_free_already),
		cmocka_unit_test(realloc_of_free_large_blocks),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
