/* Hardened mode: what it promises of a block, for small, medium and large ones, each with the message that
 * ends the program: overflows, guards, use after free, double free. Runs with ARENAL_HARDEN=1. */
#include "hardened.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void for_all_sizes(void (*body)(void *), const char *text) {
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size = sizes[i];
		expect_end(body, SIGABRT, text);
	}
}

static void write_behind(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size));
	block[size] ^= 1;
	free(block);
}

/* The zero behind a string that is one too long. */
static void write_zero_behind(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size));
	block[size] = 0;
	free(block);
}

static void write_behind_then_realloc(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size));
	block[size] ^= 1;
	block = realloc(block, size + 1);
}

static void write_behind_after_realloc(void *unused) {
	(void)unused;
	char *block = realloc(malloc(size + 2), size);
	unknown(block)[size] ^= 1;
	free(block);
}

/* Whoever overflows without freeing is found when the thread fetches blocks. */
static void write_behind_and_keep(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size));
	block[size] = 0;
	for (size_t i = 0; i < 1000; i++) unknown(malloc(2000));
}

static void write_in_front(void *unused) {
	(void)unused;
	char *blocks[50];
	/* The first block of a span has a guard in front, and the write faults. Not all of them are first
	 * ones. */
	for (int i = 0; i < 50; i++) blocks[i] = unknown(malloc(size));
	for (int i = 0; i < 50; i++)
		if ((uintptr_t)blocks[i] % 65536 != 0) {
			blocks[i][-1] = 0;
			free(blocks[i]);
		}
}

static size_t behind; /* bytes between the block's end and the write */

static void write_farther_behind(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size));
	block[size + behind] ^= 1;
	free(block);
}

/* After it grew where it is, too. */
static void grow_and_write_behind(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size - 1));
	block = unknown(realloc(block, size));
	block[size] ^= 1;
	free(block);
}

/* Of classes that are much longer than the block: each byte of the first words. */
static void overflows_of_some_bytes(void **state) {
	(void)state;
	static const size_t long_classes[] = { 600, 1100, 2100, 9000 };
	for (size_t i = 0; i < COUNT_OF(long_classes); i++) {
		size = long_classes[i];
		for (behind = 0; behind < 40; behind += 3)
			expect_end(write_farther_behind, SIGABRT, "something wrote behind");
		expect_end(grow_and_write_behind, SIGABRT, "something wrote behind");
	}
}

static void overflows(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size = sizes[i];
		const bool edge = size > 32760 && size % 4096 == 0;
		expect_end(write_behind, edge ? SIGSEGV : SIGABRT, "something wrote behind the block's");
		expect_end(write_zero_behind, edge ? SIGSEGV : SIGABRT, "something wrote behind the block's");
		expect_end(write_behind_then_realloc, edge ? SIGSEGV : SIGABRT, "realloc(");
		expect_end(write_behind_after_realloc, edge ? SIGSEGV : SIGABRT,
		           "something wrote behind the block's");
		if (size < 30000) expect_end(write_behind_and_keep, SIGABRT, "something wrote behind the block");
		if (size < 10000) expect_end(write_in_front, SIGABRT, "something wrote in front of the block");
	}
}

/* ---- guards ---- */

/* The first access to what lies beyond a block's memory: told by a handler, for a program ends by SIGSEGV
 * there under any malloc, sooner or later, where nothing is mapped. A guard is mapped, and nobody else's
 * memory lies before it. */
static struct fault {
	uintptr_t block, address;
	int code;
} *fault;

static void tell_fault(int signal, siginfo_t *info, void *context) {
	(void)signal;
	(void)context;
	fault->address = (uintptr_t)info->si_addr;
	fault->code = info->si_code;
	_exit(42);
}

/* Neighbours take up what lies around it. */
static char *block_among_others(void) {
	enum { OTHERS = 20 };
	char *blocks[2 * OTHERS];
	for (int i = 0; i < 2 * OTHERS; i++) blocks[i] = unknown(malloc(size));
	CHILD_CHECK(sigaction(SIGSEGV, &(struct sigaction){ .sa_sigaction = tell_fault, .sa_flags = SA_SIGINFO },
	                      NULL) == 0);
	fault->block = (uintptr_t)blocks[OTHERS];
	return blocks[OTHERS];
}

static void write_to_the_guard_behind(void *unused) {
	(void)unused;
	volatile char *block = block_among_others();
	for (size_t i = 0; i < 16 * MIB; i += 1024) block[i] = 1;
}

static void write_to_the_guard_in_front(void *unused) {
	(void)unused;
	volatile char *block = block_among_others();
	for (size_t i = 0; i < 16 * MIB; i += 1024) block[-(ptrdiff_t)i] = 1;
}

/* A small block lies in a span of up to four slices; a large one's guards touch its pages. */
#define SPAN_MOST ((uintptr_t)4 * 65536)

static void guards(void **state) {
	(void)state;
	fault = mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(fault != MAP_FAILED);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size = sizes[i];
		const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
		const bool large = size > 32760;
		*fault = (struct fault){ 0, 0, 0 };
		assert_int_equal(run_in_child(write_to_the_guard_behind, NULL), 42);
		assert_int_equal(fault->code, SEGV_ACCERR);
		assert_true(large ? fault->address - fault->block - (size + page - 1) / page * page < 1024
		                  : fault->address > fault->block && fault->address - fault->block <= SPAN_MOST);
		*fault = (struct fault){ 0, 0, 0 };
		assert_int_equal(run_in_child(write_to_the_guard_in_front, NULL), 42);
		assert_int_equal(fault->code, SEGV_ACCERR);
		assert_true(fault->address < fault->block &&
		            fault->block - fault->address <= (large ? 1024 : SPAN_MOST));
	}
	munmap(fault, sizeof *fault);
}

static void write_after_free(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size));
	free(block);
	/* At the end of long blocks, where no patrol comes by. */
	((volatile char *)block)[size > 8192 ? size - 1 : 0] = 1;
	for (int i = 0; i < 100000; i++) free(malloc(size));
}

static void use_after_free(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size = sizes[i];
		expect_end(write_after_free, size > 32760 ? SIGSEGV : SIGABRT, "was written to after it was freed");
	}
}

static void freed_blocks_read_as_zero(void **state) {
	(void)state;
	for (size_t i = 0; sizes[i] < 32761; i++) {
		char *block = unknown(malloc(sizes[i]));
		memset(block, 'A', sizes[i]);
		free(block);
		for (size_t n = 0; n < sizes[i]; n++) assert_int_equal(((volatile char *)block)[n], 0);
	}
}

/* A block comes back late, and not in the order in which blocks were freed. */
static void blocks_come_back_late_and_in_any_order(void **state) {
	(void)state;
	enum { ROUNDS = 300 };
	static char *freed[ROUNDS];
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size_t ordered = 0;
		for (int n = 0; n < ROUNDS; n++) {
			freed[n] = unknown(malloc(sizes[i]));
			if (n > 0) assert_ptr_not_equal(freed[n], freed[n - 1]);
			if (n > 1) ordered += (freed[n] > freed[n - 1]) == (freed[n - 1] > freed[n - 2]);
			free(freed[n]);
		}
		if (sizes[i] < 2000) assert_in_range(ordered, ROUNDS / 10, ROUNDS * 9 / 10);
	}
}

static void free_twice(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size)), *copy = unknown(block);
	free(block);
	free(copy);
}

static void free_twice_late(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size)), *copy = unknown(block);
	free(block);
	for (int i = 0; i < 20; i++) free(malloc(size == 0 ? 24 : 0));
	free(copy);
}

static void free_of_a_neighbour(void *unused) {
	(void)unused;
	free(unknown(malloc(size)) + 16);
}

static void misuse(void **state) {
	(void)state;
	for_all_sizes(free_twice, "was freed already");
	for_all_sizes(free_twice_late, "was freed already");
	for_all_sizes(free_of_a_neighbour, "block");
	size = 0;
	expect_end(free_twice, SIGABRT, "was freed already");
	expect_end(free_twice_late, SIGABRT, "was freed already");
}

static void read_nothing(void *unused) {
	(void)unused;
	(void)*(volatile char *)unknown(malloc(0));
}

static void blocks_of_no_size(void **state) {
	(void)state;
	char *first = malloc(hidden(0)), *second = malloc(hidden(0));
	assert_non_null(first);
	assert_ptr_not_equal(first, second);
	assert_int_equal((uintptr_t)first % 16, 0);
	assert_int_equal(malloc_usable_size(first), 0);
	first = realloc(first, 100);
	memset(first, 1, 100);
	free(first);
	free(second);
	expect_end(read_nothing, SIGSEGV, "");
}

static void usable_size_is_what_was_asked_for(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		char *block = malloc(sizes[i]);
		assert_int_equal(malloc_usable_size(block), sizes[i]);
		block = realloc(block, sizes[i] + 1);
		assert_int_equal(malloc_usable_size(block), sizes[i] + 1);
		free(block);
	}
}

/* realloc keeps what is in the block, and shows nothing of a canary. */
static void realloc_keeps_contents(void **state) {
	(void)state;
	for (size_t from = 1; from < 300000; from += 1 + from / 3) {
		for (size_t to = 1; to < 300000; to += 1 + to / 3) {
			char *block = malloc(from);
			memset(block, 'x', from);
			block = realloc(block, to);
			for (size_t i = 0; i < to; i++)
				if (block[i] != (i < from ? 'x' : 0))
					fail_msg("byte %zu of %zu bytes that were %zu is %d", i, to, from, block[i]);
			free(block);
		}
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(overflows),
		cmocka_unit_test(overflows_of_some_bytes),
		cmocka_unit_test(guards),
		cmocka_unit_test(use_after_free),
		cmocka_unit_test(freed_blocks_read_as_zero),
		cmocka_unit_test(blocks_come_back_late_and_in_any_order),
		cmocka_unit_test(misuse),
		cmocka_unit_test(blocks_of_no_size),
		cmocka_unit_test(usable_size_is_what_was_asked_for),
		cmocka_unit_test(realloc_keeps_contents),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
