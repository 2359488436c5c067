/* What goes on as always while blocks are guarded: contents, sizes, statistics, fork; and how many blocks
 * are. */
#include "guard.h"

#include <arenal/arenal.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void contents_and_sizes(void *unused) {
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

void exhaustion(void *unused) {
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

void live_switch(void *unused) {
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

void fork_with_guarded_blocks(void *unused) {
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

void use_after_free_in_a_child(void *unused) {
	(void)unused;
	char *block = unknown(guarded_block(100, ANY));
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

/* One allocation in 999. Their number is nearly one of Poisson, six deviations of which are allowed; and a
 * refill of up to 256 blocks makes one of them guarded at most, which loses less than an eighth. */
void asked_for_rate(void *unused) {
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
void default_rate(void *unused) {
	(void)unused;
	int64_t rate;
	uint64_t start = milliseconds();
	CHILD_CHECK(arenal_get("guard_sample", &rate) == 0 && rate == 5000);
	uint64_t count = guarded_of_ten_million(), most = (milliseconds() - start) / 4 + 1;
	dprintf(STDERR_FILENO, "%llu blocks were guarded, %llu may be\n", (unsigned long long)count,
	        (unsigned long long)most);
	CHILD_CHECK(count >= 10 && count <= most);
}
