/* fork: handlers of others, whatever they do and whenever they were registered; what the child finds of
 * the threads that it does not have, and of what these were doing. Each test runs in a process of its own,
 * in each of the modes. */
#include "forks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	void (*body)(void);
} bodies[] = {
	{ "handlers_wait", handlers_wait },
	{ "handlers_call", handlers_call },
	{ "streams", streams },
	{ "caches_of_others", caches_of_others },
	{ "work_of_others", work_of_others },
	{ "guarded_slots_of_others", guarded_slots_of_others },
	{ "pages_of_others", pages_of_others },
	{ "by_chance", children_choose_by_chance },
	{ "by_chance_without_handlers", children_without_handlers_choose_by_chance },
};

/* Runs one of them in a new process of this program with these settings. */
static void run_body(const char *name, const char *const changes[]) {
	static struct outcome outcome;
	const char *const arguments[] = { "/proc/self/exe", name, NULL };

	run_program(&outcome, arguments, changes, NULL);
	if (outcome.status != 0)
		fail_msg("%s with %s ended with status %d\n%s", name, changes[0], outcome.status, outcome.err);
}

static const char *const plain[] = { "ARENAL_GUARD_SAMPLE=0", NULL };
static const char *const guarded[] = { "ARENAL_GUARD_SAMPLE=1", NULL };
static const char *const hardened[] = { "ARENAL_HARDEN=1", NULL };
static const char *const profiled[] = { "ARENAL_CONF=profile:1,profile_sample:4K", NULL };
static const char *const *const modes[] = { plain, guarded, hardened, profiled };

static void run_in_all_modes(const char *name) {
	char directory[] = "/tmp/arenal-forks-XXXXXX", file[64], setting[96];
	const char *traced[] = { setting, NULL };

	for (size_t i = 0; i < COUNT_OF(modes); i++)
		run_body(name, modes[i]);
	assert_non_null(mkdtemp(directory));
	snprintf(file, sizeof file, "%s/trace", directory);
	snprintf(setting, sizeof setting, "ARENAL_TRACE_FILE=%s", file);
	run_body(name, traced);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(directory), 0);
}

static void handlers_may_wait_for_threads_that_allocate(void **state) {
	(void)state;
	run_in_all_modes("handlers_wait");
}

static void handlers_may_call_everything(void **state) {
	(void)state;
	run_in_all_modes("handlers_call");
}

static void streams_wait_for_nobody(void **state) {
	(void)state;
	run_body("streams", plain);
	run_body("streams", hardened);
}

static void caches_of_threads_that_are_not_there_go_back(void **state) {
	(void)state;
	run_body("caches_of_others", plain);
	run_body("caches_of_others", hardened);
}

static void nothing_is_in_the_middle(void **state) {
	(void)state;
	run_body("work_of_others", plain);
	run_body("work_of_others", hardened);
	run_body("guarded_slots_of_others", guarded);
}

static void caches_and_arenas_are_not_written_to(void **state) {
	static const char *const many_arenas[] = { "ARENAL_GUARD_SAMPLE=0", "ARENAL_ARENA_MAX=64", NULL };

	(void)state;
	run_body("pages_of_others", many_arenas);
}

static void children_do_not_choose_alike(void **state) {
	static const char *const some_guarded[] = { "ARENAL_GUARD_SAMPLE=20", NULL };

	(void)state;
	run_body("by_chance", hardened);
	run_body("by_chance", some_guarded);
	run_body("by_chance_without_handlers", hardened);
	run_body("by_chance_without_handlers", some_guarded);
}

int main(int argc, char **argv) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handlers_may_wait_for_threads_that_allocate),
		cmocka_unit_test(handlers_may_call_everything),
		cmocka_unit_test(streams_wait_for_nobody),
		cmocka_unit_test(caches_of_threads_that_are_not_there_go_back),
		cmocka_unit_test(nothing_is_in_the_middle),
		cmocka_unit_test(caches_and_arenas_are_not_written_to),
		cmocka_unit_test(children_do_not_choose_alike),
	};

	for (size_t i = 0; argc > 1 && i < COUNT_OF(bodies); i++) {
		if (strcmp(argv[1], bodies[i].name) != 0)
			continue;
		alarm(60); /* a deadlock ends by it */
		bodies[i].body();
		return 0;
	}
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
