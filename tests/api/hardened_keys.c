/* Hardened mode: what canaries tell to who reads some, beyond the end of a block: nothing about others, neither in this process nor in its
 * children, which can check the blocks that they inherited all the same. Runs with ARENAL_HARDEN=1. */
#include "support.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL 24 /* its canary is one word */
#define LARGE 100000

struct leak {
	uintptr_t address;
	uint64_t canary;
};

static struct leak leak_of(size_t size) {
	struct leak leak = { (uintptr_t)unknown(malloc(size)), 0 };
	memcpy(&leak.canary, (char *)leak.address + size, sizeof leak.canary);
	return leak;
}

/* ---- one process ---- */

#define FACTOR UINT64_C(0x9E3779B97F4A7C15)

static uint64_t by_key(uintptr_t address, uint64_t key) {
	const uint64_t mixed = (address ^ key) * FACTOR;
	return (mixed ^ mixed >> 32) | UINT64_C(0x0101010101010101);
}

/* A key that the address was multiplied under, as it was once, follows from a canary but for eight bits, which another one tells. */
static void two_canaries_give_no_key_away(void **state) {
	(void)state;
	const struct leak one = leak_of(SMALL), other = leak_of(SMALL);
	uint64_t inverse = FACTOR;
	for (int i = 0; i < 6; i++) inverse *= 2 - FACTOR * inverse;
	for (unsigned bits = 0; bits < 256; bits++) {
		uint64_t word = one.canary;
		for (unsigned i = 0; i < 8; i++) word ^= (uint64_t)(bits >> i & 1) << (8 * i);
		const uint64_t key = (word ^ word >> 32) * inverse ^ one.address;
		assert_int_equal(by_key(one.address, key), one.canary); /* that is what the attack is about */
		assert_int_not_equal(by_key(other.address, key), other.canary);
	}
}

/* About half of the bits differ between any two, wherever they are, and no byte is zero. */
static void canaries_look_random(void **state) {
	(void)state;
	enum { COUNT = 4000 };
	static struct leak leaks[COUNT];
	size_t bits = 0, same = 0;
	for (int i = 0; i < COUNT; i++) leaks[i] = leak_of(SMALL);
	for (int i = 1; i < COUNT; i++) {
		bits += (size_t)__builtin_popcountll(leaks[i].canary ^ leaks[i - 1].canary);
		same += leaks[i].canary == leaks[i - 1].canary;
		assert_null(memchr(&leaks[i].canary, 0, sizeof leaks[i].canary));
	}
	/* 56 bits are free. */
	assert_int_equal(same, 0);
	assert_in_range(bits / COUNT, 27, 29);
}

/* Large blocks come back at the same address, some time later. */
static void the_same_address_has_another_canary(void **state) {
	(void)state;
	enum { ROUNDS = 200 };
	static struct leak leaks[ROUNDS];
	size_t again = 0;
	for (int i = 0; i < ROUNDS; i++) {
		leaks[i] = leak_of(LARGE);
		for (int before = 0; before < i; before++) {
			if (leaks[before].address != leaks[i].address) continue;
			again++;
			assert_int_not_equal(leaks[before].canary, leaks[i].canary);
		}
		free((void *)leaks[i].address);
	}
	assert_true(again > 0);
}

/* ---- children ---- */

enum { BLOCKS = 3000, LARGE_BLOCKS = 30, OF_ONE = BLOCKS + LARGE_BLOCKS };

static void leak_many(struct leak *leaks) {
	for (int i = 0; i < OF_ONE; i++) leaks[i] = leak_of(i < BLOCKS ? SMALL : LARGE);
}

typedef pid_t forking(void);

/* Without libc, and without handlers. */
static pid_t by_clone(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

static int wait_for(pid_t child) {
	int status;
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define INHERITED 1000
static char *inherited[INHERITED];

/* Every second block stays; half of the others are free. */
static void inherit(size_t size) {
	for (int i = 0; i < INHERITED; i++) inherited[i] = unknown(malloc(size));
	for (int i = 0; i < INHERITED; i += 4) free(inherited[i]);
}

static bool was_inherited(const char *block) {
	for (int i = 0; i < INHERITED; i++)
		if (inherited[i] == block) return true;
	return false;
}

/* What it inherited it frees, and none of that comes back; neither does what was free already. */
static void use_in_child(struct leak *leaks) {
	leak_many(leaks);
	for (int i = 2; i < INHERITED; i += 4) free(inherited[i]);
	for (int i = 0; i < 20000; i++) {
		char *block = unknown(malloc(SMALL));
		CHILD_CHECK(!was_inherited(block));
		free(block);
	}
	_exit(0);
}

/* The parent and two children of it, which have blocks at the same addresses. */
static void check_children(forking *make) {
	enum { PROCESSES = 3 };
	const size_t length = PROCESSES * OF_ONE * sizeof(struct leak);
	struct leak *leaks = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(leaks != MAP_FAILED);
	inherit(SMALL);
	for (int n = 1; n < PROCESSES; n++) {
		const pid_t child = make();
		if (child == 0) use_in_child(leaks + n * OF_ONE);
		assert_int_equal(wait_for(child), 0);
	}
	leak_many(leaks);
	size_t same_place = 0;
	for (int n = 0; n < PROCESSES; n++)
		for (int m = n + 1; m < PROCESSES; m++)
			for (int i = 0; i < OF_ONE; i++)
				for (int j = 0; j < OF_ONE; j++) {
					const struct leak one = leaks[n * OF_ONE + i], other = leaks[m * OF_ONE + j];
					if (one.address != other.address) continue;
					same_place++;
					assert_int_not_equal(one.canary, other.canary);
				}
	assert_true(same_place > 0);
	munmap(leaks, length);
}

static void children_have_keys_of_their_own(void **state) {
	(void)state;
	check_children(fork);
	check_children(by_clone);
}

static void free_overflowed(void *unused) {
	(void)unused;
	char *block = inherited[1];
	block[SMALL] ^= 1;
	free(block);
}

static void free_overflowed_large(void *unused) {
	(void)unused;
	char *block = inherited[1];
	block[LARGE] ^= 1;
	free(block);
}

static void free_twice(void *unused) {
	(void)unused;
	char *copy = unknown(inherited[1]);
	free(inherited[1]);
	for (int i = 0; i < 1000; i++) free(unknown(malloc(SMALL)));
	free(copy);
}

static void expect_end(void (*body)(void *), const char *text) {
	int status;
	const char *line = written_by_child(body, NULL, &status);
	if (status != 128 + SIGABRT || strncmp(line, "arenal: ", 8) != 0 || !strstr(line, text))
		fail_msg("ended with %d and wrote \"%s\" instead of \"%s\"", status, line, text);
}

static void inherited_blocks_are_checked(void **state) {
	(void)state;
	inherit(SMALL);
	expect_end(free_overflowed, "something wrote behind");
	expect_end(free_twice, "was freed already");
	inherit(LARGE);
	expect_end(free_overflowed_large, "something wrote behind");
	expect_end(free_twice, "was freed already");
}

/* What a child inherited goes back all the same: its spans, when they are empty. */
static void give_everything_back(void *unused) {
	(void)unused;
	const size_t before = resident_bytes();
	for (int i = 0; i < INHERITED; i++)
		if (i % 4 != 0) free(inherited[i]);
	CHILD_CHECK(resident_bytes() + (size_t)INHERITED * 20000 / 2 < before);
}

static void inherited_spans_go_back(void **state) {
	(void)state;
	inherit(20000);
	for (int i = 0; i < INHERITED; i++)
		if (i % 4 != 0) memset(inherited[i], 1, 20000);
	assert_int_equal(run_in_child(give_everything_back, NULL), 0);
}

/* A child of a child of a child, each of which allocates, and frees what its parent has allocated. */
static void live_on(void *unused) {
	(void)unused;
	char *block = unknown(malloc(SMALL));
	for (int generation = 0; generation < 50; generation++) {
		memset(block, 'x', SMALL);
		const pid_t child = fork();
		int status;
		if (child > 0) _exit(waitpid(child, &status, 0) == child && status == 0 ? 0 : 1);
		CHILD_CHECK(child == 0);
		char *next = unknown(malloc(SMALL));
		CHILD_CHECK(block[0] == 'x' && block[SMALL - 1] == 'x' && next[0] == 0);
		free(block);
		block = next;
	}
}

static void generations(void **state) {
	(void)state;
	assert_int_equal(run_in_child(live_on, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(generations), /* first: the kernel copies few mappings for each */
		cmocka_unit_test(two_canaries_give_no_key_away),
		cmocka_unit_test(canaries_look_random),
		cmocka_unit_test(the_same_address_has_another_canary),
		cmocka_unit_test(children_have_keys_of_their_own),
		cmocka_unit_test(inherited_blocks_are_checked),
		cmocka_unit_test(inherited_spans_go_back),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
