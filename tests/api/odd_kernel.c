/* Kernels, emulators and sandboxes in which MADV_DONTNEED is not what it is elsewhere. The program sets that up and executes itself
 * again, so that the library meets it from the start: odd_kernel lies | refuses | locked. Status 77: it cannot be had here. */
#include "stamp.h"
#include "support.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif

/* From now on, each madvise does nothing, and says that it failed with this error, or, 0, that it is done. */
static void do_nothing_for_madvise(unsigned error) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	filter_calls(filter, COUNT_OF(filter));
}

/* ---- calloc where purging does nothing ---- */

static void calloc_after_use(size_t size, size_t all) {
	const size_t count = all / size;
	char **blocks = malloc(count * sizeof *blocks);

	CHILD_CHECK(blocks);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < count; i++) {
			blocks[i] = malloc(size);
			CHILD_CHECK(blocks[i]);
			memset(blocks[i], 0xff, size);
		}
		for (size_t i = 0; i < count; i++)
			free(blocks[i]);
		malloc_trim(0);
		for (size_t i = 0; i < count; i++) {
			blocks[i] = calloc(1, size);
			CHILD_CHECK(blocks[i] && holds_only(blocks[i], size, 0));
		}
		/* Most of it stays untouched by the program: the next calloc finds it so. */
		for (size_t i = 0; i < count; i++) {
			blocks[i][size - 1] = 1;
			free(blocks[i]);
		}
	}
	free(blocks);
}

static void calloc_is_zero(void) {
	static const size_t sizes[] = { 100, 5000, 60000, 200000, 700000, 3000000 };

	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		calloc_after_use(sizes[i], 40 * MIB);
}

/* ---- memory goes back although it is locked ---- */

static bool can_lock_all(void) {
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	if (syscall(SYS_mlockall, MCL_CURRENT | MCL_FUTURE) != 0 || page == MAP_FAILED)
		return false;
	return syscall(SYS_madvise, page, 4096, MADV_DONTNEED_LOCKED) == 0;
}

static void use(size_t size, size_t all) {
	const size_t count = all / size;
	char **blocks = mmap(NULL, count * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHILD_CHECK(blocks != MAP_FAILED);
	for (size_t i = 0; i < count; i++) {
		blocks[i] = malloc(size);
		CHILD_CHECK(blocks[i]);
		memset(blocks[i], 1, size);
	}
	/* A block at the end of the heap lives on, so that lowering the break is not enough. */
	char *last = malloc(size);
	CHILD_CHECK(last);
	for (size_t i = 0; i < count; i++)
		free(blocks[i]);
	munmap(blocks, count * sizeof *blocks);
}

static void locked_memory_goes_back(void) {
	static const size_t sizes[] = { 100, 3000, 100000, 600000, 3000000 };
	const size_t before = resident_bytes();

	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		use(sizes[i], 120 * MIB);
	malloc_trim(0);
	const size_t after = resident_bytes();
	CHILD_CHECK(after < before + 24 * MIB);
	/* It is the program's again as it was, and locked. */
	calloc_after_use(100000, 20 * MIB);
}

int main(int argc, char **argv) {
	CHILD_CHECK(argc >= 2);
	const bool locked = strcmp(argv[1], "locked") == 0;

	if (argc == 2 && !locked) {
		do_nothing_for_madvise(strcmp(argv[1], "lies") == 0 ? 0 : EINVAL);
		execv("/proc/self/exe", (char *[]) { argv[0], argv[1], "again", NULL });
		return 127;
	}
	CHILD_CHECK(require_arenal(NULL) == 0);
	if (!locked) {
		calloc_is_zero();
		return 0;
	}
	if (!can_lock_all()) {
		puts("skipped: not all may be locked, or not purged then (Linux 5.18)");
		return 77;
	}
	locked_memory_goes_back();
	return 0;
}
