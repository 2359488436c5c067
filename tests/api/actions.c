/* A program's handlers of SIGSEGV and SIGBUS run as it asked for, and it sees its own actions, although
 * Arenal has a handler of its own from the first guarded block on.
 *
 * Each case is a run of this program by itself that writes down what it sees: once on libc's malloc, and
 * then with the library, where the first guarded block comes before everything, or after the case has set
 * its handlers, in this or in another thread, or never; alone, and with another library that stands
 * between programs and sigaction, on either side. All must write the same and end alike. */
#include "actions.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define CASE(name) { #name, name }
static const struct {
	const char *name;
	void (*body)(void);
} cases[] = {
	CASE(actions), CASE(older_functions), CASE(handlers), CASE(buses), CASE(big_handler), CASE(system_calls), CASE(jumps),
	CASE(no_handler), CASE(sent_to_nobody), CASE(ignored), CASE(once), CASE(once_nested), CASE(nested), CASE(puts_back),
	CASE(puts_back_and_raises), CASE(chains), CASE(once_of_many), CASE(all_at_once), CASE(vfork_children), CASE(fork_children),
	CASE(asked_by_another), CASE(other_programs), CASE(direct_calls), CASE(others_see_changes),
};

static int run_case(const char *name) {
	for (size_t i = 0; i < COUNT_OF(cases); i++)
		if (strcmp(cases[i].name, name) == 0) {
			cases[i].body();
			return 0;
		}
	return 1;
}

static const char *const moments[] = { "first", "later", "thread", "never" };

/* On libc's malloc, the preloaded library is taken out of the environment. */
static const char *const on_libc[] = { "LD_PRELOAD", NULL };

static void run(struct outcome *outcome, const char *name, const char *when, const char *const changes[]) {
	run_program(outcome, (const char *const[]){ "/proc/self/exe", name, when, NULL }, changes, NULL);
	assert_string_equal(outcome->err, "");
}

static struct outcome expected, outcome;

static void expect_the_same(const char *name, const char *const changes[]) {
	for (size_t i = 0; i < COUNT_OF(moments); i++) {
		run(&outcome, name, moments[i], changes);
		if (outcome.status != expected.status || strcmp(outcome.out, expected.out) != 0)
			fail_msg("%s, guarded block %s, %s: ended with %d instead of %d and wrote:\n%s\ninstead of:\n%s",
			         name, moments[i], changes ? changes[0] : "alone", outcome.status, expected.status,
			         outcome.out, expected.out);
	}
}

static void same_as_on_libc(void **state) {
	char behind[4096], in_front[4096];
	const char *name = *state, *library = getenv("LD_PRELOAD");

	run(&expected, name, "never", on_libc);
	expect_the_same(name, NULL);
	snprintf(behind, sizeof behind, "LD_PRELOAD=%s:%s", library ? library : "", ACTIONS_SHIM);
	snprintf(in_front, sizeof in_front, "LD_PRELOAD=%s:%s", ACTIONS_SHIM, library ? library : "");
	expect_the_same(name, (const char *const[]){ behind, NULL });
	expect_the_same(name, (const char *const[]){ in_front, NULL });
}

/* What a debugger, and a core, are told last before the process ends. */
static siginfo_t last_signal(const char *name, const char *when, const char *const changes[]) {
	siginfo_t last = { 0 };
	pid_t child = fork();

	if (child == 0) {
		if (changes)
			unsetenv(changes[0]);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execl("/proc/self/exe", "actions", name, when, NULL);
		_exit(127);
	}
	for (int status; waitpid(child, &status, 0) == child && WIFSTOPPED(status);) {
		int signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		if (signal)
			assert_int_equal(ptrace(PTRACE_GETSIGINFO, child, 0, &last), 0);
		assert_int_equal(ptrace(PTRACE_CONT, child, 0, signal), 0);
	}
	if (last.si_code <= 0)
		assert_int_equal(last.si_pid, child); /* it sent it to itself */
	return last;
}

static void debuggers_see_the_same(void **state) {
	static const char *const endings[] = { "no_handler", "sent_to_nobody", "ignored",
		                                   "once",       "once_nested",    "buses" };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(endings); i++) {
		const siginfo_t on_its_own = last_signal(endings[i], "never", on_libc);
		for (size_t k = 0; k < COUNT_OF(moments); k++) {
			const siginfo_t info = last_signal(endings[i], moments[k], NULL);
			assert_int_equal(info.si_signo, on_its_own.si_signo);
			assert_int_equal(info.si_code, on_its_own.si_code);
			assert_int_equal((uintptr_t)info.si_addr % 4096, info.si_code > 0 ?
			                                                     (uintptr_t)on_its_own.si_addr % 4096 :
			                                                     (uintptr_t)info.si_addr % 4096);
		}
	}
}

static int run_without_changes(const char *name) {
	moment = "never";
	return run_case(name);
}

int main(int count, char **arguments) {
	if (count == 2)
		return run_without_changes(arguments[1]);
	if (count == 3) {
		moment = arguments[2];
		return run_case(arguments[1]);
	}
	struct CMUnitTest tests[COUNT_OF(cases) + 1];
	for (size_t i = 0; i < COUNT_OF(cases); i++)
		tests[i] = (struct CMUnitTest){ .name = cases[i].name,
			                            .test_func = same_as_on_libc,
			                            .initial_state = (void *)cases[i].name };
	tests[COUNT_OF(cases)] = (struct CMUnitTest)cmocka_unit_test(debuggers_see_the_same);
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
