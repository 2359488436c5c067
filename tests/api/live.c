/* What only looks at a block that the program holds, or moves it, leaves its bytes alone: whatever they are, also those that
 * the allocator itself leaves in freed blocks. Runs in each mode. */
#include "support.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

enum { BLOCKS = 64 };

static uint64_t freed[1 << 16]; /* the words of a freed block */

/* The kernel reads what can be read: a freed block may be closed, or gone. */
static void look_into_freed(const void *block, size_t size) {
	struct iovec here = { freed, size }, there = { (void *)block, size };
	if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != (ssize_t)size)
		memset(freed, 0x5a, size);
}

static void *fresh(size_t size) {
	void *block = malloc(size);
	assert_non_null(block);
	return block;
}

/* The blocks that come back from the magazine are those that were freed, mostly at the place where they were. */
static void *with_bytes_of_a_freed_block(size_t size) {
	void *block = fresh(size);
	memset(block, 0x33, size);
	free(unknown(block));
	look_into_freed(block, size);
	block = fresh(size);
	memcpy(block, freed, size);
	return block;
}

static void assert_same_bytes(const void *block, size_t size, const char *after) {
	for (size_t i = 0; i < size; i++)
		if (((const char *)block)[i] != ((const char *)freed)[i])
			fail_msg("block of %zu bytes: byte %zu is another one after %s", size, i, after);
}

static void for_sizes(void (*check)(size_t size)) {
	static const size_t sizes[] = { 16, 24, 48, 64, 100, 1000, 1024, 5000, 6600, 13000, 30000, 32768, 100000, 300000 };
	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		for (int again = 0; again < 8; again++) check(sizes[i]);
}

static void look(size_t size) {
	char *block = with_bytes_of_a_freed_block(size);
	for (int i = 0; i < 3; i++) {
		assert_true(malloc_usable_size(block) >= size);
		assert_same_bytes(block, size, "malloc_usable_size");
	}
	free(block);
}

static void move(size_t size) {
	char *block = with_bytes_of_a_freed_block(size);
	block = realloc(block, size);
	assert_same_bytes(block, size, "realloc to the same size");
	block = realloc(block, size + 1);
	assert_same_bytes(block, size, "realloc to one byte more");
	block = realloc(block, 10 * size);
	assert_same_bytes(block, size, "realloc to ten times the size");
	block = realloc(block, size);
	assert_same_bytes(block, size, "realloc to a tenth");
	block = realloc(block, size / 3 + 1);
	assert_same_bytes(block, size / 3 + 1, "realloc to a third");
	free(block);
}

/* A call that is refused. */
static void refuse(size_t size) {
	char *block = with_bytes_of_a_freed_block(size);
	assert_null(realloc(block, hidden(PTRDIFF_MAX)));
	assert_same_bytes(block, size, "a realloc that failed");
	assert_null(reallocarray(block, hidden(SIZE_MAX / 2), 3));
	assert_same_bytes(block, size, "a reallocarray that failed");
	free(block);
}

/* Such a block is no freed one: free takes it, and only once. */
static void release(size_t size) {
	void *blocks[BLOCKS];
	for (size_t i = 0; i < BLOCKS && i * size < 4 * MIB; i++) {
		blocks[i] = with_bytes_of_a_freed_block(size);
		if (i % 2 == 0) continue;
		free(blocks[i]);
		blocks[i] = NULL;
	}
	for (size_t i = 0; i < BLOCKS && i * size < 4 * MIB; i++) {
		free(blocks[i]);
		for (size_t k = i + 1; k < BLOCKS && k * size < 4 * MIB; k++) assert_true(blocks[i] == NULL || blocks[i] != blocks[k]);
	}
}

/* What malloc_trim and the statistics look through are free blocks. */
static void walk(size_t size) {
	char *block = with_bytes_of_a_freed_block(size);
	malloc_trim(0);
	(void)mallinfo2();
	assert_same_bytes(block, size, "malloc_trim");
	free(block);
}

static void looking(void **state) { (void)state, for_sizes(look); }
static void moving(void **state) { (void)state, for_sizes(move); }
static void refusing(void **state) { (void)state, for_sizes(refuse); }
static void releasing(void **state) { (void)state, for_sizes(release); }
static void walking(void **state) { (void)state, for_sizes(walk); }

/* Two processes leave different bytes: nobody can send a program what it takes for its own. */
static void print_second_word(void) {
	void *block = malloc(64);
	free(unknown(block));
	look_into_freed(block, 64);
	printf("%016lx\n", freed[1]);
}

static void bytes_cannot_be_foreseen(void **state) {
	(void)state;
	static struct outcome one, two;
	static const char *const arguments[] = { "/proc/self/exe", "print", NULL };
	run_program(&one, arguments, NULL, NULL);
	run_program(&two, arguments, NULL, NULL);
	assert_int_equal(one.status, 0);
	assert_int_equal(two.status, 0);
	/* Where nothing is left in freed blocks, there is nothing to foresee. */
	if (strcmp(one.out, "0000000000000000\n") == 0 || strcmp(one.out, "5a5a5a5a5a5a5a5a\n") == 0)
		return;
	assert_string_not_equal(one.out, two.out);
}

int main(int argc, char **argv) {
	(void)argv;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(looking),   cmocka_unit_test(moving),  cmocka_unit_test(refusing),
		cmocka_unit_test(releasing), cmocka_unit_test(walking), cmocka_unit_test(bytes_cannot_be_foreseen),
	};
	if (argc > 1) {
		print_second_word();
		return 0;
	}
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
