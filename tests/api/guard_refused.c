/* The kernel does not close freed guarded blocks in the usual way: by a new mapping in their place, which may be one too many. Runs with
 * ARENAL_GUARD_SAMPLE=1. */
#include "support.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + (n) * 8) /* its lower half, on a little-endian machine */

/* From now on, `call` fails with ENOMEM when any of these bits is set in that argument; `bits` 0: when it is zero. */
static void refuse(unsigned call, unsigned argument, unsigned bits) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(argument)),
		bits ? (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1)
		     : (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	filter_calls(filter, COUNT_OF(filter));
}

static void refuse_new_mappings(void) { refuse(SYS_mmap, 3, MAP_FIXED); }
static void refuse_closing(void) { refuse(SYS_mprotect, 2, 0); } /* PROT_NONE */
static void refuse_purging(void) { refuse(SYS_madvise, 2, MADV_DONTNEED); }

static size_t guarded_now(void) {
	struct arenal_stats stats;

	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats.guarded;
}

enum { SIZE = 3000, SLOT = 65536 };

static char *guarded_block(void) {
	size_t before = guarded_now();
	char *block = calloc(1, SIZE);

	CHILD_CHECK(block && guarded_now() == before + 1);
	for (size_t i = 0; i < SIZE; i++)
		CHILD_CHECK(block[i] == 0);
	memset(block, 0x5a, SIZE);
	return unknown(block);
}

static void read_after_free(void) {
	char *block = guarded_block();

	signal(SIGSEGV, SIG_DFL);
	free(block);
	(void)*(volatile char *)block;
	_exit(3);
}

static void without_new_mappings(void *unused) {
	(void)unused;
	guarded_block();
	refuse_new_mappings();
	read_after_free();
}

static void without_new_mappings_and_purging(void *unused) {
	(void)unused;
	guarded_block();
	refuse_new_mappings();
	refuse_purging();
	read_after_free();
}

static void freed_blocks_are_closed_all_the_same(void **state) {
	(void)state;
	int status;
	assert_non_null(strstr(written_by_child(without_new_mappings, NULL, &status), "arenal: use after free: read of"));
	assert_int_equal(status, 128 + SIGSEGV);
	assert_non_null(strstr(written_by_child(without_new_mappings_and_purging, NULL, &status), "arenal: use after free: read of"));
	assert_int_equal(status, 128 + SIGSEGV);
}

/* No more of them than there are slots: what stays in use keeps its slot, too. */
static void not_used_again(void (*refuse_more)(void)) {
	enum { LOST = 20, LATER = 600 };
	char *lost[LOST];

	for (size_t i = 0; i < LOST; i++)
		lost[i] = guarded_block();
	refuse_new_mappings();
	refuse_more();
	for (size_t i = 0; i < LOST; i++)
		free(lost[i]);
	/* The slots that are used again and lost one by one; then blocks are not guarded any more. */
	for (size_t i = 0; i < LATER; i++) {
		char *block = calloc(1, SIZE);

		CHILD_CHECK(block);
		for (size_t at = 0; at < SIZE; at++)
			CHILD_CHECK(block[at] == 0);
		for (size_t n = 0; n < LOST; n++)
			CHILD_CHECK((uintptr_t)block / SLOT != (uintptr_t)lost[n] / SLOT);
		memset(block, 0x5a, SIZE);
		free(block);
	}
}

static void neither_mappings_nor_closing(void *unused) {
	(void)unused;
	not_used_again(refuse_closing);
}

static void neither_mappings_nor_purging(void *unused) {
	(void)unused;
	not_used_again(refuse_purging);
}

static void slots_that_stay_open_or_dirty_are_not_used_again(void **state) {
	(void)state;
	assert_int_equal(run_in_child(neither_mappings_nor_closing, NULL), 0);
	assert_int_equal(run_in_child(neither_mappings_nor_purging, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(freed_blocks_are_closed_all_the_same),
		cmocka_unit_test(slots_that_stay_open_or_dirty_are_not_used_again),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
