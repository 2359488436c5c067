/* Names of mappings, as the kernel tells them, where it has any. tests/unit/names.c stands in for one that does. */
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define VMA_NAME 0x53564d41 /* PR_SET_VMA */

static void *allocate(void *unused) {
	(void)unused;
	free(malloc(100));
	free(malloc(100000));
	return NULL;
}

/* A child of itself: prints its mappings with blocks of each kind. */
static int tell(void) {
	pthread_t thread;
	char line[512];

	if (pthread_create(&thread, NULL, allocate, NULL) != 0 || pthread_join(thread, NULL) != 0 || !malloc(4 << 20))
		return 1;
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps && fgets(line, sizeof line, maps))
		fputs(line, stdout);
	return 0;
}

static void mappings_have_names(void **state) {
	(void)state;
	static const char *const names[] = { "[anon:arenal: heap]", "[anon:arenal: huge]", "[anon:arenal: records]" };
	static const char *const arguments[] = { "/proc/self/exe", "tell", NULL };
	static const char *const changes[] = { "ARENAL_NAMES=1", NULL };
	static struct outcome outcome;
	void *own = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(own != MAP_FAILED);
	run_program(&outcome, arguments, changes, NULL);
	assert_int_equal(outcome.status, 0);
	assert_string_equal(outcome.err, "");
	if (prctl(VMA_NAME, 0, own, 4096, "own") != 0)
		SKIP("the kernel has no names for mappings");
	for (size_t i = 0; i < COUNT_OF(names); i++)
		assert_non_null(strstr(outcome.out, names[i]));
	run_program(&outcome, arguments, NULL, NULL);
	assert_null(strstr(outcome.out, "arenal: "));
}

int main(int argc, char **argv) {
	if (argc > 1 && strcmp(argv[1], "tell") == 0)
		return tell();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mappings_have_names),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
