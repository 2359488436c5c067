/* Hardened mode: what it promises, for small, medium and large blocks, each with the message that ends the program. Runs with
 * ARENAL_HARDEN=1. */
#include "support.h"

#include <arenal/arenal.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static const size_t sizes[] = { 1, 8, 24, 100, 1000, 4096, 5000, 30000, 32760, 32761, 100000, 600000, 5 * MIB };

/* A pointer that the compiler knows nothing about. */
static char *unknown(void *pointer) { return (char *)hidden((size_t)pointer); }

static size_t size; /* of the blocks of the running case */

/* The body ends by the signal; with SIGABRT, stderr has one line, with the text in it. */
static void expect_end(void (*body)(void *), int signal_, const char *text) {
	int status;
	const char *line = written_by_child(body, NULL, &status);
	if (status != 128 + signal_ || (signal_ == SIGABRT && (strncmp(line, "arenal: ", 8) != 0 || !strstr(line, text))))
		fail_msg("%zu bytes: ended with %d and wrote \"%s\" instead of \"%s\"", size, status, line, text);
}

/* The body goes on, and stderr has one report, with the text in it; NULL: nothing. */
static void expect_report(void (*body)(void *), const char *text) {
	int status;
	const char *line = written_by_child(body, NULL, &status), *found = text != NULL ? strstr(line, text) : NULL;
	const bool reported = found != NULL && strstr(line, "; the program goes on") != NULL && strstr(line, "  freed by thread ") != NULL &&
	                      strstr(found, "arenal: ") == NULL;
	if (status != 0 || (text != NULL ? !reported : *line != '\0'))
		fail_msg("%zu bytes: ended with %d and wrote \"%s\" instead of \"%s\"", size, status, line, text != NULL ? text : "");
}

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
	/* The first block of a span has a guard in front, and the write faults. Not all of them are first ones. */
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
		for (behind = 0; behind < 40; behind += 3) expect_end(write_farther_behind, SIGABRT, "something wrote behind");
		expect_end(grow_and_write_behind, SIGABRT, "something wrote behind");
	}
}

/* Large blocks of one length come back with their memory, but late, and cleared. */
static void large_blocks_come_back(void **state) {
	(void)state;
	enum { ROUNDS = 200, LATE = 8 };
	static char *freed[ROUNDS];
	const size_t length = 100000;
	size_t again = 0;
	for (int n = 0; n < ROUNDS; n++) {
		freed[n] = unknown(malloc(length));
		for (size_t i = 0; i < length; i++)
			if (freed[n][i] != 0) fail_msg("round %d: byte %zu does not read as zero", n, i);
		memset(freed[n], 'A', length);
		for (int before = 0; before < n; before++) {
			if (freed[before] != freed[n]) continue;
			again++;
			assert_true(n - before >= LATE);
		}
		free(freed[n]);
	}
	assert_true(again > 0);
	assert_int_equal(malloc_trim(0), 1); /* their memory goes back */
	assert_int_equal(malloc_trim(0), 0);
}

/* So do the addresses of longer ones, of any length, and those that realloc has moved a block away from, which is two addresses a round:
 * after `late` rounds. */
static void check_late(size_t length, size_t moved_to, int late) {
	enum { ROUNDS = 60 };
	static char *freed[ROUNDS];
	for (int n = 0; n < ROUNDS; n++) {
		freed[n] = unknown(malloc(length));
		for (int before = n - late < 0 ? 0 : n - late; before < n; before++)
			if (freed[before] == freed[n]) fail_msg("%zu bytes, moved to %zu: round %d has the address of round %d", length, moved_to, n, before);
		char *last = moved_to > 0 ? realloc(unknown(freed[n]), moved_to) : freed[n];
		assert_true(last && (moved_to == 0 || last != freed[n]));
		free(last);
	}
}

static void addresses_of_long_blocks_come_back_late(void **state) {
	(void)state;
	check_late(100000, 300000, 4);
	check_late(7 * MIB, 0, 8);
	check_late(7 * MIB, 14 * MIB, 4);
	check_late(9 * MIB, 0, 8);
	check_late(9 * MIB, 18 * MIB, 4);
	/* Not so many, for all that wait are no more than 256 MiB, but for one alone. */
	check_late(64 * MIB, 0, 3);
	check_late(64 * MIB, 128 * MIB, 1);
	check_late(1000 * MIB, 0, 1);
	malloc_trim(0);
}

static bool moved; /* the block that is freed twice was realloc's */

static void free_twice_beside_the_next(void *unused) {
	(void)unused;
	char *block = unknown(malloc(size)), *copy = unknown(block);
	free(moved ? realloc(block, 2 * size) : block);
	/* Who gets that address next would be the one whose block goes. */
	for (int i = 0; i < 7; i++) unknown(malloc(size));
	free(copy);
}

static void long_blocks_freed_twice(void **state) {
	(void)state;
	static const size_t lengths[] = { 100000, 5 * MIB, 9 * MIB, 64 * MIB, 1000 * MIB };
	/* The last one waits until the next free only. */
	for (size_t i = 0; i < 2 * COUNT_OF(lengths) - 1; i++) {
		size = lengths[i / 2];
		moved = i % 2 != 0;
		expect_end(free_twice_beside_the_next, SIGABRT, "was freed already");
	}
	moved = false;
}

/* Beyond so many large blocks, new ones have no guards. */
static void free_twice_without_guards(void *unused) {
	enum { MANY = 8500 };
	for (int i = 0; i < MANY; i++) unknown(malloc(33000));
	free_twice_beside_the_next(unused);
}

static void blocks_without_guards_freed_twice(void **state) {
	(void)state;
	size = 33000;
	expect_end(free_twice_without_guards, SIGABRT, "was freed already");
}

/* A process with a limit of address space keeps most of it for itself: other mappings of the program are not to fail. */
static void map_under_a_limit(void *unused) {
	(void)unused;
	limit_address_space(virtual_bytes() + 1024 * MIB);
	for (int i = 0; i < 100; i++) free(unknown(malloc(100 * MIB)));
	CHILD_CHECK(mmap(NULL, 700 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

/* A malloc that fails has given back all that waits, the parent's, too. */
static void start_without_addresses(void) {
	CHILD_CHECK(unknown(malloc(((size_t)1 << 47) - 4096)) == NULL);
	free(unknown(malloc(100)));
}

static void free_ordinary_ones_under_a_limit(void *unused) {
	(void)unused;
	start_without_addresses();
	limit_address_space(virtual_bytes() + 400 * MIB);
	for (size_t i = 0; i < 150; i++) free(unknown(malloc(MIB + i * 4096)));
	CHILD_CHECK(mmap(NULL, 300 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

/* Any process may limit its addresses, at any time: they are few before that, too. */
static void limit_later(void *unused) {
	(void)unused;
	static const size_t lengths[] = { MIB, 9 * MIB, 64 * MIB, 200 * MIB, 250 * MIB, 3000 * MIB };
	start_without_addresses();
	const size_t before = virtual_bytes();
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		for (size_t n = 0; n < 40; n++) free(unknown(malloc(lengths[i] + n * 4096)));
	CHILD_CHECK(virtual_bytes() < before + 400 * MIB);
	/* One that grows. */
	char *block = NULL;
	for (size_t length = MIB; length < 3000 * MIB; length += length / 4) CHILD_CHECK((block = realloc(block, length)) != NULL);
	free(block);
	CHILD_CHECK(virtual_bytes() < before + 400 * MIB);
	/* The one that waits alone, and when it does no more. */
	free(unknown(malloc(900 * MIB)));
	CHILD_CHECK(virtual_bytes() < before + 1100 * MIB);
	free(unknown(malloc(100000)));
	CHILD_CHECK(virtual_bytes() < before + 400 * MIB);
	limit_address_space(before + 1024 * MIB);
	CHILD_CHECK(mmap(NULL, 600 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static void addresses_that_wait_leave_room_under_a_limit(void **state) {
	(void)state;
	assert_int_equal(run_in_child(map_under_a_limit, NULL), 0);
	assert_int_equal(run_in_child(free_ordinary_ones_under_a_limit, NULL), 0);
	assert_int_equal(run_in_child(limit_later, NULL), 0);
}

/* A child has arenas of its own. Those that it inherited, from all generations, are not in use, and one line of the table. */
static void print_after_generations(void *unused) {
	(void)unused;
	size_t arenas = 0;
	for (int generation = 1; generation <= 6; generation++) {
		const pid_t child = fork();
		int status;
		if (child > 0) _exit(waitpid(child, &status, 0) == child && status == 0 ? 0 : 1);
		CHILD_CHECK(child == 0);
		free(unknown(malloc(100)));
		struct arenal_stats stats;
		CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0 && (generation == 1 || stats.arenas == arenas));
		arenas = stats.arenas;
	}
	malloc_stats();
}

static void inherited_arenas_are_not_counted(void **state) {
	(void)state;
	int status;
	const char *text = written_by_child(print_after_generations, NULL, &status), *end = strstr(text, "\n size");
	assert_int_equal(status, 0);
	assert_non_null(end);
	int lines = 0;
	for (const char *line = strstr(text, " guarded  "); (line = strstr(line, " guarded ")) && line < end; line++) lines++;
	assert_int_equal(lines, 3); /* the number of guarded blocks, the arena, what was inherited */
}

static void come_near_the_limit(void *unused) {
	(void)unused;
	enum { COUNT = 50 };
	char *blocks[COUNT];
	CHILD_CHECK(arenal_set("memory_limit", (int64_t)MIB) == 0);
	for (int i = 0; i < COUNT; i++) blocks[i] = unknown(malloc(100000));
	for (int i = 0; i < COUNT; i++) free(blocks[i]);
	CHILD_CHECK(unknown(malloc(20 * MIB)) != NULL); /* so much that the limit is looked at */
	struct arenal_stats stats;
	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0 && stats.dirty < 2 * MIB);
}

static void freed_blocks_are_not_kept_near_the_limit(void **state) {
	(void)state;
	assert_int_equal(run_in_child(come_near_the_limit, NULL), 0);
}

static void overflows(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		size = sizes[i];
		const bool edge = size > 32760 && size % 4096 == 0;
		expect_end(write_behind, edge ? SIGSEGV : SIGABRT, "something wrote behind the block's");
		expect_end(write_zero_behind, edge ? SIGSEGV : SIGABRT, "something wrote behind the block's");
		expect_end(write_behind_then_realloc, edge ? SIGSEGV : SIGABRT, "realloc(");
		expect_end(write_behind_after_realloc, edge ? SIGSEGV : SIGABRT, "something wrote behind the block's");
		if (size < 30000) expect_end(write_behind_and_keep, SIGABRT, "something wrote behind the block");
		if (size < 10000) expect_end(write_in_front, SIGABRT, "something wrote in front of the block");
	}
}

/* ---- guards ---- */

/* The first access to what lies beyond a block's memory: told by a handler, for a program ends by SIGSEGV there under any malloc, sooner or
 * later, where nothing is mapped. A guard is mapped, and nobody else's memory lies before it. */
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
	CHILD_CHECK(sigaction(SIGSEGV, &(struct sigaction){ .sa_sigaction = tell_fault, .sa_flags = SA_SIGINFO }, NULL) == 0);
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
		assert_true(fault->address < fault->block && fault->block - fault->address <= (large ? 1024 : SPAN_MOST));
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
				if (block[i] != (i < from ? 'x' : 0)) fail_msg("byte %zu of %zu bytes that were %zu is %d", i, to, from, block[i]);
			free(block);
		}
	}
}

/* ---- families ---- */

typedef void *allocating(size_t);
typedef void *allocating_aligned(size_t, size_t);
typedef void freeing(void *);
typedef void freeing_sized(void *, size_t);

static const char *from, *to;
static int64_t action = -1; /* of the tunable misuse_family, in the child */

/* Twice: what goes on is reported once. */
static void cross(void *unused) {
	(void)unused;
	const bool aligned = strstr(from, "align") != NULL;
	CHILD_CHECK(arenal_set("misuse_family", action) == 0);
	for (int i = 0; i < 2; i++) {
		void *block = aligned ? ((allocating_aligned *)find_function(from))(size, 64) : ((allocating *)find_function(from))(size);
		CHILD_CHECK(block);
		if (strstr(to, "align"))
			((freeing_sized *)find_function(to))(block, 64);
		else
			((freeing *)find_function(to))(block);
	}
}

static void families(void **state) {
	(void)state;
	static const char *const news[] = { "malloc", "_Znwm", "_Znam", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t" };
	static const char *const deletes[] = { "free", "_ZdlPv", "_ZdaPv", "_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t" };
	static const char *const texts[] = { "came from malloc;", "came from operator new;", "came from operator new[];",
	                                     "came from operator new with an alignment;",
	                                     "came from operator new[] with an alignment;" };
	/* What a C++ library inside of another library gets from malloc, the program may delete, and the other way round. */
	enum { MALLOC, NEW, ARRAY, ALIGNED, ALIGNED_ARRAY };
	for (size_t n = 0; n < COUNT_OF(news); n++)
		for (size_t d = 0; d < COUNT_OF(deletes); d++)
			for (size_t i = 0; i < COUNT_OF(sizes) + 1; i += 3) {
				size = i < COUNT_OF(sizes) ? sizes[i] : 0;
				from = news[n], to = deletes[d];
				const size_t other = n == MALLOC ? d : n;
				const bool has_malloc = n == MALLOC || d == MALLOC;
				action = -1;
				if (n == d || (has_malloc && (other == NEW || other == ALIGNED)))
					expect_report(cross, NULL);
				else if (has_malloc)
					expect_report(cross, texts[n]);
				else
					expect_end(cross, SIGABRT, texts[n]);
				if (n == d) continue;
				action = 0;
				expect_report(cross, NULL);
				if (has_malloc && (other == NEW || other == ALIGNED)) continue;
				action = 1;
				expect_report(cross, texts[n]);
				action = 2;
				expect_end(cross, SIGABRT, texts[n]);
			}
}

static void wrong_size_of_free_sized(void *unused) {
	(void)unused;
	for (int i = 0; i < 2; i++) ((freeing_sized *)find_function("free_sized"))(unknown(malloc(size)), size + 1);
}

static void wrong_size_of_delete(void *unused) {
	(void)unused;
	for (int i = 0; i < 2; i++) ((freeing_sized *)find_function("_ZdlPvm"))(((allocating *)find_function("_Znwm"))(size), size + 1);
}

static void wrong_size_that_ends(void *unused) {
	CHILD_CHECK(arenal_set("misuse_size", 2) == 0);
	wrong_size_of_delete(unused);
}

static void sizes_of_sized_frees(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		char text[100];
		size = sizes[i];
		snprintf(text, sizeof text, "the size %zu is wrong: the block has %zu bytes", size + 1, size);
		expect_report(wrong_size_of_free_sized, text);
		expect_report(wrong_size_of_delete, text);
		expect_end(wrong_size_that_ends, SIGABRT, text);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(freed_blocks_are_not_kept_near_the_limit), /* first: its limit has not been looked for yet */
		cmocka_unit_test(overflows),
		cmocka_unit_test(overflows_of_some_bytes),
		cmocka_unit_test(large_blocks_come_back),
		cmocka_unit_test(addresses_of_long_blocks_come_back_late),
		cmocka_unit_test(long_blocks_freed_twice),
		cmocka_unit_test(blocks_without_guards_freed_twice),
		cmocka_unit_test(addresses_that_wait_leave_room_under_a_limit),
		cmocka_unit_test(inherited_arenas_are_not_counted),
		cmocka_unit_test(guards),
		cmocka_unit_test(use_after_free),
		cmocka_unit_test(freed_blocks_read_as_zero),
		cmocka_unit_test(blocks_come_back_late_and_in_any_order),
		cmocka_unit_test(misuse),
		cmocka_unit_test(blocks_of_no_size),
		cmocka_unit_test(usable_size_is_what_was_asked_for),
		cmocka_unit_test(realloc_keeps_contents),
		cmocka_unit_test(families),
		cmocka_unit_test(sizes_of_sized_frees),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
