/* Tunables from the environment: every name, their precedence, mistakes, and programs that run with another user's
 * rights. Each test starts tunables_probe with a changed environment and reads what it prints. */
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB ((int64_t)1 << 10)
#define MIB ((int64_t)1 << 20)

static struct outcome outcome;

static void probe(const char *const changes[]) {
	static const char *const arguments[] = { TUNABLES_PROBE, NULL };

	run_program(&outcome, arguments, changes, NULL);
	if (outcome.status != 0)
		fail_msg("the probe ended with %d: %s", outcome.status, outcome.err);
}

/* The value that the probe printed last. */
static int64_t value_of(const char *name) {
	char key[64];

	snprintf(key, sizeof key, "\n%s=", name);
	const char *line = strstr(outcome.out, key);
	if (!line)
		fail_msg("the probe printed no %s but:\n%s", name, outcome.out);
	return strtoll(line + strlen(key), NULL, 10);
}

static int64_t default_of(const char *name) {
	static const char *const none[] = { NULL };

	probe(none);
	assert_string_equal(outcome.err, "");
	return value_of(name);
}

static void expect(const char *const changes[], const char *name, int64_t value) {
	probe(changes);
	assert_string_equal(outcome.err, "");
	if (value_of(name) != value)
		fail_msg("%s: %s is %lld", changes[0], name, (long long)value_of(name));
}

static void expect_one(const char *change, const char *name, int64_t value) {
	const char *changes[] = { change, NULL };

	expect(changes, name, value);
}

static void own_variables_set_every_tunable(void **state) {
	(void)state;
	expect_one("ARENAL_ARENA_MAX=3", "arena_max", 3);
	expect_one("ARENAL_TCACHE_MAX=12345", "tcache_max", 12345);
	expect_one("ARENAL_TCACHE_MAX=0", "tcache_max", 0);
	expect_one("ARENAL_MMAP_THRESHOLD=1000000", "mmap_threshold", 1000000);
	expect_one("ARENAL_TRIM_THRESHOLD=500000", "trim_threshold", 500000);
	expect_one("ARENAL_TOP_PAD=300000", "top_pad", 300000);
	expect_one("ARENAL_DIRTY_MAX=200000", "dirty_max", 200000);
	expect_one("ARENAL_MEMORY_LIMIT=300M", "memory_limit", 300 * MIB);
	expect_one("ARENAL_MEMORY_LIMIT=-1", "memory_limit", -1);
	expect_one("ARENAL_CAP=300M", "cap", 300 * MIB);
	expect_one("ARENAL_NAMES=1", "names", 1);
	expect_one("ARENAL_LAZY_PURGE=1", "lazy_purge", 1);
	expect_one("ARENAL_THP=0", "thp", 0);
	expect_one("ARENAL_GUARD_SAMPLE=300", "guard_sample", 300);
	expect_one("ARENAL_PROFILE_KEEP=3", "profile_keep", 3);
	expect_one("ARENAL_WINDOW=0", "window", 0);
	expect_one("ARENAL_STATS=0", "stats", 0);
}

static void empty_values_are_none(void **state) {
	(void)state;
	expect_one("ARENAL_DECAY=", "stats", 0);
	expect_one("ARENAL_MISUSE=", "misuse", -1);
	expect_one("ARENAL_CONF=", "misuse", -1);
	expect_one("MALLOC_ARENA_MAX=", "arena_max", 0);
}

static void words_stand_for_values(void **state) {
	(void)state;
	expect_one("ARENAL_MISUSE=ignore", "misuse", 0);
	expect_one("ARENAL_MISUSE=report", "misuse", 1);
	expect_one("ARENAL_MISUSE=end", "misuse", 2);
	expect_one("ARENAL_MISUSE=-1", "misuse", -1);
	expect_one("ARENAL_MISUSE_SIZE=end", "misuse_size", 2);
	expect_one("ARENAL_CONF=misuse_family:report,stats:0", "misuse_family", 1);
	static const char *const wrong[] = { "ARENAL_MISUSE=abort", NULL };
	probe(wrong);
	assert_string_equal(outcome.err, "arenal: ARENAL_MISUSE: \"abort\" is not one of \"ignore\", \"report\", \"end\", nor a number; ignored\n");
	assert_int_equal(value_of("misuse"), -1);
}

static void sizes_take_suffixes(void **state) {
	(void)state;
	expect_one("ARENAL_MMAP_THRESHOLD=300K", "mmap_threshold", 300 * KIB);
	expect_one("ARENAL_MMAP_THRESHOLD=7M", "mmap_threshold", 7 * MIB);
	expect_one("ARENAL_TRIM_THRESHOLD=2G", "trim_threshold", 2048 * MIB);
	expect_one("ARENAL_TOP_PAD=64k", "top_pad", 64 * KIB);
}

static void list_sets_several_tunables(void **state) {
	(void)state;
	expect_one("ARENAL_CONF=arena_max:2", "arena_max", 2);
	expect_one("ARENAL_CONF=mmap_threshold:300K,arena_max:5,top_pad:3M", "mmap_threshold", 300 * KIB);
	assert_int_equal(value_of("arena_max"), 5);
	assert_int_equal(value_of("top_pad"), 3 * MIB);
	expect_one("ARENAL_CONF=", "arena_max", default_of("arena_max"));
	/* The later entry wins. */
	expect_one("ARENAL_CONF=arena_max:2,arena_max:4", "arena_max", 4);
}

static void glibc_names_are_understood(void **state) {
	(void)state;
	expect_one("MALLOC_ARENA_MAX=3", "arena_max", 3);
	expect_one("MALLOC_MMAP_THRESHOLD_=1000000", "mmap_threshold", 1000000);
	expect_one("MALLOC_TRIM_THRESHOLD_=500000", "trim_threshold", 500000);
	expect_one("MALLOC_TOP_PAD_=300000", "top_pad", 300000);
}

/* In whichever order the environment has them. */
static void own_names_win(void **state) {
	(void)state;
	static const char *const orders[][3] = {
		{ "ARENAL_ARENA_MAX=3", "MALLOC_ARENA_MAX=5", NULL },
		{ "MALLOC_ARENA_MAX=5", "ARENAL_ARENA_MAX=3", NULL },
		{ "ARENAL_CONF=arena_max:3", "MALLOC_ARENA_MAX=5", NULL },
		{ "MALLOC_ARENA_MAX=5", "ARENAL_CONF=arena_max:3", NULL },
		{ "ARENAL_CONF=arena_max:5", "ARENAL_ARENA_MAX=3", NULL },
		{ "ARENAL_ARENA_MAX=3", "ARENAL_CONF=arena_max:5", NULL },
	};

	for (size_t i = 0; i < COUNT_OF(orders); i++)
		expect(orders[i], "arena_max", 3);
}

/* One line that begins with "arenal: " and has the variable and the value in it. */
static void expect_complaint(const char *change, const char *variable, const char *value) {
	const char *changes[] = { change, NULL };

	probe(changes);
	const char *end = strchr(outcome.err, '\n');
	if (strncmp(outcome.err, "arenal: ", 8) != 0 || !end || end[1] != '\0')
		fail_msg("%s: expected one line that begins with \"arenal: \", got: %s", change, outcome.err);
	if (!strstr(outcome.err, variable) || !strstr(outcome.err, value))
		fail_msg("%s: \"%s\" or \"%s\" is missing in: %s", change, variable, value, outcome.err);
}

static void bad_values_are_named_and_the_default_is_kept(void **state) {
	(void)state;
	static const struct {
		const char *variable, *tunable;
	} variables[] = {
		{ "ARENAL_ARENA_MAX", "arena_max" },
		{ "ARENAL_TCACHE_MAX", "tcache_max" },
		{ "ARENAL_MMAP_THRESHOLD", "mmap_threshold" },
		{ "ARENAL_TRIM_THRESHOLD", "trim_threshold" },
		{ "ARENAL_TOP_PAD", "top_pad" },
		{ "ARENAL_DIRTY_MAX", "dirty_max" },
		{ "ARENAL_MEMORY_LIMIT", "memory_limit" },
		{ "ARENAL_CAP", "cap" },
		{ "ARENAL_NAMES", "names" },
		{ "ARENAL_LAZY_PURGE", "lazy_purge" },
		{ "ARENAL_THP", "thp" },
		{ "ARENAL_WINDOW", "window" },
		{ "ARENAL_STATS", "stats" },
		{ "MALLOC_ARENA_MAX", "arena_max" },
		{ "MALLOC_MMAP_THRESHOLD_", "mmap_threshold" },
		{ "MALLOC_TRIM_THRESHOLD_", "trim_threshold" },
		{ "MALLOC_TOP_PAD_", "top_pad" },
	};
	static const char *const bad[] = {
		"abc", "12abc", "1.5", "-5", "0x10", "99999999999999999999", "17179869184G", "1KK", "M", " 1", "1 ", "1T", "+1",
	};

	for (size_t i = 0; i < COUNT_OF(variables); i++) {
		int64_t kept = default_of(variables[i].tunable);

		for (size_t j = 0; j < COUNT_OF(bad); j++) {
			char change[128];
			snprintf(change, sizeof change, "%s=%s", variables[i].variable, bad[j]);
			expect_complaint(change, variables[i].variable, bad[j]);
			assert_int_equal(value_of(variables[i].tunable), kept);
		}
	}
}

static void mistakes_in_the_list_are_named(void **state) {
	(void)state;
	expect_complaint("ARENAL_CONF=bogus:3", "ARENAL_CONF", "bogus");
	expect_complaint("ARENAL_CONF=arena_max:3,bogus:3", "ARENAL_CONF", "bogus");
	assert_int_equal(value_of("arena_max"), 3);
	expect_complaint("ARENAL_CONF=bogus:3,arena_max:3", "ARENAL_CONF", "bogus");
	assert_int_equal(value_of("arena_max"), 3);
	expect_complaint("ARENAL_CONF=arena_max", "ARENAL_CONF", "arena_max");
	expect_complaint("ARENAL_CONF=arena_max=3", "ARENAL_CONF", "arena_max=3");
	/* Two entries could have the value: the name must be there too. */
	expect_complaint("ARENAL_CONF=top_pad:64K,arena_max:many", "arena_max", "many");
	assert_int_equal(value_of("top_pad"), 64 * KIB);
	expect_complaint("ARENAL_CONF=arena_max:", "arena_max", "ARENAL_CONF");
}

static void unknown_variables_are_named(void **state) {
	(void)state;
	expect_complaint("ARENAL_ARENAS_MAX=3", "ARENAL_ARENAS_MAX", "3");
	expect_complaint("ARENAL_arena_max=3", "ARENAL_arena_max", "3");
}

static void every_mistake_gets_a_line(void **state) {
	(void)state;
	static const char *const changes[] = { "ARENAL_TOP_PAD=x", "ARENAL_CONF=bogus:1,arena_max:y", "ARENAL_STATS=z", NULL };
	size_t lines = 0;

	probe(changes);
	for (const char *line = outcome.err; *line; line = strchr(line, '\n') + 1) {
		assert_int_equal(strncmp(line, "arenal: ", 8), 0);
		assert_non_null(strchr(line, '\n'));
		lines++;
	}
	assert_int_equal(lines, 4);
}

static void arena_max_bounds_the_arenas(void **state) {
	(void)state;
	expect_one("ARENAL_ARENA_MAX=1", "arenas", 1);
	expect_one("ARENAL_ARENA_MAX=3", "arenas", 3);
}

static void mmap_threshold_decides_what_is_mapped(void **state) {
	(void)state;
	expect_one("ARENAL_MMAP_THRESHOLD=512K", "huge_blocks", 1);
	expect_one("ARENAL_MMAP_THRESHOLD=2M", "huge_blocks", 0);
}

static void tcache_max_zero_switches_caching_off(void **state) {
	(void)state;
	assert_true(default_of("cached") > 0);
	expect_one("ARENAL_TCACHE_MAX=0", "cached", 0);
}

static void top_pad_raises_the_break_further(void **state) {
	(void)state;
	static const char *const pad[] = { "ARENAL_TOP_PAD=48M", NULL };

	assert_true(default_of("brk_at_first") < 48 * MIB);
	probe(pad);
	assert_true(value_of("brk_at_first") >= 48 * MIB);
}

static void trim_threshold_keeps_the_top(void **state) {
	(void)state;
	static const char *const never[] = { "ARENAL_TRIM_THRESHOLD=1G", NULL };
	static const char *const soon[] = { "ARENAL_TRIM_THRESHOLD=1M", "ARENAL_TOP_PAD=0", NULL };

	probe(never);
	assert_true(value_of("brk_full") >= 30 * MIB);
	assert_int_equal(value_of("brk_freed"), value_of("brk_full"));
	probe(soon);
	assert_true(value_of("brk_full") >= 30 * MIB);
	assert_true(value_of("brk_freed") <= 8 * MIB);
}

static void dirty_max_bounds_what_is_kept(void **state) {
	(void)state;
	static const char *const none[] = { "ARENAL_DIRTY_MAX=0", "ARENAL_TRIM_THRESHOLD=1G", NULL };
	static const char *const all[] = { "ARENAL_DIRTY_MAX=1G", "ARENAL_TRIM_THRESHOLD=1G", NULL };

	probe(none);
	assert_true(value_of("dirty") <= MIB / 4);
	probe(all);
	assert_true(value_of("dirty") >= 30 * MIB);
}

static void stats_prints_a_table_at_exit(void **state) {
	(void)state;
	static const char *const on[] = { "ARENAL_STATS=1", NULL }, *const listed[] = { "ARENAL_CONF=stats:1", NULL };

	probe(on);
	assert_int_equal(value_of("stats"), 1);
	assert_non_null(strstr(outcome.err, "allocated"));
	assert_non_null(strstr(outcome.err, "mapped"));
	probe(listed);
	assert_non_null(strstr(outcome.err, "allocated"));
	assert_int_equal(default_of("stats"), 0);
}

/* A copy of the probe with the set-uid bit, owned by one user and run by another. It has the library linked in, as the
 * loader preloads nothing into such programs. */
static char directory[] = "/tmp/arenal-set-uid-XXXXXX";
static char set_uid_program[sizeof directory + 16];
enum { OWNER = 1, RUNNER = 65534 };

static void copy_file(const char *from, const char *to) {
	int source = open(from, O_RDONLY | O_CLOEXEC), target = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	struct stat status;

	assert_true(source >= 0 && target >= 0);
	assert_int_equal(fstat(source, &status), 0);
	for (off_t done = 0; done < status.st_size;)
		assert_true(sendfile(target, source, &done, (size_t)(status.st_size - done)) > 0);
	close(source);
	close(target);
}

static int make_set_uid_program(void **state) {
	(void)state;
	if (geteuid() != 0)
		return 0;
	assert_non_null(mkdtemp(directory));
	snprintf(set_uid_program, sizeof set_uid_program, "%s/probe", directory);
	copy_file(TUNABLES_PROBE_STATIC, set_uid_program);
	assert_int_equal(chmod(directory, 0755), 0);
	assert_int_equal(chown(set_uid_program, OWNER, OWNER), 0);
	assert_int_equal(chmod(set_uid_program, 04755), 0);
	return 0;
}

static int remove_set_uid_program(void **state) {
	(void)state;
	if (geteuid() == 0) {
		unlink(set_uid_program);
		rmdir(directory);
	}
	return 0;
}

static void become_another_user(void) {
	CHILD_CHECK(setgid(RUNNER) == 0);
	CHILD_CHECK(setuid(RUNNER) == 0);
}

static void set_uid_programs_ignore_the_environment(void **state) {
	(void)state;
	if (geteuid() != 0)
		SKIP("only root makes a set-uid program of another user");
	const char *const plain[] = { TUNABLES_PROBE_STATIC, NULL }, *const set_uid[] = { set_uid_program, NULL };
	static const char *const changes[] = {
		"LD_PRELOAD", "ARENAL_ARENA_MAX=3", "ARENAL_STATS=1", "MALLOC_TOP_PAD_=300000",
		"ARENAL_CONF=mmap_threshold:300K,bogus:1", "ARENAL_TCACHE_MAX=bad", NULL,
	};
	int64_t arena_max = default_of("arena_max"), top_pad = default_of("top_pad");
	int64_t mmap_threshold = default_of("mmap_threshold");

	/* The same program without another user's rights takes all of it. */
	run_program(&outcome, plain, changes, NULL);
	assert_int_equal(outcome.status, 0);
	assert_int_equal(value_of("arena_max"), 3);

	run_program(&outcome, set_uid, changes, become_another_user);
	assert_int_equal(outcome.status, 0);
	if (strncmp(outcome.out, "secure=1\n", 9) != 0)
		fail_msg("%s did not run with its owner's rights: is /tmp mounted nosuid?", set_uid_program);
	assert_int_equal(value_of("arena_max"), arena_max);
	assert_int_equal(value_of("top_pad"), top_pad);
	assert_int_equal(value_of("mmap_threshold"), mmap_threshold);
	assert_int_equal(value_of("stats"), 0);
	assert_string_equal(outcome.err, "");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_variables_set_every_tunable),
		cmocka_unit_test(empty_values_are_none),
		cmocka_unit_test(words_stand_for_values),
		cmocka_unit_test(sizes_take_suffixes),
		cmocka_unit_test(list_sets_several_tunables),
		cmocka_unit_test(glibc_names_are_understood),
		cmocka_unit_test(own_names_win),
		cmocka_unit_test(bad_values_are_named_and_the_default_is_kept),
		cmocka_unit_test(mistakes_in_the_list_are_named),
		cmocka_unit_test(unknown_variables_are_named),
		cmocka_unit_test(every_mistake_gets_a_line),
		cmocka_unit_test(arena_max_bounds_the_arenas),
		cmocka_unit_test(mmap_threshold_decides_what_is_mapped),
		cmocka_unit_test(tcache_max_zero_switches_caching_off),
		cmocka_unit_test(top_pad_raises_the_break_further),
		cmocka_unit_test(trim_threshold_keeps_the_top),
		cmocka_unit_test(dirty_max_bounds_what_is_kept),
		cmocka_unit_test(stats_prints_a_table_at_exit),
		cmocka_unit_test_setup_teardown(set_uid_programs_ignore_the_environment, make_set_uid_program,
		                                remove_set_uid_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
