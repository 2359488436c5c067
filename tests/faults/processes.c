/* Processes: the ways to start one, to load a library, to end; and systems that forbid calls or have no more mappings. */
#include "stamp.h"
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Blocks of all kinds: built, resized, half of them freed, checked. `key` tells threads apart. */
static void work(uint64_t key) {
	static const size_t sizes[] = { 16, 100, 1000, 5000, 30000, 70 * KIB, 400 * KIB, 2 * MIB };
	struct {
		char *address;
		size_t size;
	} blocks[64];

	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		size_t size = blocks[i].size = sizes[i % COUNT_OF(sizes)] + i;
		char *block = i % 3 == 0 ? malloc(size) : i % 3 == 1 ? calloc(1, size) : aligned_alloc(256, size);
		CHILD_CHECK(block);
		CHILD_CHECK(i % 3 != 1 || holds_only(block, size, 0));
		stamp_block(block, size, key);
		blocks[i].address = block;
	}
	for (int half = 0; half < 2; half++) {
		for (size_t i = (size_t)half; i < COUNT_OF(blocks); i += 2) {
			CHILD_CHECK(stamp_intact(blocks[i].address, blocks[i].size, key));
			char *moved = realloc(blocks[i].address, blocks[i].size / 3 + 1);
			CHILD_CHECK(moved);
			CHILD_CHECK(stamp_holds(moved, blocks[i].size / 3 + 1, stamp_key(blocks[i].address, blocks[i].size, key)));
			free(moved);
		}
		malloc_trim(0);
	}
}

static void *work_in_thread(void *key) {
	for (int i = 0; i < 10; i++)
		work((uintptr_t)key);
	return NULL;
}

static void work_in_two_threads(void) {
	pthread_t thread;

	CHILD_CHECK(pthread_create(&thread, NULL, work_in_thread, (void *)1) == 0);
	work_in_thread((void *)2);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static int exit_status(pid_t child) {
	int status;

	CHILD_CHECK(waitpid(child, &status, 0) == child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *const shell[] = { "/bin/sh", "-c", "exit 7", NULL };
extern char **environ;

static atomic_bool started_all;

static void *start_programs(void *unused) {
	for (int i = 0; i < 20; i++) {
		pid_t child = vfork();
		if (child == 0) {
			execv(shell[0], shell);
			_exit(127);
		}
		CHILD_CHECK(child > 0 && exit_status(child) == 7);
		CHILD_CHECK(posix_spawn(&child, shell[0], NULL, NULL, shell, environ) == 0);
		CHILD_CHECK(exit_status(child) == 7);
	}
	atomic_store(&started_all, true);
	return unused;
}

/* The child of a vfork shares the memory, and its thread-local storage, with a parent that waits. */
static void start_beside_allocation(void *unused) {
	pthread_t thread;

	(void)unused;
	CHILD_CHECK(pthread_create(&thread, NULL, start_programs, NULL) == 0);
	while (!atomic_load(&started_all))
		work(3);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void vfork_and_posix_spawn(void **state) {
	(void)state;
	assert_int_equal(run_in_child(start_beside_allocation, NULL), 0);
}

static int work_in_clone(void *unused) {
	(void)unused;
	work_in_two_threads();
	_exit(7); /* returning would end this thread only: others may be there, such as the one that purges */
}

/* A process that no handler of fork hears of: with its own memory, and on its parent's. */
static void clone_processes(void *unused) {
	static const int flags[] = { SIGCHLD, SIGCHLD | CLONE_VM | CLONE_VFORK, SIGCHLD | CLONE_VFORK | CLONE_FILES };
	char *stack = malloc(MIB);

	(void)unused;
	CHILD_CHECK(stack);
	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		int (*body)(void *) = flags[i] & CLONE_VM ? (int (*)(void *))(void *)getpid : work_in_clone;
		work(4);
		pid_t child = clone(body, stack + MIB, flags[i], NULL);
		CHILD_CHECK(child > 0);
		int status = exit_status(child);
		CHILD_CHECK(flags[i] & CLONE_VM || status == 7);
		work(5);
	}
	free(stack);
}

static void cloned_processes(void **state) {
	(void)state;
	assert_int_equal(run_in_child(clone_processes, NULL), 0);
}

/* daemon() ends the process that calls it, so the daemon says through a pipe that all is well; then it becomes another
 * program. */
static void become_a_daemon(void *pipe_) {
	int *ends = pipe_;
	char *inherited = malloc(40000);

	stamp_block(inherited, 40000, 6);
	work_in_two_threads();
	CHILD_CHECK(daemon(1, 1) == 0);
	CHILD_CHECK(stamp_intact(inherited, 40000, 6));
	free(inherited);
	work_in_two_threads();
	CHILD_CHECK(dup2(ends[1], STDOUT_FILENO) >= 0);
	execl("/bin/sh", "sh", "-c", "printf well", NULL);
	_exit(127);
}

static void daemons_and_exec(void **state) {
	(void)state;
	int ends[2];
	char text[8] = "";
	size_t length = 0;

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(run_in_child(become_a_daemon, ends), 0);
	close(ends[1]);
	for (ssize_t n; length < 4 && (n = read(ends[0], text + length, 4 - length)) > 0;)
		length += (size_t)n;
	close(ends[0]);
	assert_string_equal(text, "well");
}

static void load_and_unload(void *unused) {
	(void)unused;
	for (int i = 0; i < 30; i++) {
		void *library = dlopen(CONSTRUCTORS, RTLD_NOW);
		CHILD_CHECK(library);
		work(7);
		CHILD_CHECK(dlclose(library) == 0);
		CHILD_CHECK(!dlopen(CONSTRUCTORS, RTLD_NOW | RTLD_NOLOAD));
	}
}

static void *load_in_thread(void *unused) {
	load_and_unload(NULL);
	return unused;
}

static void load_in_two_threads(void *unused) {
	pthread_t thread;

	CHILD_CHECK(pthread_create(&thread, NULL, work_in_thread, (void *)8) == 0);
	load_in_thread(unused);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void libraries_that_allocate_as_they_come_and_go(void **state) {
	(void)state;
	assert_int_equal(run_in_child(load_in_two_threads, NULL), 0);
}

static char *until_the_end;

static void at_the_end(void) {
	work(9);
	CHILD_CHECK(stamp_intact(until_the_end, 5000, 9));
	free(until_the_end);
	_exit(23);
}

static void end_quickly(void *unused) {
	pthread_t thread;

	(void)unused;
	until_the_end = malloc(5000);
	stamp_block(until_the_end, 5000, 9);
	CHILD_CHECK(at_quick_exit(at_the_end) == 0);
	CHILD_CHECK(pthread_create(&thread, NULL, work_in_thread, (void *)10) == 0);
	quick_exit(1);
}

static void quick_exit_runs_handlers_that_allocate(void **state) {
	(void)state;
	assert_int_equal(run_in_child(end_quickly, NULL), 23);
}

/* ---- forbidden system calls ---- */

static pthread_barrier_t barrier;

/* Both threads from before the filter, for there will be no more: also not the one that purges. */
static void *work_under_filter(void *key) {
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 10; i++) {
		void *blocks[60];
		for (size_t n = 0; n < COUNT_OF(blocks); n++) {
			blocks[n] = malloc(700 * KIB);
			CHILD_CHECK(blocks[n]);
			stamp_block(blocks[n], 700 * KIB, (uintptr_t)key);
		}
		for (size_t n = 0; n < COUNT_OF(blocks); n++) {
			CHILD_CHECK(stamp_intact(blocks[n], 700 * KIB, (uintptr_t)key));
			free(blocks[n]);
		}
		work((uintptr_t)key);
	}
	return NULL;
}

static void forbid_madvise_and_clone(void *unused) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = { COUNT_OF(filter), filter };
	pthread_t thread, refused;

	(void)unused;
	CHILD_CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
	CHILD_CHECK(pthread_create(&thread, NULL, work_under_filter, (void *)11) == 0);
	pthread_barrier_wait(&barrier);
	CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHILD_CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
	CHILD_CHECK(pthread_create(&refused, NULL, work_in_thread, NULL) != 0);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 10; i++)
		work(12);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void madvise_and_clone_may_be_forbidden(void **state) {
	(void)state;
	assert_int_equal(run_in_child(forbid_madvise_and_clone, NULL), 0);
}

/* ---- vm.max_map_count ---- */

/* Enough that no mapping can be added or split; they are unmapped again through `maps`. */
static size_t fill_map_count(char *maps, size_t pages) {
	size_t made = 0;

	/* Every other page is of another kind, and so a mapping of its own. */
	while (made < pages && mprotect(maps + 2 * made * 4096, 4096, PROT_READ) == 0)
		made++;
	return made;
}

static void run_out_of_mappings(void *unused) {
	const size_t pages = 40000;
	char *maps = mmap(NULL, 2 * pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct {
		char *address;
		size_t size;
	} before[60], after[600] = { { NULL, 0 } };
	size_t failures = 0;

	(void)unused;
	CHILD_CHECK(maps != MAP_FAILED);
	for (size_t i = 0; i < COUNT_OF(before); i++) {
		before[i].size = sample_size(i * 3) + (i % 10 == 0) * 3 * MIB;
		before[i].address = malloc(before[i].size);
		stamp_block(before[i].address, before[i].size, 1);
	}
	CHILD_CHECK(fill_map_count(maps, pages) < pages);
	for (size_t i = 0; i < COUNT_OF(after); i++) {
		size_t size = after[i].size = sample_size(i % 150) + (i % 20 == 0) * 2 * MIB;
		errno = 0;
		char *block = after[i].address = i % 3 ? malloc(size) : aligned_alloc(64 * KIB << i % 4, size);
		if (block)
			stamp_block(block, size, 2);
		else
			CHILD_CHECK(errno == ENOMEM);
		failures += !block;
	}
	/* There is the break; but the kernel refuses that too, when the last mapping that was to be had is taken. */
	bool break_moves = sbrk(4096) != (void *)-1;
	CHILD_CHECK(!break_moves || failures < COUNT_OF(after) / 4);
	for (size_t i = 0; i < COUNT_OF(before); i++) {
		CHILD_CHECK(stamp_intact(before[i].address, before[i].size, 1));
		uint64_t key = stamp_key(before[i].address, before[i].size, 1);
		char *moved = realloc(before[i].address, before[i].size * 2);
		CHILD_CHECK(stamp_holds(moved ? moved : before[i].address, before[i].size, key));
		errno = EXDEV;
		free(moved ? moved : before[i].address);
		CHILD_CHECK(errno == EXDEV);
	}
	for (size_t i = 0; i < COUNT_OF(after); i++) {
		CHILD_CHECK(!after[i].address || stamp_intact(after[i].address, after[i].size, 2));
		free(after[i].address);
	}
	malloc_trim(0);
	CHILD_CHECK(munmap(maps, 2 * pages * 4096) == 0);
	work_in_two_threads();
}

/* Blocks of `least`, `least` + `step`, ... bytes: of these, every other one is freed and had again when no mapping can be added. */
struct sizes {
	size_t count, least, step;
};

enum { BLOCKS_MOST = 2000 };

static void have_sizes_again(void *argument) {
	const struct sizes *sizes = argument;
	const size_t pages = 40000, half = sizes->count / 2;
	static char *blocks[BLOCKS_MOST];
	char *maps = mmap(NULL, 2 * pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHILD_CHECK(maps != MAP_FAILED);
	for (size_t i = 0; i < sizes->count; i++) {
		blocks[i] = malloc(sizes->least + i * sizes->step);
		CHILD_CHECK(blocks[i]);
		/* Of long blocks not each page: the test would take long. */
		memset(blocks[i], (int)i, sizes->step);
	}
	CHILD_CHECK(fill_map_count(maps, pages) < pages);
	for (size_t i = 0; i < sizes->count; i += 2)
		free(blocks[i]);
	/* Forwards, backwards, and mixed: 7 divides no number of blocks here. */
	for (int order = 0; order < 3; order++) {
		for (size_t n = 0; n < half; n++) {
			const size_t i = 2 * (order == 0 ? n : order == 1 ? half - 1 - n : n * 7 % half);
			const size_t size = sizes->least + i * sizes->step;
			blocks[i] = order == 1 ? calloc(1, size) : malloc(size);
			CHILD_CHECK(blocks[i]);
			if (order == 1)
				CHILD_CHECK(blocks[i][0] == 0 && blocks[i][size / 2] == 0 && blocks[i][size - 1] == 0);
			memset(blocks[i], (int)i, sizes->step);
		}
		for (size_t i = 0; i < sizes->count; i++)
			CHILD_CHECK(blocks[i][0] == (char)i && blocks[i][sizes->step - 1] == (char)i);
		for (size_t i = 0; i < sizes->count; i += 2)
			free(blocks[i]);
	}
}

/* Side by side, they are one mapping, and the one in the middle cannot be unmapped: nobody may get it as the program left it. */
static void have_no_altered_block(void *unused) {
	enum { BLOCKS = 12 };
	const size_t pages = 40000, size = 4 * MIB - 4 * 4096;
	char *blocks[BLOCKS], *maps = mmap(NULL, 2 * pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)unused;
	CHILD_CHECK(maps != MAP_FAILED);
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(size);
		CHILD_CHECK(blocks[i]);
	}
	for (int i = 0; i < BLOCKS; i++) CHILD_CHECK(mprotect((char *)((uintptr_t)blocks[i] & -4096ul), size + 4096, PROT_READ) == 0);
	CHILD_CHECK(fill_map_count(maps, pages) < pages);
	for (int i = 2; i < BLOCKS - 2; i += 2) {
		free(blocks[i]);
		blocks[i] = malloc(size);
		if (blocks[i]) memset(blocks[i], i, size);
	}
}

static bool mappings_are_many(void) {
	FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
	size_t most = 0;

	assert_true(file && fscanf(file, "%zu", &most) == 1);
	fclose(file);
	return most > 75000;
}

static void sizes_are_had_again_without_mappings(void **state) {
	static const struct sizes kinds[] = {
		{ BLOCKS_MOST, 100, 100 },        /* small blocks and runs */
		{ 200, 40 * MIB, 100000 },        /* mappings */
	};

	(void)state;
	if (mappings_are_many())
		SKIP("vm.max_map_count is far higher than by default");
	for (size_t i = 0; i < COUNT_OF(kinds); i++)
		assert_int_equal(run_in_child(have_sizes_again, (void *)&kinds[i]), 0);
}

static void what_was_altered_is_nobodys(void **state) {
	(void)state;
	if (mappings_are_many())
		SKIP("vm.max_map_count is far higher than by default");
	assert_int_equal(run_in_child(have_no_altered_block, NULL), 0);
}

static void no_more_mappings(void **state) {
	(void)state;
	if (mappings_are_many())
		SKIP("vm.max_map_count is far higher than by default");
	assert_int_equal(run_in_child(run_out_of_mappings, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vfork_and_posix_spawn),
		cmocka_unit_test(cloned_processes),
		cmocka_unit_test(daemons_and_exec),
		cmocka_unit_test(libraries_that_allocate_as_they_come_and_go),
		cmocka_unit_test(quick_exit_runs_handlers_that_allocate),
		cmocka_unit_test(madvise_and_clone_may_be_forbidden),
		cmocka_unit_test(no_more_mappings),
		cmocka_unit_test(sizes_are_had_again_without_mappings),
		cmocka_unit_test(what_was_altered_is_nobodys),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
