/* What the protection of pages keeps from happening: blocks are not executed, and nobody runs from one
 * heap into what lies beside it. */
#include "misuse.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What /proc/self/maps says of the mapping around the address: its permissions; "" when there is none. */
static const char *permissions(uintptr_t address) {
	static char found[8];
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");

	assert_non_null(maps);
	found[0] = '\0';
	while (fgets(line, sizeof line, maps)) {
		uintptr_t start, end;
		char mode[8];
		assert_int_equal(sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &start, &end, mode), 3);
		if (address >= start && address < end)
			strcpy(found, mode);
	}
	fclose(maps);
	return found;
}

static void blocks_are_not_executable(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(samples); i++) {
		char *block = unknown(malloc(samples[i].size));
		assert_string_equal(permissions((uintptr_t)block), "rw-p");
		free(block);
	}
}

static void *block_of_a_second_arena(void *unused) {
	(void)unused;
	return malloc(100);
}

/* Behind a region of 64 MiB, and below the brk heap. */
static void heaps_end_at_inaccessible_pages(void **state) {
	pthread_t thread;
	void *block;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, block_of_a_second_arena, NULL), 0);
	assert_int_equal(pthread_join(thread, &block), 0);
	uintptr_t brk_end = (uintptr_t)sbrk(0), first = brk_end;
	if ((uintptr_t)block >= brk_end)
		assert_string_equal(permissions(((uintptr_t)block | (64 * MIB - 1)) + 1), "---p");
	free(block);
	while (strcmp(permissions(first - 4096), "rw-p") == 0)
		first -= 4096;
	assert_string_equal(permissions(first - 4096), "---p");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_not_executable),
		cmocka_unit_test(heaps_end_at_inaccessible_pages),
	};

	return cmocka_run_group_tests(tests, find_functions, NULL);
}
