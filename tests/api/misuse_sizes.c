/* Sized delete and free_sized with a wrong size: let pass, reported once, or the end of the program, as
 * its tunable says. */
#include "misuse.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sized {
	void (*give)(void *block, size_t size);
	const char *name;
	size_t right, wrong;
};

static int64_t action; /* that the child asks for */

static size_t bytes_in_use(void) {
	struct mallinfo2 m = mallinfo2();
	return m.uordblks + m.hblkhd;
}

/* Twice: what goes on is reported once. */
static void give_wrong_size(void *argument) {
	const struct sized *sized = argument;

	CHILD_CHECK(set("misuse_size", action) == 0);
	for (int i = 0; i < 2; i++) {
		const size_t before = bytes_in_use();
		char *block = new_(sized->right);

		CHILD_CHECK(block);
		shared->pointer = i == 0 ? block : shared->pointer;
		shared->usable = malloc_usable_size(block);
		sized->give(unknown(block), sized->wrong);
		CHILD_CHECK(bytes_in_use() == before);
	}
}

static void delete_sized_64(void *block, size_t size) { delete_sized_aligned(block, size, 64); }
static void free_sized_64(void *block, size_t size) { free_aligned_sized_(block, 64, size); }

/* Each function with each wrong size. */
static void for_wrong_sizes(void (*check)(const struct sized *)) {
	static const size_t pairs[][2] = { { 1, 72 },        { 72, 1 },           { 100, 113 },       { 16, 17 },         { 1000, 2000 },
		                               { 5000, 1 },      { 7000, 30000 },     { 30000, 1 },       { 30000, 40000 },   { 100000, 1 },
		                               { 100000, 300000 }, { 5 * MIB, 100 },  { 5 * MIB, 50 * MIB }, { 100, SIZE_MAX }, { 100, PTRDIFF_MAX } };

	for (size_t i = 0; i < COUNT_OF(pairs); i++) {
		const struct sized functions[] = {
			{ delete_sized, "operator delete", pairs[i][0], pairs[i][1] },
			{ delete_array_sized, "operator delete[]", pairs[i][0], pairs[i][1] },
			{ free_sized_, "free_sized", pairs[i][0], pairs[i][1] },
			{ delete_sized_64, "operator delete with an alignment", pairs[i][0], pairs[i][1] + 64 },
			{ free_sized_64, "free_aligned_sized", pairs[i][0], pairs[i][1] + 64 },
		};
		/* With an alignment, a wrong size must be wrong by more than that rounds up. */
		bool far = pairs[i][0] > 1000 && pairs[i][1] < SIZE_MAX - 64;
		for (size_t f = 0; f < (far ? COUNT_OF(functions) : 3); f++)
			check(&functions[f]);
	}
}

static const char *size_is_wrong(const struct sized *sized) {
	static char text[200];

	snprintf(text, sizeof text,
	         "the size %zu is wrong: the block has %zu bytes, and was asked for with another size",
	         sized->wrong, shared->usable);
	return text;
}

static void check_end(const struct sized *sized) {
	const char *line = end_of(give_wrong_size, (void *)sized, sized->name);

	expect_line(line, "%s", size_is_wrong(sized));
}

static void wrong_sizes_end_the_program_that_asks_for_it(void **state) {
	(void)state;
	action = MISUSE_END;
	for_wrong_sizes(check_end);
}

static void check_nothing_said(const struct sized *sized) {
	int status;
	const char *text = written_by_child(give_wrong_size, (void *)sized, &status);

	if (status != 0 || *text != '\0')
		fail_msg("%s: ended with %d and wrote \"%s\"", sized->name, status, text);
}

static void wrong_sizes_are_let_pass(void **state) {
	(void)state;
	action = MISUSE_DEFAULT;
	for_wrong_sizes(check_nothing_said);
	action = MISUSE_IGNORE;
	for_wrong_sizes(check_nothing_said);
}

/* A line, and the stack of this program's call, once. */
static void check_report(const struct sized *sized) {
	int status;
	const char *text = written_by_child(give_wrong_size, (void *)sized, &status),
			   *line = behind_name(text, sized->name);
	const char *wrong = size_is_wrong(sized),
			   *rest = "; the program goes on, and the next ones are not reported\n  freed by thread ";

	if (status != 0 || strncmp(line, wrong, strlen(wrong)) != 0 ||
	    strncmp(line + strlen(wrong), rest, strlen(rest)) != 0)
		fail_msg("%s: ended with %d and wrote \"%s\"", sized->name, status, text);
	assert_non_null(strstr(line, "api_misuse_sizes+0x"));
	assert_null(strstr(line, "arenal: "));
}

static void wrong_sizes_are_reported_once(void **state) {
	(void)state;
	action = MISUSE_REPORT;
	for_wrong_sizes(check_report);
}

static void right_sizes(void **state) {
	(void)state;
	assert_int_equal(set("misuse", MISUSE_END), 0);
	for (size_t size = 0; size < 40 * MIB; size += size < 3000 ? 1 : size / 7) {
		delete_sized(new_(size), size);
		delete_array_sized(new_(size), size);
		free_sized_(malloc(size), size);
		free_sized_(calloc(1, size), size);
		for (size_t before = 1; before < 10 * MIB; before = before * 7 + 11) {
			char *block = realloc(malloc(before), size + 1);
			assert_non_null(block);
			free_sized_(block, size + 1);
		}
		for (size_t align = 1; align <= 64 * KIB; align *= 4) {
			delete_sized_aligned(new_aligned(size, align), size, align);
			free_aligned_sized_(aligned_alloc(align, size), align, size);
		}
		if (size > MIB)
			size += size / 2;
	}
	delete_sized(NULL, 7);
	free_sized_(NULL, 7);
	free_aligned_sized_(NULL, 64, 7);
	assert_int_equal(set("misuse", MISUSE_DEFAULT), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_sizes_end_the_program_that_asks_for_it),
		cmocka_unit_test(wrong_sizes_are_let_pass),
		cmocka_unit_test(wrong_sizes_are_reported_once),
		cmocka_unit_test(right_sizes),
	};

	return cmocka_run_group_tests(tests, find_functions, NULL);
}
