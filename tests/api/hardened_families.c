/* Hardened mode: blocks that are freed by a function of another family than they came from, or with a
 * wrong size. Runs with ARENAL_HARDEN=1. */
#include "hardened.h"

#include <arenal/arenal.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *allocating(size_t);
typedef void *allocating_aligned(size_t, size_t);
typedef void freeing(void *);
typedef void freeing_sized(void *, size_t);

static const char *from, *to;
static int64_t action = -1; /* of the tunable misuse_family, in the child */

/* Twice: what goes on is reported once. */
static void cross(void *unused) {
	(void)unused;
	const bool aligned = strstr(from, "align") != NULL;
	CHILD_CHECK(arenal_set("misuse_family", action) == 0);
	for (int i = 0; i < 2; i++) {
		void *block = aligned ? ((allocating_aligned *)find_function(from))(size, 64) :
		                        ((allocating *)find_function(from))(size);
		CHILD_CHECK(block);
		if (strstr(to, "align"))
			((freeing_sized *)find_function(to))(block, 64);
		else
			((freeing *)find_function(to))(block);
	}
}

static void families(void **state) {
	(void)state;
	static const char *const news[] = { "malloc", "_Znwm", "_Znam", "_ZnwmSt11align_val_t",
		                                "_ZnamSt11align_val_t" };
	static const char *const deletes[] = { "free", "_ZdlPv", "_ZdaPv", "_ZdlPvSt11align_val_t",
		                                   "_ZdaPvSt11align_val_t" };
	static const char *const texts[] = { "came from malloc;", "came from operator new;",
		                                 "came from operator new[];",
		                                 "came from operator new with an alignment;",
		                                 "came from operator new[] with an alignment;" };
	/* What a C++ library inside of another library gets from malloc, the program may delete, and the other
	 * way round. */
	enum { MALLOC, NEW, ARRAY, ALIGNED, ALIGNED_ARRAY };
	for (size_t n = 0; n < COUNT_OF(news); n++)
		for (size_t d = 0; d < COUNT_OF(deletes); d++)
			for (size_t i = 0; i < COUNT_OF(sizes) + 1; i += 3) {
				size = i < COUNT_OF(sizes) ? sizes[i] : 0;
				from = news[n], to = deletes[d];
				const size_t other = n == MALLOC ? d : n;
				const bool has_malloc = n == MALLOC || d == MALLOC;
				action = -1;
				if (n == d || (has_malloc && (other == NEW || other == ALIGNED)))
					expect_report(cross, NULL);
				else if (has_malloc)
					expect_report(cross, texts[n]);
				else
					expect_end(cross, SIGABRT, texts[n]);
				if (n == d) continue;
				action = 0;
				expect_report(cross, NULL);
				if (has_malloc && (other == NEW || other == ALIGNED)) continue;
				action = 1;
				expect_report(cross, texts[n]);
				action = 2;
				expect_end(cross, SIGABRT, texts[n]);
			}
}

static void wrong_size_of_free_sized(void *unused) {
	(void)unused;
	for (int i = 0; i < 2; i++)
		((freeing_sized *)find_function("free_sized"))(unknown(malloc(size)), size + 1);
}

static void wrong_size_of_delete(void *unused) {
	(void)unused;
	for (int i = 0; i < 2; i++)
		((freeing_sized *)find_function("_ZdlPvm"))(((allocating *)find_function("_Znwm"))(size), size + 1);
}

static void wrong_size_that_ends(void *unused) {
	CHILD_CHECK(arenal_set("misuse_size", 2) == 0);
	wrong_size_of_delete(unused);
}

static void sizes_of_sized_frees(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		char text[100];
		size = sizes[i];
		snprintf(text, sizeof text, "the size %zu is wrong: the block has %zu bytes", size + 1, size);
		expect_report(wrong_size_of_free_sized, text);
		expect_report(wrong_size_of_delete, text);
		expect_end(wrong_size_that_ends, SIGABRT, text);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(families),
		cmocka_unit_test(sizes_of_sized_frees),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
