/* thp [auto|on|off]: transparent huge pages, as the tunable says. The test program is started with that setting, which is
 * named again on its command line. Needs a kernel that has them and gives them at least to those who ask. */
#include "support.h"
#include "stamp.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIB ((size_t)1 << 20)

static const char *setting = "auto";

static bool is(const char *name) { return strcmp(setting, name) == 0; }

/* The sum of a line of smaps over all mappings with a flag ("hg": huge pages are asked for), or over all. In bytes. */
static size_t mapped(const char *key, const char *flag) {
	static char buffer[1 << 16]; /* stdio's, so that reading allocates nothing */
	char line[512];
	size_t sum = 0, value = 0, length = strlen(key);
	FILE *file = fopen("/proc/self/smaps", "r");
	assert_non_null(file);
	setvbuf(file, buffer, _IOFBF, sizeof buffer);
	while (fgets(line, sizeof line, file) != NULL) {
		if (strncmp(line, key, length) == 0 && line[length] == ':') value = strtoull(line + length + 1, NULL, 10) * 1024;
		if (strncmp(line, "VmFlags:", 8) == 0 && (flag == NULL || strstr(line, flag) != NULL)) sum += value;
	}
	fclose(file);
	return sum;
}

static size_t huge_pages(void) { return mapped("AnonHugePages", NULL); }

/* Does the kernel give huge pages to those who ask? */
static bool available(void) {
	char text[64] = "";
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
	if (file == NULL) return false;
	bool read = fgets(text, sizeof text, file) != NULL;
	fclose(file);
	return read && strstr(text, "[never]") == NULL;
}

enum { SIZE = 1000, MANY = 320 * 1024 }; /* 320 MB */
static unsigned char *blocks[MANY];

static void fill(size_t from, size_t to) {
	for (size_t i = from; i < to; i++) {
		blocks[i] = malloc(SIZE);
		assert_non_null(blocks[i]);
		stamp_write(blocks[i], SIZE, i);
	}
}

static void check(size_t i) { assert_true(stamp_holds(blocks[i], SIZE, i)); }

static void growing_and_shrinking(void **state) {
	(void)state;
	if (!available()) SKIP("the system gives huge pages to nobody");
	/* A small process does not pay for what a large one wants. */
	fill(0, MANY / 8);
	if (is("on"))
		assert_true(huge_pages() >= 20 * MIB);
	else
		assert_int_equal(huge_pages(), 0);

	fill(MANY / 8, MANY);
	const size_t huge = huge_pages();
	if (is("off"))
		assert_int_equal(huge, 0);
	else
		assert_true(huge >= (is("on") ? 250 : 130) * MIB);
	if (is("auto")) assert_true(huge <= 250 * MIB);
	for (size_t i = 0; i < MANY; i += 97) check(i);

	/* All but one in sixty-four goes, so that little is left of any huge page. The kernel must not make them whole again. */
	for (size_t i = 0; i < MANY; i++)
		if (i % 64 != 0) free(blocks[i]);
	assert_true(mapped("Rss", NULL) < 100 * MIB);
	assert_true(huge_pages() < 16 * MIB);
	assert_true(mapped("Rss", " hg") * 4 <= mapped("Size", " hg") || mapped("Size", " hg") <= 64 * MIB);
	for (size_t i = 0; i < MANY; i += 64) check(i);

	/* What was broken up is asked for again when it is clean. */
	for (size_t i = 0; i < MANY; i += 64) free(blocks[i]);
	malloc_trim(0); /* what was not purged yet would be used again as it is */
	fill(0, MANY);
	if (!is("off")) assert_true(huge_pages() >= 100 * MIB);
	for (size_t i = 0; i < MANY; i++) {
		check(i);
		free(blocks[i]);
	}
}

/* A heap that is beyond what huge pages are asked for from, and mostly freed: in a program of its own. */
static int grow_and_shrink(void) {
	enum { COUNT = 8000 };
	static char *large[COUNT];
	for (size_t i = 0; i < COUNT; i++) memset(large[i] = malloc(40000), 1, 40000);
	for (size_t i = 0; i < COUNT; i++)
		if (i % 50 != 0)
			free(large[i]);
	/* Some intervals, each with a purge. */
	for (const clock_t start = clock(); clock() - start < CLOCKS_PER_SEC / 10;) {
		char *block = malloc(900000);
		memset(block, 1, 900000);
		free(block);
	}
	malloc_trim(0);
	return 0;
}

/* What the library says is for mistakes and reports: nothing else is on the program's stderr. */
static void nothing_is_said(void **state) {
	(void)state;
	static struct outcome outcome;
	static const char *const arguments[] = { "/proc/self/exe", "quiet", NULL };
	static const char *const changes[] = { "ARENAL_DECAY=8", NULL };
	run_program(&outcome, arguments, changes, NULL);
	assert_int_equal(outcome.status, 0);
	assert_string_equal(outcome.out, "");
	assert_string_equal(outcome.err, "");
}

int main(int argc, char **argv) {
	const struct CMUnitTest tests[] = { cmocka_unit_test(growing_and_shrinking), cmocka_unit_test(nothing_is_said) };
	if (argc > 1) setting = argv[1];
	if (argc > 1 && strcmp(argv[1], "quiet") == 0) return grow_and_shrink();
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
