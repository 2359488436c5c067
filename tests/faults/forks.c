/* fork: handlers of others, whatever they do and whenever they were registered; what the child finds of the threads that it does not
 * have, and of what these were doing. Each test runs in a process of its own, in each of the modes. */
#include "fork_handlers.h"
#include "stamp.h"
#include "support.h"

#include <arenal/arenal.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const size_t sizes[] = { 0, 16, 100, 1000, 5000, 30000, 70 * KIB, 400 * KIB, 2 * MIB, 5 * MIB };

/* Slow paths of all kinds. */
static void allocate(void) {
	char *blocks[600];

	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		size_t size = sizes[i % (i < 40 ? COUNT_OF(sizes) : 6)] + i % 7;
		blocks[i] = malloc(size);
		CHILD_CHECK(blocks[i]);
		stamp_block(blocks[i], size, i);
		CHILD_CHECK(stamp_intact(blocks[i], size, i));
	}
	for (size_t i = 0; i < 40; i++) {
		blocks[i] = realloc(blocks[i], sizes[(i + 1) % COUNT_OF(sizes)] + 8);
		CHILD_CHECK(blocks[i]);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
}

static void *allocate_in_thread(void *unused) {
	allocate();
	return unused;
}

static void allocate_in_another_thread(void) {
	pthread_t thread;

	CHILD_CHECK(pthread_create(&thread, NULL, allocate_in_thread, NULL) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void expect_success(pid_t child) {
	int status;

	CHILD_CHECK(child > 0);
	CHILD_CHECK(waitpid(child, &status, 0) == child);
	CHILD_CHECK(status == 0);
}

/* Without handlers, as raw clone and _Fork do it. */
static pid_t fork_silently(void) {
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static struct arenal_stats stats(void) {
	struct arenal_stats out;

	CHILD_CHECK(arenal_stats_get(&out, sizeof out) == 0);
	return out;
}

/* ---- handlers ---- */

/* A thread that allocates when somebody asks it to. */
static atomic_int asked, done;
static atomic_bool over;

static void *allocate_when_asked(void *unused) {
	while (!atomic_load(&over)) {
		if (atomic_load(&asked) == atomic_load(&done)) {
			usleep(50);
			continue;
		}
		allocate();
		atomic_fetch_add(&done, 1);
	}
	return unused;
}

/* As a handler does that waits for a lock, whose holder allocates before it drops it. */
static void wait_for_one_who_allocates(enum moment moment) {
	if (moment == AFTER_IN_CHILD) {
		allocate();
		return;
	}
	int turn = atomic_fetch_add(&asked, 1) + 1;
	while (atomic_load(&done) < turn)
		usleep(50);
}

static void call_everything(enum moment moment) {
	char *text = NULL;
	size_t length;

	(void)moment;
	allocate();
	malloc_trim(0);
	arenal_purge();
	struct mallinfo2 info = mallinfo2();
	CHILD_CHECK(info.uordblks > 0);
	FILE *file = open_memstream(&text, &length);
	CHILD_CHECK(malloc_info(0, file) == 0);
	fclose(file);
	CHILD_CHECK(length > 0);
	free(text);
}

static void *register_in_thread(void *unused) {
	register_fork_handlers();
	return unused;
}

/* Three sets of handlers: of before anything was allocated, of later, and of another thread. */
static void fork_with_handlers(void (*handler)(enum moment)) {
	pthread_t helper, registering;

	register_fork_handlers();
	CHILD_CHECK(pthread_create(&helper, NULL, allocate_when_asked, NULL) == 0);
	CHILD_CHECK(pthread_create(&registering, NULL, register_in_thread, NULL) == 0);
	CHILD_CHECK(pthread_join(registering, NULL) == 0);
	/* It has a cache, with something in it. */
	wait_for_one_who_allocates(AFTER);
	fork_handler = handler;
	for (int i = 0; i < 5; i++) {
		pid_t child = fork();
		if (child == 0) {
			fork_handler = NULL;
			allocate();
			allocate_in_another_thread();
			malloc_trim(0);
			_exit(0);
		}
		expect_success(child);
	}
	/* Nothing of another thread's stayed locked. */
	wait_for_one_who_allocates(AFTER);
	fork_handler = NULL;
	atomic_store(&over, true);
	CHILD_CHECK(pthread_join(helper, NULL) == 0);
}

static void handlers_wait(void) {
	fork_with_handlers(wait_for_one_who_allocates);
}

static void handlers_call(void) {
	fork_with_handlers(call_everything);
}

/* ---- what the child finds ---- */

static atomic_bool stopped;
static pthread_barrier_t ready;

/* Leaves its cache full: magazines, kept runs and, in hardened mode, a quarantine. */
static void *fill_a_cache(void *unused) {
	void *blocks[300];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT_OF(blocks); i++) {
			blocks[i] = malloc(100 + i % 3 * 200);
			CHILD_CHECK(blocks[i]);
			memset(blocks[i], 1, 100);
		}
		for (size_t i = 0; i < COUNT_OF(blocks); i++)
			free(blocks[i]);
	}
	free(malloc(100 * KIB));
	pthread_barrier_wait(&ready);
	while (!atomic_load(&stopped))
		usleep(1000);
	return unused;
}

enum { FILLERS = 6 };

/* Takes slow paths of free, in hardened mode, too. */
static void give_blocks_back(void) {
	void *blocks[400];

	free(malloc(5 * MIB));
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(40);
		CHILD_CHECK(blocks[i]);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
}

/* All of it is cached in the child, too, and goes back: at once when the child asks for it, in a while when not. */
static void check_orphans(size_t allocated, size_t cached, bool at_once) {
	struct arenal_stats now = stats();

	CHILD_CHECK(now.allocated == allocated);
	CHILD_CHECK(now.cached >= cached);
	for (int i = 0; i < 30000 && now.cached > cached / 8; i++) {
		if (at_once) {
			malloc_trim(0);
		} else {
			give_blocks_back();
			usleep(1000);
		}
		now = stats();
		CHILD_CHECK(!at_once || now.cached <= cached / 8);
	}
	CHILD_CHECK(now.cached <= cached / 8);
	CHILD_CHECK(now.allocated == allocated);
}

static void caches_of_others(void) {
	pthread_t threads[FILLERS];

	CHILD_CHECK(pthread_barrier_init(&ready, NULL, FILLERS + 1) == 0);
	for (int i = 0; i < FILLERS; i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, fill_a_cache, NULL) == 0);
	pthread_barrier_wait(&ready);
	struct arenal_stats before = stats();
	CHILD_CHECK(before.cached > FILLERS * 100 * KIB);
	for (int at_once = 0; at_once < 2; at_once++) {
		pid_t child = fork();
		if (child == 0) {
			/* And in its own child, before and after. */
			pid_t grandchild = fork();
			if (grandchild > 0)
				expect_success(grandchild);
			check_orphans(before.allocated, FILLERS * 100 * KIB, at_once);
			allocate_in_another_thread();
			_exit(0);
		}
		expect_success(child);
	}
	atomic_store(&stopped, true);
	for (int i = 0; i < FILLERS; i++)
		CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
}

enum { LARGE_BLOCKS = 8 };
static char *large_blocks[LARGE_BLOCKS];

static void *resize_large_blocks(void *unused) {
	for (size_t i = 0; !atomic_load(&stopped); i++) {
		char **block = &large_blocks[i % LARGE_BLOCKS];
		*block = realloc(*block, (i % 3 + 2) * 3 * MIB);
		CHILD_CHECK(*block);
		stamp_block(*block, 64, 7);
	}
	return unused;
}

static void *free_and_trim(void *unused) {
	while (!atomic_load(&stopped)) {
		char *blocks[20];
		for (size_t i = 0; i < COUNT_OF(blocks); i++) {
			blocks[i] = malloc(i % 2 ? 300 * KIB : 3 * MIB);
			CHILD_CHECK(blocks[i]);
			memset(blocks[i], 1, 200 * KIB);
		}
		for (size_t i = 0; i < COUNT_OF(blocks); i++)
			free(blocks[i]);
		malloc_trim(0);
	}
	return unused;
}

/* Threads resize, unmap and purge without a pause. No child finds anything in the middle. */
static void work_of_others(void) {
	pthread_t resizer, trimmers[2];

	for (size_t i = 0; i < LARGE_BLOCKS; i++) {
		large_blocks[i] = malloc(6 * MIB);
		CHILD_CHECK(large_blocks[i]);
	}
	CHILD_CHECK(pthread_create(&resizer, NULL, resize_large_blocks, NULL) == 0);
	for (size_t i = 0; i < COUNT_OF(trimmers); i++)
		CHILD_CHECK(pthread_create(&trimmers[i], NULL, free_and_trim, NULL) == 0);
	for (int i = 0; i < 150; i++) {
		pid_t child = fork();
		if (child == 0) {
			malloc_trim(0);
			struct arenal_stats now = stats();
			/* The others may have had theirs. */
			CHILD_CHECK(now.huge_blocks >= LARGE_BLOCKS && now.huge_blocks <= LARGE_BLOCKS + 2 * 20);
			CHILD_CHECK(now.dirty == 0);
			_exit(0);
		}
		expect_success(child);
	}
	atomic_store(&stopped, true);
	CHILD_CHECK(pthread_join(resizer, NULL) == 0);
	for (size_t i = 0; i < COUNT_OF(trimmers); i++)
		CHILD_CHECK(pthread_join(trimmers[i], NULL) == 0);
}

static void *take_guarded_blocks(void *unused) {
	while (!atomic_load(&stopped))
		free(malloc(64));
	return unused;
}

/* All allocations are guarded, as many as there may be at one time. */
static void guarded_slots_of_others(void) {
	enum { SLOTS = 96, TAKERS = 2 };
	pthread_t takers[TAKERS];

	free(malloc(64));
	if (stats().guarded_total == 0)
		return; /* hardened, or not guarded at all */
	for (int i = 0; i < TAKERS; i++)
		CHILD_CHECK(pthread_create(&takers[i], NULL, take_guarded_blocks, NULL) == 0);
	for (int i = 0; i < 100; i++) {
		pid_t child = fork();
		if (child == 0) {
			for (int n = 0; n < 2 * SLOTS; n++)
				CHILD_CHECK(malloc(64));
			CHILD_CHECK(stats().guarded == SLOTS);
			_exit(0);
		}
		expect_success(child);
	}
	atomic_store(&stopped, true);
	for (int i = 0; i < TAKERS; i++)
		CHILD_CHECK(pthread_join(takers[i], NULL) == 0);
}

/* ---- chance ---- */

enum { CHILDREN = 4, BLOCKS = 2000, CHOICES = 2 * BLOCKS };
static uintptr_t *choices; /* shared: of each child, where its blocks were */

static void choose(uintptr_t *out) {
	/* Twice, for a child that no handler tells looks now and then only. */
	for (int round = 0; round < 2; round++, out += BLOCKS) {
		for (int i = 0; i < BLOCKS; i++) {
			out[i] = (uintptr_t)malloc(208);
			CHILD_CHECK(out[i]);
		}
		for (int i = 0; i < BLOCKS; i++)
			free((void *)out[i]);
	}
}

/* The children of one parent, from the same moment on. */
static void children_choose(pid_t (*make_child)(void)) {
	choices = mmap(NULL, CHILDREN * CHOICES * sizeof *choices, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHILD_CHECK(choices != MAP_FAILED);
	/* Hardened blocks are chosen in spans that are there already. Which one is guarded is known when new ones are fetched. */
	free(malloc(208));
	if (getenv("ARENAL_HARDEN"))
		choose(choices);
	for (int i = 0; i < CHILDREN; i++) {
		pid_t child = make_child();
		if (child == 0) {
			choose(choices + i * CHOICES);
			_exit(0);
		}
		expect_success(child);
	}
	for (int i = 1; i < CHILDREN; i++)
		CHILD_CHECK(memcmp(choices, choices + i * CHOICES, CHOICES * sizeof *choices) != 0);
}

static void children_choose_by_chance(void) {
	children_choose(fork);
}

static void children_without_handlers_choose_by_chance(void) {
	children_choose(fork_silently);
}

/* ---- */

/* ---- streams: libc's fork takes the lock of all of them, before its own malloc's ---- */

static FILE *lines;
static atomic_bool streams_end;

/* Has a stream, and waits for malloc. */
static void *read_lines(void *unused) {
	while (!atomic_load(&streams_end)) {
		char *line = NULL;
		size_t size = 0;
		if (getline(&line, &size, lines) < 0)
			rewind(lines);
		free(line);
	}
	return unused;
}

/* Has the lock of all, and waits for a stream. */
static void *flush_all(void *unused) {
	while (!atomic_load(&streams_end)) {
		fflush(NULL);
		usleep(10);
	}
	return unused;
}

static void streams(void) {
	pthread_t reader, flusher;

	lines = tmpfile();
	CHILD_CHECK(lines);
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 200000 + i * 1000; k++) putc('a', lines);
		putc('\n', lines);
	}
	rewind(lines);
	CHILD_CHECK(pthread_create(&reader, NULL, read_lines, NULL) == 0);
	CHILD_CHECK(pthread_create(&flusher, NULL, flush_all, NULL) == 0);
	for (int i = 0; i < 60; i++) {
		int status;
		const pid_t child = fork();
		if (child == 0) {
			fputs("", lines); /* the child may use streams, too */
			_exit(fflush(stdout));
		}
		CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	atomic_store(&streams_end, true);
	pthread_join(reader, NULL);
	pthread_join(flusher, NULL);
	CHILD_CHECK(fflush(NULL) == 0);
}

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
