/* Guarded blocks: each kind of misuse ends in a report that has the address, the size, and the functions of this program that
 * allocated, freed and misused the block.
 *
 * Each case is a run of this program by itself, with ARENAL_GUARD_SAMPLE=1: nearly every block is guarded while there are
 * slots. cmocka's own handler for SIGSEGV does not come in between there. */
#include "support.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

/* What a case tells: which block the report has to be about. In the parent: the same, as it was told last. */
static struct facts {
	void *block;
	int thread, freeing_thread;
} facts;

static void tell_facts(void) {
	dprintf(STDOUT_FILENO, "facts %p %d %d\n", facts.block, facts.thread, facts.freeing_thread);
}

static size_t guarded_now(void) {
	struct arenal_stats stats;

	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats.guarded;
}

static char *volatile sink;

/* The functions that the stacks must name. */
NOINLINE char *allocate_here(size_t size) {
	char *block = malloc(size);

	sink = block;
	return block;
}

NOINLINE void free_here(char *block) {
	free(block);
	sink = NULL;
}

NOINLINE void write_here(char *at) {
	*(volatile char *)at = 1;
	sink = NULL;
}

NOINLINE char read_here(char *at) {
	char value = *(volatile char *)at;

	sink = NULL;
	return value;
}

NOINLINE char *realloc_here(char *block, size_t size) {
	char *moved = realloc(block, size);

	sink = moved;
	return moved;
}

static bool is_at_page_end(const char *block, size_t size) {
	return ((uintptr_t)block + ((size + 15) & ~(size_t)15)) % (size_t)sysconf(_SC_PAGESIZE) == 0;
}

enum side { ANY, AT_START, AT_END };

/* A guarded block that begins, or ends, where its page does. */
static char *guarded_block(size_t size, enum side side) {
	for (int i = 0; i < 60; i++) {
		const size_t before = guarded_now();
		char *block = allocate_here(size);
		CHILD_CHECK(block && guarded_now() == before + 1);
		if (side == ANY || (side == AT_END) == is_at_page_end(block, size)) {
			facts.block = block;
			facts.thread = (int)syscall(SYS_gettid);
			tell_facts();
			return block;
		}
	}
	CHILD_CHECK(!"one of sixty blocks lies at that side");
	return NULL;
}

static char *hidden_pointer(char *block) {
	return (char *)hidden((size_t)block);
}

/* ---- the cases: misuses ---- */

static void overflow_write(void *unused) {
	(void)unused;
	write_here(guarded_block(96, AT_END) + 96);
}

static void overflow_read_far(void *unused) {
	(void)unused;
	read_here(guarded_block(96, AT_END) + 96 + 1000);
}

static void underflow_write(void *unused) {
	(void)unused;
	write_here(guarded_block(100, AT_START) - 1);
}

static void read_after_free(void *unused) {
	(void)unused;
	char *block = hidden_pointer(guarded_block(100, ANY));

	free_here(block);
	read_here(block + 8);
}

static void write_after_free(void *unused) {
	(void)unused;
	char *block = hidden_pointer(guarded_block(5000, ANY));

	free_here(block);
	/* It stays inaccessible while others come and go. */
	for (int i = 0; i < 25; i++)
		free(malloc(100));
	write_here(block + 4999);
}

static void *free_in_thread(void *block) {
	facts.freeing_thread = (int)syscall(SYS_gettid);
	tell_facts();
	free_here(block);
	return NULL;
}

static void use_after_free_elsewhere(void *unused) {
	(void)unused;
	pthread_t thread;
	char *block = hidden_pointer(guarded_block(100, ANY));

	CHILD_CHECK(pthread_create(&thread, NULL, free_in_thread, block) == 0);
	pthread_join(thread, NULL);
	read_here(block);
}

static void double_free(void *unused) {
	(void)unused;
	char *block = hidden_pointer(guarded_block(100, ANY));

	free_here(block);
	free_here(hidden_pointer(block));
}

static void free_inside(void *unused) {
	(void)unused;
	free_here(guarded_block(100, ANY) + 16);
}

static void off_by_one(void *unused) {
	(void)unused;
	char *block = guarded_block(100, AT_END);

	block[hidden(100)] = 0;
	free_here(block);
}

static void off_by_many(void *unused) {
	(void)unused;
	char *block = guarded_block(100, AT_START);

	block[hidden(2000)] = 0;
	free_here(block);
}

static void before_the_start(void *unused) {
	(void)unused;
	char *block = guarded_block(100, AT_END);

	block[-(ptrdiff_t)hidden(3)] = 0;
	free_here(block);
}

static void realloc_after_free(void *unused) {
	(void)unused;
	char *block = hidden_pointer(guarded_block(100, ANY));

	free_here(block);
	realloc_here(block, 300);
}

static void after_realloc(void *unused) {
	(void)unused;
	char *block = hidden_pointer(guarded_block(100, ANY));

	CHILD_CHECK(realloc_here(block, 300) != block);
	read_here(block + 50);
}

/* ---- signals of others ---- */

static void exit_with_7(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	_exit(info->si_addr == (void *)8 ? 7 : 8);
}

static void exit_with_9(int signal) {
	_exit(signal == SIGSEGV ? 9 : 8);
}

/* Before the first guarded block. */
static void set_action(struct sigaction action) {
	struct sigaction of_the_library;

	CHILD_CHECK(sigaction(SIGSEGV, NULL, &of_the_library) == 0);
	CHILD_CHECK(of_the_library.sa_handler == SIG_DFL);
	CHILD_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

static void own_fault(void *unused) {
	(void)unused;
	set_action((struct sigaction){ .sa_sigaction = exit_with_7, .sa_flags = SA_SIGINFO });
	guarded_block(100, ANY); /* now the library's handler comes before ours */
	write_here((char *)hidden(8));
}

static void own_fault_plain(void *unused) {
	(void)unused;
	set_action((struct sigaction){ .sa_handler = exit_with_9 });
	guarded_block(100, ANY);
	write_here((char *)hidden(8));
}

static void fault_without_handler(void *unused) {
	(void)unused;
	guarded_block(100, ANY);
	write_here((char *)hidden(8));
}

static void sent_signal(void *unused) {
	(void)unused;
	guarded_block(100, ANY);
	raise(SIGSEGV);
}

static void ignored_signal(void *unused) {
	(void)unused;
	set_action((struct sigaction){ .sa_handler = SIG_IGN });
	guarded_block(100, ANY);
	raise(SIGSEGV);
	_exit(5);
}

static void report_then_own_handler(void *unused) {
	set_action((struct sigaction){ .sa_handler = exit_with_9 });
	read_after_free(unused);
}

/* It does not matter that the library's handler was there first; nor what was asked for in between. */
static void report_then_later_handler(void *unused) {
	guarded_block(100, ANY);
	CHILD_CHECK(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
	CHILD_CHECK(signal(SIGSEGV, exit_with_9) == SIG_IGN);
	read_after_free(unused);
}

static void *report_thread(void *unused) {
	report_then_later_handler(unused);
	return unused;
}

static void report_in_thread(void *unused) {
	pthread_t thread;

	CHILD_CHECK(pthread_create(&thread, NULL, report_thread, unused) == 0);
	pthread_join(thread, NULL);
}

/* The child of a process with one thread sets a handler of its own. */
static void report_in_child(void *unused) {
	guarded_block(100, ANY);
	set_action((struct sigaction){ .sa_handler = SIG_DFL });
	pid_t child = fork();
	CHILD_CHECK(child >= 0);
	if (child == 0) {
		CHILD_CHECK(signal(SIGSEGV, exit_with_9) == SIG_DFL);
		read_after_free(unused);
	}
	int status;
	CHILD_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
	_exit(WEXITSTATUS(status));
}

/* ---- what goes on as always ---- */

static void contents_and_sizes(void *unused) {
	(void)unused;
	for (size_t round = 0; round < 300; round++) {
		static const size_t sizes[] = { 1, 15, 16, 17, 100, 4095, 4096, 4097, 30000, 32768, 32769, 65536 };
		size_t size = sizes[round % COUNT_OF(sizes)], before = guarded_now();
		char *block = round % 2 ? calloc(1, size) : malloc(size);
		CHILD_CHECK(block && (uintptr_t)block % 16 == 0 && guarded_now() == before + 1);
		CHILD_CHECK(malloc_usable_size(block) == size);
		for (size_t i = 0; i < size && round % 2; i++)
			CHILD_CHECK(block[i] == 0);
		memset(block, 0x5A, size);
		char *moved = realloc(block, 2 * size + 1);
		CHILD_CHECK(moved);
		for (size_t i = 0; i < size; i++)
			CHILD_CHECK(moved[i] == 0x5A);
		moved = realloc(moved, size / 2 + 1);
		CHILD_CHECK(moved);
		for (size_t i = 0; i < size / 2 + 1 && i < size; i++)
			CHILD_CHECK(moved[i] == 0x5A);
		free(moved);
		CHILD_CHECK(guarded_now() <= before);
	}
	for (size_t align = 16; align <= 65536; align *= 2)
		for (size_t size = 1; size <= 30000; size += 997) {
			void *block = aligned_alloc(align, size);
			CHILD_CHECK(block && (uintptr_t)block % align == 0 && malloc_usable_size(block) >= size);
			memset(block, 1, size);
			free(block);
		}
}

static void exhaustion(void *unused) {
	(void)unused;
	static char *blocks[1000];
	struct arenal_stats before, full, after;

	CHILD_CHECK(arenal_stats_get(&before, sizeof before) == 0);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(1000 + i);
		CHILD_CHECK(blocks[i]);
		memset(blocks[i], (int)i, 1000 + i);
	}
	CHILD_CHECK(arenal_stats_get(&full, sizeof full) == 0);
	CHILD_CHECK(full.guarded > 64 && full.guarded < 128);
	CHILD_CHECK(full.allocated - before.allocated >= 1000 * (1000 + 499));
	CHILD_CHECK(full.allocated + full.cached <= full.active && full.active <= full.mapped);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		for (size_t at = 0; at < 1000 + i; at++)
			CHILD_CHECK(blocks[i][at] == (char)i);
		free(blocks[i]);
	}
	CHILD_CHECK(arenal_stats_get(&after, sizeof after) == 0);
	CHILD_CHECK(after.guarded == before.guarded && after.guarded_total > before.guarded_total + 64);
	CHILD_CHECK(after.allocated == before.allocated);
	/* And again: the slots are free. */
	free(guarded_block(40000, ANY));
}

static void live_switch(void *unused) {
	(void)unused;
	CHILD_CHECK(arenal_set("guard_sample", 0) == 0);
	size_t before = guarded_now();
	for (size_t i = 0; i < 1000; i++)
		CHILD_CHECK(malloc(40000));
	/* One may have been due. */
	CHILD_CHECK(guarded_now() <= before + 1);
	CHILD_CHECK(arenal_set("guard_sample", 1) == 0);
	before = guarded_now();
	CHILD_CHECK(malloc(40000)); /* counts, and is late */
	for (size_t i = 0; i < 10; i++)
		CHILD_CHECK(malloc(40000));
	CHILD_CHECK(guarded_now() >= before + 10);
	CHILD_CHECK(arenal_set("guard_sample", -1) != 0);
}

static void fork_with_guarded_blocks(void *unused) {
	(void)unused;
	char *block = guarded_block(100, ANY);

	block[99] = 'x';
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();
		CHILD_CHECK(child >= 0);
		if (child == 0) {
			CHILD_CHECK(block[99] == 'x');
			block[99] = 'y';
			free(block);
			free(guarded_block(100, ANY));
			_exit(0);
		}
		int status;
		CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	/* What the child did to its copy. */
	CHILD_CHECK(block[99] == 'x');
	free(block);
}

static void use_after_free_in_a_child(void *unused) {
	(void)unused;
	char *block = hidden_pointer(guarded_block(100, ANY));
	pid_t child = fork();

	CHILD_CHECK(child >= 0);
	if (child == 0) {
		facts.freeing_thread = (int)syscall(SYS_gettid);
		tell_facts();
		free_here(block);
		read_here(block);
	}
	int status;
	CHILD_CHECK(waitpid(child, &status, 0) == child);
	CHILD_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

enum { BLOCKS = 100000, ROUNDS = 100 };

static uint64_t guarded_of_ten_million(void) {
	static void *blocks[BLOCKS];
	struct arenal_stats before, after;

	arenal_stats_get(&before, sizeof before);
	for (size_t round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < BLOCKS; i++)
			blocks[i] = malloc(16 + i % 64 * 16);
		for (size_t i = 0; i < BLOCKS; i++)
			free(blocks[i]);
		/* What waits in a cache is not counted again when it is taken. */
		malloc_trim(0);
	}
	arenal_stats_get(&after, sizeof after);
	return after.guarded_total - before.guarded_total;
}

/* One allocation in 999. Their number is nearly one of Poisson, six deviations of which are allowed; and a refill of up to
 * 256 blocks makes one of them guarded at most, which loses less than an eighth. */
static void asked_for_rate(void *unused) {
	(void)unused;
	enum { EXPECTED = BLOCKS * ROUNDS / 999, DEVIATIONS = 6 * 100 };
	uint64_t count = guarded_of_ten_million();
	dprintf(STDERR_FILENO, "%llu blocks were guarded\n", (unsigned long long)count);
	CHILD_CHECK(count >= EXPECTED / 8 * 7 - DEVIATIONS && count <= EXPECTED + DEVIATIONS);
}

static uint64_t milliseconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* One in 5,000 at most, and none within 4 ms of the one before. */
static void default_rate(void *unused) {
	(void)unused;
	int64_t rate;
	uint64_t start = milliseconds();
	CHILD_CHECK(arenal_get("guard_sample", &rate) == 0 && rate == 5000);
	uint64_t count = guarded_of_ten_million(), most = (milliseconds() - start) / 4 + 1;
	dprintf(STDERR_FILENO, "%llu blocks were guarded, %llu may be\n", (unsigned long long)count, (unsigned long long)most);
	CHILD_CHECK(count >= 10 && count <= most);
}

/* ---- running them ---- */

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
		assert_int_equal(sscanf(line, "facts %p %d %d", &facts.block, &facts.thread, &facts.freeing_thread), 3);
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
	snprintf(line, sizeof line, "arenal: %s %p, %s at %p\n", what, (void *)((char *)facts.block + offset), where, facts.block);
	if (strncmp(text, line, strlen(line)) != 0)
		fail_msg("expected \"%s\" first, in:\n%s", line, text);
	expect_section("allocated", facts.thread, allocate_here);
}

/* ---- the tests ---- */

static void overflows(void **state) {
	(void)state;
	expect(overflow_write, SIGSEGV, "overflow: write to", 96, "0 bytes right of the end of the block of 96 bytes");
	expect_section("accessed", facts.thread, write_here);
	assert_null(strstr(text, "freed"));
	expect(overflow_read_far, SIGSEGV, "overflow: read of", 1096, "1000 bytes right of the end of the block of 96 bytes");
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
	expect(write_after_free, SIGSEGV, "use after free: write to", 4999, "4999 bytes into the block of 5000 bytes");
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
	expect(free_inside, SIGABRT, "free of what is not the start of a block: at", 16, "16 bytes into the block of 100 bytes");
	expect_section("detected", facts.thread, free_here);
	expect(realloc_after_free, SIGABRT, "realloc or malloc_usable_size of a freed block: at", 0, "at the block of 100 bytes");
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
		{ own_fault, 7 }, { own_fault_plain, 9 }, { fault_without_handler, KILLED_BY(SIGSEGV) }, { sent_signal, KILLED_BY(SIGSEGV) },
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
