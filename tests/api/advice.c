/* What a program told the kernel about a large block is not told about the next block there; and the functions that tell it answer as
 * libc's do. In hardened mode, too, where other blocks are kept for the next owner. */
#include "support.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

/* Blocks of this size are kept. */
static size_t kept_size(void) {
	return getenv("ARENAL_HARDEN") ? 600 * KIB : 4 * MIB;
}

static size_t kept_bytes(void) {
	struct arenal_stats stats;

	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats.dirty;
}

static size_t locked_bytes(void) {
	char text[4096];
	FILE *file = fopen("/proc/self/status", "r");
	size_t length = fread(text, 1, sizeof text - 1, file);

	fclose(file);
	text[length] = '\0';
	return strtoul(strstr(text, "VmLck:") + strlen("VmLck:"), NULL, 10) * KIB;
}

enum way { DONTFORK, WIPEONFORK, SEQUENTIAL, POSIX_RANDOM, GUARD, LOCK, LOCK2, READ_ONLY, READ_ONLY_KEY, NO_HUGE_PAGES, WAYS };

/* Does this kernel have it, and do the limits of the process allow it? By the kernel itself, for pages that lie as those of the block do. */
static bool kernel_has(enum way way, const char *block, size_t size) {
	const size_t offset = (size_t)block % (size_t)sysconf(_SC_PAGESIZE);
	char *own = mmap(NULL, offset + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at = own + offset;
	long result = -1;

	CHILD_CHECK(own != MAP_FAILED);
	switch (way) {
	case DONTFORK: result = syscall(SYS_madvise, at, size, MADV_DONTFORK); break;
	case WIPEONFORK: result = syscall(SYS_madvise, at, size, MADV_WIPEONFORK); break;
	case SEQUENTIAL: result = syscall(SYS_madvise, at + size / 2, size / 2, MADV_SEQUENTIAL); break;
	case POSIX_RANDOM: result = syscall(SYS_madvise, at, size, MADV_RANDOM); break;
	case GUARD: result = syscall(SYS_madvise, at + size / 2, 4 * KIB, MADV_GUARD_INSTALL); break;
	case LOCK: result = syscall(SYS_mlock, at, 64 * KIB); break;
	case LOCK2: result = syscall(SYS_mlock2, at, 64 * KIB, MLOCK_ONFAULT); break;
	case READ_ONLY: result = syscall(SYS_mprotect, at + size / 2, 4 * KIB, PROT_READ); break;
	case READ_ONLY_KEY: result = syscall(SYS_mprotect, at, 4 * KIB, PROT_READ); break; /* without a key, libc calls this */
	case NO_HUGE_PAGES: result = syscall(SYS_madvise, at, size, MADV_NOHUGEPAGE); break;
	default: break;
	}
	CHILD_CHECK(munmap(own, offset + size) == 0);
	return result == 0;
}

static bool tell(enum way way, char *block, size_t size) {
	switch (way) {
	case DONTFORK: return madvise(block, size, MADV_DONTFORK) == 0;
	case WIPEONFORK: return madvise(block, size, MADV_WIPEONFORK) == 0;
	case SEQUENTIAL: return madvise(block + size / 2, size / 2, MADV_SEQUENTIAL) == 0;
	case POSIX_RANDOM: return posix_madvise(block, size, POSIX_MADV_RANDOM) == 0;
	case GUARD: return madvise(block + size / 2, 4 * KIB, MADV_GUARD_INSTALL) == 0;
	case LOCK: return mlock(block, 64 * KIB) == 0;
	case LOCK2: return mlock2(block, 64 * KIB, MLOCK_ONFAULT) == 0;
	case READ_ONLY: return mprotect(block + size / 2, 4 * KIB, PROT_READ) == 0;
	case READ_ONLY_KEY: return pkey_mprotect(block, 4 * KIB, PROT_READ, -1) == 0;
	case NO_HUGE_PAGES: return madvise(block, size, MADV_NOHUGEPAGE) == 0;
	default: return false;
	}
}

/* The next block is like a new one: it can be written to, the children see it and see what is in it, nothing is locked. */
static void expect_like_new(char *block, size_t size) {
	CHILD_CHECK(block);
	memset(block, 7, size);
	CHILD_CHECK(locked_bytes() == 0);
	pid_t child = fork();
	if (child == 0)
		_exit(block[0] == 7 && block[size - 1] == 7 ? 0 : 1);
	int status;
	CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void tell_and_free(void *argument) {
	const enum way way = *(enum way *)argument;
	const size_t size = kept_size();
	char *block = aligned_alloc(4 * KIB, size), *other = aligned_alloc(4 * KIB, size);

	CHILD_CHECK(block && other);
	memset(block, 1, size);
	memset(other, 1, size);
	if (!kernel_has(way, block, size))
		_exit(77);
	CHILD_CHECK(tell(way, block, size));
	const size_t before = kept_bytes();
	free(block);
	CHILD_CHECK(kept_bytes() == before);
	CHILD_CHECK(locked_bytes() == 0);
	/* The block beside it, of which nobody said anything, is kept. */
	free(other);
	CHILD_CHECK(kept_bytes() >= before + size);
	for (int i = 0; i < 20; i++)
		expect_like_new(malloc(size), size);
}

static void attributes_end_with_the_block(void **state) {
	(void)state;
	for (enum way way = 0; way < WAYS; way++) {
		const int status = run_in_child(tell_and_free, &way);

		if (status != 77)
			assert_int_equal(status, 0);
		/* These are everywhere. */
		if (way == DONTFORK || way == READ_ONLY || way == SEQUENTIAL)
			assert_int_equal(status, 0);
	}
}

/* Blocks that share a mapping with others, which stay as they are. */
static void tell_and_free_smaller(void *argument) {
	static const size_t sizes[] = { 64 * KIB, 304 * KIB, MIB };
	const enum way way = *(enum way *)argument;

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		const size_t size = sizes[i];
		char *before = malloc(size), *block = aligned_alloc(4 * KIB, size), *behind = malloc(size);

		CHILD_CHECK(before && block && behind);
		memset(before, 2, size);
		memset(block, 1, size);
		memset(behind, 4, size);
		if (!kernel_has(way, block, size))
			_exit(77);
		CHILD_CHECK(tell(way, block, size));
		free(block);
		CHILD_CHECK(locked_bytes() == 0);
		for (int k = 0; k < 4; k++) {
			char *fresh = k % 2 ? calloc(1, size) : malloc(size);
			for (size_t at = 0; k % 2 && at < size; at++) CHILD_CHECK(fresh[at] == 0);
			expect_like_new(fresh, size);
		}
		for (size_t at = 0; at < size; at++) CHILD_CHECK(before[at] == 2 && behind[at] == 4);
		free(before);
		free(behind);
	}
}

static void attributes_end_with_smaller_blocks(void **state) {
	(void)state;
	for (enum way way = 0; way < WAYS; way++) {
		/* Half of the smallest is too little for some of them. */
		const int status = run_in_child(tell_and_free_smaller, &way);

		if (status != 77)
			assert_int_equal(status, 0);
		if (way == DONTFORK || way == SEQUENTIAL)
			assert_int_equal(status, 0);
	}
}

/* A coroutine's stack, whose guard is still closed when it is freed. */
static void free_guarded_stacks(void *unused) {
	(void)unused;
	for (size_t size = 128 * KIB; size <= 8 * MIB; size *= 2)
		for (int i = 0; i < 5; i++) {
			char *stack = aligned_alloc(4 * KIB, size);

			CHILD_CHECK(stack && mprotect(stack, 4 * KIB, PROT_NONE) == 0);
			free(stack);
			char *block = calloc(1, size);
			CHILD_CHECK(block);
			memset(block, 1, size);
			free(block);
		}
}

static void closed_pages_end_with_the_block(void **state) {
	(void)state;
	assert_int_equal(run_in_child(free_guarded_stacks, NULL), 0);
}

/* realloc takes the attributes along, as mremap does: the block that it makes is not kept either. */
static void tell_and_resize(void *unused) {
	const size_t size = kept_size();
	char *block = aligned_alloc(4 * KIB, size);

	(void)unused;
	CHILD_CHECK(block);
	memset(block, 3, size);
	CHILD_CHECK(madvise(block, size, MADV_DONTFORK) == 0);
	block = realloc(block, size + 300 * KIB);
	CHILD_CHECK(block && block[size - 1] == 3);
	const size_t before = kept_bytes();
	free(block);
	CHILD_CHECK(kept_bytes() == before);
	for (int i = 0; i < 20; i++)
		expect_like_new(malloc(size), size);
}

static void attributes_move_with_the_block(void **state) {
	(void)state;
	assert_int_equal(run_in_child(tell_and_resize, NULL), 0);
}

/* Small blocks share their pages, and keep what was said of them. A child that sees some as zeros, which are free, gets them. */
static void wipe_and_free_small_blocks(void *argument) {
	const size_t size = *(const size_t *)argument;
	char *blocks[64];

	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		CHILD_CHECK(blocks[i] = aligned_alloc(4 * KIB, size));
		memset(blocks[i], 1, size);
	}
	if (!kernel_has(WIPEONFORK, blocks[0], size))
		_exit(77);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		CHILD_CHECK(tell(WIPEONFORK, blocks[i], size));
	for (size_t i = 0; i < COUNT_OF(blocks); i += 2)
		free(blocks[i]);
	pid_t child = fork();
	for (size_t i = 0; i < 2 * COUNT_OF(blocks); i++) {
		char *block = malloc(size);
		CHILD_CHECK(block);
		memset(block, 2, size);
	}
	if (child == 0)
		_exit(0);
	int status;
	CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void children_get_wiped_blocks(void **state) {
	static const size_t sizes[] = { 4 * KIB, 8 * KIB, 32 * KIB };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		const int status = run_in_child(wipe_and_free_small_blocks, (void *)&sizes[i]);

		if (status == 77)
			SKIP("this kernel has no MADV_WIPEONFORK");
		assert_int_equal(status, 0);
	}
}

/* Neither what the program had then, nor what was kept then, goes to others. */
static void lock_all(void *unused) {
	const size_t size = kept_size();
	char *block = malloc(size), *kept = malloc(size);

	(void)unused;
	CHILD_CHECK(block && kept);
	memset(kept, 1, size);
	free(kept);
	CHILD_CHECK(kept_bytes() >= size);
	if (syscall(SYS_mlockall, MCL_CURRENT) != 0)
		_exit(77);
	CHILD_CHECK(syscall(SYS_munlockall) == 0);
	CHILD_CHECK(mlockall(MCL_CURRENT) == 0);
	CHILD_CHECK(munlockall() == 0);
	const size_t before = kept_bytes();
	CHILD_CHECK(before < size);
	free(block);
	CHILD_CHECK(kept_bytes() == before);
}

static void locking_all_is_about_all(void **state) {
	(void)state;
	const int status = run_in_child(lock_all, NULL);

	if (status == 77)
		SKIP("not all may be locked (RLIMIT_MEMLOCK)");
	assert_int_equal(status, 0);
}

/* What has no effect on later owners costs nothing later. */
static void advise_and_free(void *unused) {
	static const int harmless[] = { MADV_NORMAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE };
	const size_t size = kept_size();

	(void)unused;
	for (size_t i = 0; i < COUNT_OF(harmless); i++) {
		char *block = aligned_alloc(4 * KIB, size);

		CHILD_CHECK(block);
		memset(block, 1, size);
		CHILD_CHECK(madvise(block + 4 * KIB, size / 2, harmless[i]) == 0);
		memset(block, 1, size);
		const size_t before = kept_bytes();
		free(block);
		CHILD_CHECK(kept_bytes() >= before + size);
		arenal_purge();
	}
}

static void other_advice_does_not(void **state) {
	(void)state;
	assert_int_equal(run_in_child(advise_and_free, NULL), 0);
}

static void answers_are_those_of_libc(void **state) {
	(void)state;
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *area = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(area, MAP_FAILED);
	errno = 5;
	assert_int_equal(madvise(area, page, MADV_DONTFORK), 0);
	assert_int_equal(mprotect(area, page, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(pkey_mprotect(area, page, PROT_READ | PROT_WRITE, -1), 0);
	assert_int_equal(posix_madvise(area, page, POSIX_MADV_NORMAL), 0);
	assert_int_equal(errno, 5);

	assert_int_equal(madvise(area, page, 12345), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(madvise(area + 1, page, MADV_DONTFORK), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(mprotect(area + 1, page, PROT_READ), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(mlock2(area, page, 1 << 20), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(pkey_mprotect(area, page, PROT_READ, 100), -1);
	assert_true(errno == EINVAL || errno == ENOSPC || errno == ENOSYS);
	munmap(area + 2 * page, page);
	errno = 0;
	assert_int_equal(mlock(area, 4 * page), -1);
	assert_true(errno == ENOMEM || errno == EPERM);
	munlock(area, 2 * page);
	errno = 0;
	assert_int_equal(mprotect(area, 4 * page, PROT_READ), -1);
	assert_int_equal(errno, ENOMEM);

	/* Its error is what it returns. */
	errno = 5;
	assert_int_equal(posix_madvise(area, page, 12345), EINVAL);
	assert_int_equal(errno, 5);
	/* Nothing is lost by this one. */
	assert_int_equal(mprotect(area, page, PROT_READ | PROT_WRITE), 0);
	area[0] = 9;
	assert_int_equal(posix_madvise(area, page, POSIX_MADV_DONTNEED), 0);
	assert_int_equal(area[0], 9);
	assert_int_equal(madvise(area, page, MADV_DONTNEED), 0);
	assert_int_equal(area[0], 0);
	munmap(area, 4 * page);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attributes_end_with_the_block),
		cmocka_unit_test(attributes_end_with_smaller_blocks),
		cmocka_unit_test(closed_pages_end_with_the_block),
		cmocka_unit_test(attributes_move_with_the_block),
		cmocka_unit_test(children_get_wiped_blocks),
		cmocka_unit_test(locking_all_is_about_all),
		cmocka_unit_test(other_advice_does_not),
		cmocka_unit_test(answers_are_those_of_libc),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
