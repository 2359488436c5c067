/* As much of cmocka as the tests of api/ use, for systems that they are only cross-compiled for, where there is no cmocka. An assertion
 * that fails ends the program. */
#ifndef SYSTEMS_CMOCKA_H
#define SYSTEMS_CMOCKA_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
	const char *name;
	void (*function)(void **state);
};
#define cmocka_unit_test(function) { #function, function }

#define print_message(...) printf(__VA_ARGS__)
#define fail_msg(...) (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), _exit(1))
#define assert_true(condition) ((condition) ? (void)0 : shim_failed(__FILE__, __LINE__, #condition))
#define assert_false(condition) assert_true(!(condition))
#define assert_null(pointer) assert_true((pointer) == NULL)
#define assert_non_null(pointer) assert_true((pointer) != NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_ptr_not_equal(a, b) assert_true((const void *)(a) != (const void *)(b))
#define assert_int_equal(a, b) assert_true((uintmax_t)(a) == (uintmax_t)(b))
#define assert_int_not_equal(a, b) assert_true((uintmax_t)(a) != (uintmax_t)(b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_string_not_equal(a, b) assert_true(strcmp(a, b) != 0)
#define assert_memory_equal(a, b, size) assert_true(memcmp(a, b, size) == 0)
#define assert_in_range(n, low, high) assert_true((uintmax_t)(n) >= (uintmax_t)(low) && (uintmax_t)(n) <= (uintmax_t)(high))

extern void _exit(int status) __attribute__((noreturn));
static jmp_buf shim_skip __attribute__((unused));
#define skip() longjmp(shim_skip, 1)

static inline void shim_failed(const char *file, int line, const char *condition) {
	fprintf(stderr, "%s:%d: %s\n", file, line, condition);
	_exit(1);
}

static inline int shim_run(const char *name, const struct CMUnitTest *tests, size_t count, int (*setup)(void **), int (*teardown)(void **)) {
	void *state = NULL;

	if (setup != NULL && setup(&state) != 0)
		return 1;
	for (volatile size_t i = 0; i < count; i++) {
		fprintf(stderr, "%s: %s\n", name, tests[i].name);
		if (setjmp(shim_skip) == 0)
			tests[i].function(&state);
	}
	return teardown != NULL ? teardown(&state) : 0;
}
#define cmocka_run_group_tests(tests, setup, teardown) shim_run(#tests, tests, sizeof tests / sizeof tests[0], setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown) shim_run(name, tests, sizeof tests / sizeof tests[0], setup, teardown)

#endif
