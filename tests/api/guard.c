/* Guarded blocks: each kind of misuse ends in a report that has the address, the size, and the functions of
 * this program that allocated, freed and misused the block.
 *
 * Each case is a run of this program by itself, with ARENAL_GUARD_SAMPLE=1: nearly every block is guarded
 * while there are slots. cmocka's own handler for SIGSEGV does not come in between there. */
#include "guard.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define CASE(name) { #name, name }
static const struct {
	const char *name;
	void (*body)(void *);
} cases[] = {
	CASE(overflow_write), CASE(overflow_read_far), CASE(underflow_write), CASE(read_after_free), CASE(write_after_free),
	CASE(use_after_free_elsewhere), CASE(double_free), CASE(free_inside), CASE(off_by_one), CASE(off_by_many),
	CASE(before_the_start), CASE(realloc_after_free), CASE(after_realloc), CASE(own_fault), CASE(own_fault_plain),
	CASE(fault_without_handler), CASE(sent_signal), CASE(ignored_signal), CASE(report_then_own_handler),
	CASE(report_then_later_handler), CASE(report_in_thread), CASE(report_in_child),
	CASE(contents_and_sizes), CASE(exhaustion), CASE(live_switch), CASE(fork_with_guarded_blocks),
	CASE(use_after_free_in_a_child), CASE(default_rate), CASE(asked_for_rate),
};

static int run_case(const char *name) {
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		if (strcmp(cases[i].name, name) != 0)
			continue;
		cases[i].body(NULL);
		return 0;
	}
	return 1;
}

static struct outcome outcome;
static const char *const text = outcome.err;

#define KILLED_BY(signal) (128 + (signal))

/* The case ends with the status. `setting`: of the environment. */
static void run_with(const char *setting, void (*body)(void *), int status) {
	const char *name = NULL, *const changes[] = { setting, NULL };

	for (size_t i = 0; i < COUNT_OF(cases); i++)
		if (cases[i].body == body)
			name = cases[i].name;
	run_program(&outcome, (const char *const[]){ "/proc/self/exe", name, NULL }, changes, NULL);
	if (outcome.status != status)
		fail_msg("%s ended with %d and wrote \"%s\"", name, outcome.status, text);
	for (const char *line = outcome.out; (line = strstr(line, "facts ")) != NULL; line++)
		assert_int_equal(sscanf(line, "facts %p %d %d", &facts.block, &facts.thread, &facts.freeing_thread),
		                 3);
}

static void run(void (*body)(void *), int status) {
	run_with("ARENAL_GUARD_SAMPLE=1", body, status);
}

/* Does a frame of the section lie in the function? Frames are indented further than titles. */
static bool section_names(const char *title, int thread, void *function) {
	char start[128], file[4096];
	Dl_info info, of_frame;

	snprintf(start, sizeof start, "\n  %s by thread %d:\n", title, thread);
	const char *line = strstr(text, start);
	assert_int_not_equal(dladdr(function, &info), 0);
	if (!line)
		return false;
	for (line += strlen(start); strncmp(line, "    ", 4) == 0; line = strchr(line, '\n') + 1) {
		unsigned long address, in_file;
		if (sscanf(line, "    %lx  %4000[^+\n]+%lx\n", &address, file, &in_file) == 3 &&
		    strcmp(basename(file), basename(info.dli_fname)) == 0 &&
		    dladdr((char *)info.dli_fbase + in_file, &of_frame) && of_frame.dli_saddr == function)
			return true;
	}
	return false;
}

static void expect_section(const char *title, int thread, void *function) {
	Dl_info info;

	assert_int_not_equal(dladdr(function, &info), 0);
	if (!section_names(title, thread, function))
		fail_msg("no frame \"%s\" in %s, thread %d, in:\n%s", title, info.dli_sname, thread, text);
}

/* The case ends by the signal, and the first line is about the address `offset` bytes from the block. */
static void expect(void (*body)(void *), int signal, const char *what, ptrdiff_t offset, const char *where) {
	char line[256];

	run(body, KILLED_BY(signal));
	snprintf(line, sizeof line, "arenal: %s %p, %s at %p\n", what, (void *)((char *)facts.block + offset),
	         where, facts.block);
	if (strncmp(text, line, strlen(line)) != 0)
		fail_msg("expected \"%s\" first, in:\n%s", line, text);
	expect_section("allocated", facts.thread, allocate_here);
}

/* ---- the tests ---- */

static void overflows(void **state) {
	(void)state;
	expect(overflow_write, SIGSEGV, "overflow: write to", 96,
	       "0 bytes right of the end of the block of 96 bytes");
	expect_section("accessed", facts.thread, write_here);
	assert_null(strstr(text, "freed"));
	expect(overflow_read_far, SIGSEGV, "overflow: read of", 1096,
	       "1000 bytes right of the end of the block of 96 bytes");
	expect_section("accessed", facts.thread, read_here);
}

static void underflows(void **state) {
	(void)state;
	expect(underflow_write, SIGSEGV, "underflow: write to", -1, "1 byte left of the block of 100 bytes");
	expect_section("accessed", facts.thread, write_here);
}

static void uses_after_free(void **state) {
	(void)state;
	expect(read_after_free, SIGSEGV, "use after free: read of", 8, "8 bytes into the block of 100 bytes");
	expect_section("freed", facts.thread, free_here);
	expect_section("accessed", facts.thread, read_here);
	expect(write_after_free, SIGSEGV, "use after free: write to", 4999,
	       "4999 bytes into the block of 5000 bytes");
	expect_section("freed", facts.thread, free_here);
	expect_section("accessed", facts.thread, write_here);
	expect(after_realloc, SIGSEGV, "use after free: read of", 50, "50 bytes into the block of 100 bytes");
	expect_section("freed", facts.thread, realloc_here);
}

static void freed_by_another_thread(void **state) {
	(void)state;
	expect(use_after_free_elsewhere, SIGSEGV, "use after free: read of", 0, "at the block of 100 bytes");
	assert_int_not_equal(facts.freeing_thread, facts.thread);
	expect_section("freed", facts.freeing_thread, free_here);
	expect_section("accessed", facts.thread, read_here);
}

static void wrong_frees(void **state) {
	(void)state;
	expect(double_free, SIGABRT, "double free: at", 0, "at the block of 100 bytes");
	expect_section("freed", facts.thread, free_here);
	expect_section("detected", facts.thread, free_here);
	expect(free_inside, SIGABRT, "free of what is not the start of a block: at", 16,
	       "16 bytes into the block of 100 bytes");
	expect_section("detected", facts.thread, free_here);
	expect(realloc_after_free, SIGABRT, "realloc or malloc_usable_size of a freed block: at", 0,
	       "at the block of 100 bytes");
	expect_section("freed", facts.thread, free_here);
	expect_section("detected", facts.thread, realloc_here);
}

static void overwritten_padding_is_found_at_free(void **state) {
	(void)state;
	expect(off_by_one, SIGABRT, "overflow, found when the block was freed: at", 100,
	       "0 bytes right of the end of the block of 100 bytes");
	expect_section("detected", facts.thread, free_here);
	expect(off_by_many, SIGABRT, "overflow, found when the block was freed: at", 2000,
	       "1900 bytes right of the end of the block of 100 bytes");
	expect(before_the_start, SIGABRT, "underflow, found when the block was freed: at", -3,
	       "3 bytes left of the block of 100 bytes");
}

static void faults_of_others_are_passed_on(void **state) {
	(void)state;
	static const struct {
		void (*body)(void *);
		int status;
	} others[] = {
		{ own_fault, 7 },
		{ own_fault_plain, 9 },
		{ fault_without_handler, KILLED_BY(SIGSEGV) },
		{ sent_signal, KILLED_BY(SIGSEGV) },
		{ ignored_signal, 5 },
	};

	for (size_t i = 0; i < COUNT_OF(others); i++) {
		run(others[i].body, others[i].status);
		assert_string_equal(text, "");
	}
	static void (*const reported[])(void *) = {
		report_then_own_handler, report_then_later_handler, report_in_thread, report_in_child,
	};

	for (size_t i = 0; i < COUNT_OF(reported); i++) {
		run(reported[i], 9);
		assert_non_null(strstr(text, "arenal: use after free: read of"));
	}
}

static void goes_on_as_always(void **state) {
	(void)state;
	run(contents_and_sizes, 0);
	run(exhaustion, 0);
	run(live_switch, 0);
}

static void after_fork(void **state) {
	(void)state;
	run(fork_with_guarded_blocks, 0);
	run(use_after_free_in_a_child, 0);
	assert_non_null(strstr(text, "arenal: use after free: read of"));
	expect_section("allocated", facts.thread, allocate_here);
	expect_section("freed", facts.freeing_thread, free_here);
	assert_int_not_equal(facts.thread, facts.freeing_thread);
}

static void one_in_some_thousands_by_default(void **state) {
	(void)state;
	run_with("ARENAL_GUARD_SAMPLE", default_rate, 0);
	run_with("ARENAL_GUARD_SAMPLE=999", asked_for_rate, 0);
}

int main(int argc, char **argv) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(overflows),
		cmocka_unit_test(underflows),
		cmocka_unit_test(uses_after_free),
		cmocka_unit_test(freed_by_another_thread),
		cmocka_unit_test(wrong_frees),
		cmocka_unit_test(overwritten_padding_is_found_at_free),
		cmocka_unit_test(faults_of_others_are_passed_on),
		cmocka_unit_test(goes_on_as_always),
		cmocka_unit_test(after_fork),
		cmocka_unit_test(one_in_some_thousands_by_default),
	};

	if (argc > 1)
		return run_case(argv[1]);
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
