/* mallctl: nodes, types, sizes and errors, names as numbers, and the figures. */
#include "jemalloc_support.h"

#include <arenal/arenal.h>
#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- errors, as jemalloc(3) lists them ---- */

static void unknown_names_answer_enoent(void **state) {
	(void)state;
	static const char *const names[] = {
		"", ".", "nothing", "stats", "stats.", "stats.allocated.", "stats.allocatedx", "stats.allocate", ".stats",
		"arena", "arena.0", "arena..purge", "arena.x.purge", "arena.0x.purge", "arena.-1.purge", "arenas.bin.size",
		"arena.99999999999999999999999.purge", "arenas.bin.72.size", "stats.arenas.4097.pactive",
		"stats.arenas.2000.pactive", "stats.arenas.0.bins.72.curregs", "stats.arenas.0.bins.0.nmalloc",
		"arena.0.extent_hooks", "stats.mutexes.ctl.num_ops", "experimental.hooks.install",
	};
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		size_t value = 77, length = sizeof value;
		if (mallctl(names[i], &value, &length, NULL, 0) != ENOENT) fail_msg("\"%s\"", names[i]);
		assert_int_equal(value, 77);
	}
	size_t mib[8] = { 1 << 20, 2, 3 }, depth = 3;
	assert_int_equal(mallctlnametomib("nothing", mib, &depth), ENOENT);
	assert_int_equal(mallctlbymib(mib, 3, NULL, NULL, NULL, 0), ENOENT);
	assert_int_equal(mallctlbymib(mib, 0, NULL, NULL, NULL, 0), ENOENT);
}

static void wrong_sizes_answer_einval(void **state) {
	(void)state;
	unsigned char value[16];
	memset(value, 0xEE, sizeof value);
	size_t length = 16; /* too large: as much as there is */
	assert_int_equal(mallctl("arenas.quantum", value, &length, NULL, 0), EINVAL);
	assert_int_equal(length, 8);
	assert_int_equal(value[0], 16);
	assert_int_equal(value[8], 0xEE);
	memset(value, 0xEE, sizeof value);
	length = 2; /* too small: as much as fits */
	assert_int_equal(mallctl("arenas.quantum", value, &length, NULL, 0), EINVAL);
	assert_int_equal(length, 2);
	assert_int_equal(value[0], 16);
	assert_int_equal(value[2], 0xEE);
	assert_int_equal(WRITE(uint32_t, "background_thread", 1), EINVAL);
	assert_int_equal(WRITE(uint32_t, "epoch", 1), EINVAL);
	assert_int_equal(WRITE(uint32_t, "thread.arena", 1 << 30), EFAULT);
	/* nothing is made where nobody can hear of it */
	const unsigned arenas = READ(unsigned, "arenas.narenas");
	length = 8;
	assert_int_equal(mallctl("arenas.create", value, &length, NULL, 0), EINVAL);
	assert_int_equal(READ(unsigned, "arenas.narenas"), arenas);
}

static void wrong_directions_answer_eperm(void **state) {
	(void)state;
	size_t value = 0, length = sizeof value;
	assert_int_equal(WRITE(size_t, "stats.allocated", 1), EPERM);
	assert_int_equal(WRITE(const char *, "version", "mine"), EPERM);
	assert_int_equal(WRITE(bool, "opt.background_thread", true), EPERM);
	assert_int_equal(mallctl("arena.0.purge", &value, &length, NULL, 0), EPERM);
	assert_int_equal(mallctl("arena.0.purge", NULL, NULL, &value, sizeof value), EPERM);
	assert_int_equal(mallctl("thread.tcache.flush", &value, &length, NULL, 0), EPERM);
	assert_int_equal(mallctl("tcache.flush", &value, &length, NULL, 0), EPERM);
	assert_int_equal(mallctl("prof.dump", &value, &length, NULL, 0), EPERM);
}

/* ---- names as numbers ---- */

static void numbers_stand_for_names(void **state) {
	(void)state;
	size_t mib[4], depth = 4;
	assert_int_equal(mallctlnametomib("arenas.bin.0.size", mib, &depth), 0);
	assert_int_equal(depth, 4);
	assert_int_equal(mib[2], 0);
	size_t before = 0;
	for (unsigned bins = READ(unsigned, "arenas.nbins"), i = 0; i < bins; i++) {
		size_t size, length = sizeof size;
		mib[2] = i;
		assert_int_equal(mallctlbymib(mib, depth, &size, &length, NULL, 0), 0);
		assert_true(size > before);
		assert_int_equal(nallocx(size, 0), size);
		before = size;
	}
	assert_int_equal(before, READ(size_t, "arenas.tcache_max"));
	mib[2] = 1000;
	size_t size, length = sizeof size;
	assert_int_equal(mallctlbymib(mib, depth, &size, &length, NULL, 0), ENOENT);
}

/* A part of one, and the rest of another one of the same words. */
static void parts_of_numbers_fit_together(void **state) {
	(void)state;
	size_t part[2], whole[3], depth = 2;
	assert_int_equal(mallctlnametomib("arena.0.purge", part, &depth), 0);
	assert_int_equal(depth, 2);
	depth = 3;
	assert_int_equal(mallctlnametomib("arena.1.dirty_decay_ms", whole, &depth), 0);
	assert_int_equal(whole[0], part[0]);
	assert_int_equal(whole[1], 1);
	whole[1] = part[1];
	ssize_t decay;
	size_t length = sizeof decay;
	assert_int_equal(mallctlbymib(whole, 3, &decay, &length, NULL, 0), 0);
	assert_int_equal(decay, READ(ssize_t, "arenas.dirty_decay_ms"));
	whole[0]++;
	assert_int_equal(mallctlbymib(whole, 3, &decay, &length, NULL, 0), ENOENT);
	assert_int_equal(mallctlbymib(whole, 2, &decay, &length, NULL, 0), ENOENT);
}

/* ---- figures ---- */

static void assert_in_order(void) {
	const size_t allocated = READ(size_t, "stats.allocated"), active = READ(size_t, "stats.active");
	const size_t resident = READ(size_t, "stats.resident"), mapped = READ(size_t, "stats.mapped");
	assert_true(0 < allocated && allocated <= active && active <= resident && resident <= mapped);
	assert_int_equal(active % PAGE, 0);
	assert_int_equal(resident % PAGE, 0);
	assert_true(READ(size_t, "stats.metadata") > 0);
}

static uint64_t next_epoch(void) {
	uint64_t epoch = 1, told = 0;
	size_t length = sizeof told;
	assert_int_equal(mallctl("epoch", &told, &length, &epoch, sizeof epoch), 0);
	return told;
}

static void figures_are_those_of_the_epoch(void **state) {
	(void)state;
	const uint64_t epoch = next_epoch();
	assert_in_order();
	const size_t before = READ(size_t, "stats.allocated");
	char *blocks[100];
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(100000);
		memset(blocks[i], 1, 100000);
	}
	assert_int_equal(READ(size_t, "stats.allocated"), before);
	assert_int_equal(next_epoch(), epoch + 1);
	assert_in_order();
	const size_t full = READ(size_t, "stats.allocated");
	assert_true(full >= before + COUNT_OF(blocks) * 100000 && full <= before + COUNT_OF(blocks) * 131072 + 65536);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) free(blocks[i]);
	next_epoch();
	assert_in_order();
	assert_true(READ(size_t, "stats.allocated") <= before + 4096);
}

/* The arenas' figures are parts of the whole. */
static void arenas_add_up(void **state) {
	(void)state;
	static void *blocks[20000];
	for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = malloc(10 + i % 3000);
	next_epoch();
	const unsigned arenas = READ(unsigned, "arenas.narenas");
	size_t small = 0, large = 0, active = 0;
	char name[64];
	for (unsigned i = 0; i < arenas; i++) {
		snprintf(name, sizeof name, "stats.arenas.%u.small.allocated", i);
		small += READ(size_t, name);
		snprintf(name, sizeof name, "stats.arenas.%u.large.allocated", i);
		large += READ(size_t, name);
		snprintf(name, sizeof name, "stats.arenas.%u.pactive", i);
		active += READ(size_t, name);
	}
	assert_int_equal(small, READ(size_t, "stats.arenas.4096.small.allocated"));
	assert_int_equal(large, READ(size_t, "stats.arenas.4096.large.allocated"));
	assert_int_equal(active, READ(size_t, "stats.arenas.4096.pactive"));
	assert_int_equal(small + large,
	                 READ(size_t, "stats.allocated") + READ(size_t, "stats.arenas.4096.tcache_bytes"));
	size_t bins = 0;
	for (unsigned i = 0; i < READ(unsigned, "arenas.nbins"); i++) {
		snprintf(name, sizeof name, "stats.arenas.4096.bins.%u.curregs", i);
		const size_t blocks_out = READ(size_t, name);
		snprintf(name, sizeof name, "arenas.bin.%u.size", i);
		bins += blocks_out * READ(size_t, name);
	}
	assert_int_equal(bins, small);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) free(blocks[i]);
}

enum { PASSED = 64, PASSED_SIZE = 4096, PASSED_ROUNDS = 20, FREED = 60 };
static void *passed[PASSED];
static pthread_barrier_t full, empty;

/* It has a cache first: there is no purger for one thread alone. */
static void *free_what_is_passed(void *unused) {
	free(unknown(malloc(100)));
	pthread_barrier_wait(&empty);
	for (int round = 0; round < PASSED_ROUNDS; round++) {
		pthread_barrier_wait(&full);
		for (size_t i = 0; i < PASSED; i++) free(passed[i]);
		pthread_barrier_wait(&empty);
	}
	return unused;
}

/* "arenal": the thread that gives memory back. */
static int purger_runs(void) {
	char path[300], name[20];
	int found = 0;
	DIR *threads = opendir("/proc/self/task");
	for (struct dirent *d; threads != NULL && (d = readdir(threads)) != NULL;) {
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", d->d_name);
		FILE *file = fopen(path, "r");
		found |= file != NULL && fgets(name, sizeof name, file) != NULL && strcmp(name, "arenal\n") == 0;
		if (file != NULL) fclose(file);
	}
	closedir(threads);
	return found;
}

static uint64_t batches(unsigned arena, const char *figure) {
	char name[64];
	uint64_t sum = 0;
	for (unsigned i = 0; i < READ(unsigned, "arenas.nbins"); i++) {
		snprintf(name, sizeof name, "stats.arenas.%u.bins.%u.n%s", arena, i, figure);
		sum += READ(uint64_t, name);
	}
	snprintf(name, sizeof name, "stats.arenas.%u.small.n%s", arena, figure);
	assert_int_equal(READ(uint64_t, name), sum);
	return sum;
}

/* Also those of blocks that wait for other threads while a purger runs, and come from no arena. */
static void batches_add_up(void **state) {
	(void)state;
	int (*get)(struct arenal_stats *, size_t) = (int (*)(struct arenal_stats *, size_t))find_function("arenal_stats_get");
	pthread_t thread;
	char *large[FREED];
	pthread_barrier_init(&full, NULL, 2);
	pthread_barrier_init(&empty, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, free_what_is_passed, NULL), 0);
	pthread_barrier_wait(&empty);
	for (size_t i = 0; i < FREED; i++) large[i] = memset(malloc(900000), 1, 900000);
	for (size_t i = 0; i < FREED; i++) free(large[i]);
	for (int i = 0; i < 10000 && !purger_runs(); i++) usleep(1000);
	assert_true(purger_runs());
	for (int round = 0; round < PASSED_ROUNDS; round++) {
		for (size_t i = 0; i < PASSED; i++) passed[i] = malloc(PASSED_SIZE);
		pthread_barrier_wait(&full);
		pthread_barrier_wait(&empty);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* The purger may give some back meanwhile: then it is done again. */
	struct arenal_stats before, after;
	uint64_t all_fills, all_flushes, fills, flushes;
	do {
		assert_int_equal(get(&before, sizeof before), 0);
		all_fills = batches(MALLCTL_ARENAS_ALL, "fills");
		all_flushes = batches(MALLCTL_ARENAS_ALL, "flushes");
		fills = flushes = 0;
		for (unsigned i = 0; i < READ(unsigned, "arenas.narenas"); i++) {
			fills += batches(i, "fills");
			flushes += batches(i, "flushes");
		}
		assert_int_equal(get(&after, sizeof after), 0);
	} while (before.refills != after.refills || before.flushes != after.flushes);
	assert_int_equal(all_fills, after.refills);
	assert_int_equal(all_flushes, after.flushes);
	assert_int_equal(fills, after.refills);
	assert_int_equal(flushes, after.flushes);
}

/* As redis does: all arenas by their number, or by the constant. */
static void purge_gives_memory_back(void **state) {
	(void)state;
	static char *blocks[600];
	for (int way = 0; way < 2; way++) {
		for (size_t i = 0; i < COUNT_OF(blocks); i++) {
			blocks[i] = malloc(60000);
			memset(blocks[i], 1, 60000);
		}
		const size_t full = resident_bytes();
		for (size_t i = 0; i < COUNT_OF(blocks); i++) free(blocks[i]);
		assert_int_equal(act(of_arena(way ? MALLCTL_ARENAS_ALL : READ(unsigned, "arenas.narenas"), "purge")), 0);
		assert_true(resident_bytes() + 30 * MIB < full);
	}
	assert_int_equal(act("arena.0.purge"), 0);
	assert_int_equal(act("arena.0.decay"), 0);
}

/* ---- what can be set ---- */

static void decay_is_our_decay(void **state) {
	(void)state;
	const ssize_t usual = READ(ssize_t, "arenas.dirty_decay_ms");
	assert_int_equal(usual, 1000);
	assert_int_equal(WRITE(ssize_t, "arenas.dirty_decay_ms", 5000), 0);
	assert_int_equal(READ(ssize_t, "arena.0.dirty_decay_ms"), 5000);
	assert_int_equal(WRITE(ssize_t, "arena.0.dirty_decay_ms", -1), 0);
	assert_int_equal(READ(ssize_t, "arenas.dirty_decay_ms"), -1);
	assert_int_equal(WRITE(ssize_t, "arenas.dirty_decay_ms", -2), EFAULT);
	assert_int_equal(READ(ssize_t, "arenas.dirty_decay_ms"), -1);
	assert_int_equal(WRITE(ssize_t, "arenas.dirty_decay_ms", INT64_MAX), 0);
	assert_int_equal(WRITE(ssize_t, "arenas.dirty_decay_ms", 0), 0);
	assert_int_equal(WRITE(ssize_t, "arenas.dirty_decay_ms", usual), 0);
	assert_int_equal(READ(ssize_t, "arena.4096.muzzy_decay_ms"), 0);
	assert_int_equal(WRITE(ssize_t, "arena.0.muzzy_decay_ms", -1), 0);
	assert_int_equal(READ(ssize_t, "arenas.muzzy_decay_ms"), -1);
	assert_int_equal(WRITE(ssize_t, "arenas.muzzy_decay_ms", 10000), 0);
	assert_int_equal(READ(ssize_t, "arenas.muzzy_decay_ms"), 0);
}

/* What there was before is read where something is changed. */
static void old_values_are_told(void **state) {
	(void)state;
	bool off = false, before = false;
	size_t length = sizeof before;
	assert_int_equal(mallctl("background_thread", &before, &length, &off, sizeof off), 0);
	assert_true(before);
	assert_false(READ(bool, "background_thread"));
	assert_int_equal(WRITE(bool, "background_thread", true), 0);
	assert_true(READ(bool, "background_thread"));
	assert_int_equal(WRITE(size_t, "max_background_threads", 4), EINVAL);
	assert_int_equal(WRITE(size_t, "max_background_threads", 1), 0);
}

static void caches_of_the_program_are_numbers(void **state) {
	(void)state;
	const unsigned first = READ(unsigned, "tcache.create"), second = READ(unsigned, "tcache.create");
	assert_int_not_equal(first, second);
	void *block = mallocx(100, MALLOCX_TCACHE(first));
	dallocx(block, MALLOCX_TCACHE(second));
	assert_int_equal(WRITE(unsigned, "tcache.flush", first), 0);
	assert_int_equal(WRITE(unsigned, "tcache.destroy", first), 0);
	assert_int_equal(WRITE(unsigned, "tcache.destroy", first), EFAULT);
	assert_int_equal(WRITE(unsigned, "tcache.flush", first), EFAULT);
	assert_int_equal(READ(unsigned, "tcache.create"), first);
	assert_int_equal(WRITE(unsigned, "tcache.destroy", first), 0);
	assert_int_equal(WRITE(unsigned, "tcache.destroy", second), 0);
	assert_int_equal(act("thread.tcache.flush"), 0);
	assert_int_equal(act("thread.idle"), 0);
	assert_true(READ(bool, "thread.tcache.enabled"));
	assert_int_equal(WRITE(bool, "thread.tcache.enabled", false), 0);
	assert_false(READ(bool, "thread.tcache.enabled"));
	assert_int_equal(WRITE(bool, "thread.tcache.enabled", true), 0);
}

/* ---- text ---- */

struct text {
	size_t length;
	char text[1 << 20];
};

static void collect(void *text, const char *piece) {
	struct text *t = text;
	const size_t length = strlen(piece);
	assert_true(t->length + length < sizeof t->text);
	memcpy(t->text + t->length, piece, length + 1);
	t->length += length;
}

static void statistics_are_printed_as_text(void **state) {
	(void)state;
	static struct text t;
	size_t allocated, active;
	malloc_stats_print(collect, &t, NULL);
	const char *line = strstr(t.text, "\nAllocated: ");
	assert_non_null(line);
	assert_int_equal(sscanf(line, "\nAllocated: %zu, active: %zu", &allocated, &active), 2);
	assert_true(0 < allocated && allocated <= active);
	assert_non_null(strstr(t.text, "opt.dirty_decay_ms: 1000"));
}

static void told(void *opaque, const char *piece) {
	(void)opaque;
	static struct text t;
	collect(&t, piece);
	malloc_message = strstr(t.text, "___ Begin jemalloc statistics") != NULL ? NULL : told;
}

/* Where no function is given, the program's own malloc_message gets it. */
static void messages_go_where_the_program_says(void **state) {
	(void)state;
	malloc_message = told;
	malloc_stats_print(NULL, NULL, "g");
	assert_null(malloc_message);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_names_answer_enoent),
		cmocka_unit_test(wrong_sizes_answer_einval),
		cmocka_unit_test(wrong_directions_answer_eperm),
		cmocka_unit_test(numbers_stand_for_names),
		cmocka_unit_test(parts_of_numbers_fit_together),
		cmocka_unit_test(figures_are_those_of_the_epoch),
		cmocka_unit_test(arenas_add_up),
		cmocka_unit_test(batches_add_up),
		cmocka_unit_test(purge_gives_memory_back),
		cmocka_unit_test(decay_is_our_decay),
		cmocka_unit_test(old_values_are_told),
		cmocka_unit_test(caches_of_the_program_are_numbers),
		cmocka_unit_test(statistics_are_printed_as_text),
		cmocka_unit_test(messages_go_where_the_program_says),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
