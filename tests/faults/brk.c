/* The break belongs to the whole process: programs that move it themselves, something in its way, and a limit. */
#include "stamp.h"
#include "support.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

enum { BLOCKS = 3000 };

/* A crowd of live blocks, part of which is replaced with each step. */
struct crowd {
	struct {
		void *address;
		size_t size;
	} blocks[BLOCKS];
	unsigned step;
};

static void crowd_step(struct crowd *crowd, size_t bytes) {
	size_t total = 0;

	while (total < bytes) {
		unsigned i = crowd->step++ * 7919 % BLOCKS;
		size_t size = sample_size(crowd->step % 190);

		if (crowd->blocks[i].address) {
			CHILD_CHECK(stamp_intact(crowd->blocks[i].address, crowd->blocks[i].size, i));
			free(crowd->blocks[i].address);
		}
		crowd->blocks[i].address = crowd->step % 5 ? malloc(size) : calloc(1, size);
		CHILD_CHECK(crowd->blocks[i].address);
		CHILD_CHECK(crowd->step % 5 || holds_only(crowd->blocks[i].address, size, 0));
		crowd->blocks[i].size = size;
		stamp_block(crowd->blocks[i].address, size, i);
		total += size;
	}
}

static void crowd_leave(struct crowd *crowd) {
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (crowd->blocks[i].address)
			CHILD_CHECK(stamp_intact(crowd->blocks[i].address, crowd->blocks[i].size, i));
		free(crowd->blocks[i].address);
		crowd->blocks[i].address = NULL;
	}
}

/* The program's own pieces of the heap. */
struct piece {
	char *start;
	size_t size;
};

static struct piece take_break(size_t size) {
	struct piece piece = { sbrk((intptr_t)size), size };

	CHILD_CHECK(piece.start != (void *)-1);
	/* New heap memory is zero: nobody else wrote there. */
	CHILD_CHECK(holds_only(piece.start, size, 0));
	stamp_block(piece.start, size, size);
	return piece;
}

static void check_piece(const struct piece *piece) {
	CHILD_CHECK(stamp_intact(piece->start, piece->size, piece->size));
}

/* Takes pieces between allocations and keeps them. */
static void keep_pieces(void *argument) {
	static const size_t sizes[] = { 1, 7, 16, 24, 100, 4095, 4096, 4097, 16384, 65535, 65536, 65537, 200000, MIB, 3 * MIB };
	static struct crowd crowd;
	struct piece pieces[6 * COUNT_OF(sizes)];
	size_t bytes = *(const size_t *)argument;

	for (size_t i = 0; i < COUNT_OF(pieces); i++) {
		crowd_step(&crowd, bytes);
		pieces[i] = take_break(sizes[i % COUNT_OF(sizes)]);
		if (i % 16 == 15) {
			crowd_leave(&crowd);
			malloc_trim(0);
		}
		for (size_t n = 0; n <= i; n++)
			check_piece(&pieces[n]);
	}
	crowd_leave(&crowd);
	malloc_trim(0);
	for (size_t i = 0; i < COUNT_OF(pieces); i++)
		check_piece(&pieces[i]);
}

static void program_takes_pieces_of_the_break(void **state) {
	(void)state;
	size_t steps[] = { 1000, 100000, MIB, 3 * MIB };

	for (size_t i = 0; i < COUNT_OF(steps); i++)
		assert_int_equal(run_in_child(keep_pieces, &steps[i]), 0);
}

/* Takes pieces and gives them back, at once or when nothing has been put on top of them meanwhile. */
static void return_pieces(void *argument) {
	static struct crowd crowd;
	size_t bytes = *(const size_t *)argument;

	for (size_t i = 0; i < 100; i++) {
		struct piece brief = take_break(1 + i * 977 % 200000);
		check_piece(&brief);
		CHILD_CHECK(sbrk(-(intptr_t)brief.size) == brief.start + brief.size);

		crowd_step(&crowd, bytes);
		struct piece longer = take_break(1 + i * 4099 % 300000);
		crowd_step(&crowd, bytes);
		check_piece(&longer);
		if (sbrk(0) == longer.start + longer.size)
			CHILD_CHECK(sbrk(-(intptr_t)longer.size) == longer.start + longer.size);
		crowd_step(&crowd, bytes);
		if (i % 10 == 0)
			malloc_trim(0);
	}
	crowd_leave(&crowd);
}

static void program_gives_the_break_back(void **state) {
	(void)state;
	size_t steps[] = { 100, 50000, MIB };

	for (size_t i = 0; i < COUNT_OF(steps); i++)
		assert_int_equal(run_in_child(return_pieces, &steps[i]), 0);
}

/* Puts a page into the way of the break. */
static void block_break(void) {
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *next = (char *)(((uintptr_t)sbrk(0) + page - 1) / page * page);

	CHILD_CHECK(mmap(next, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == next);
	CHILD_CHECK(sbrk((intptr_t)(2 * page)) == (void *)-1);
}

/* The heap goes on in mapped memory, and what lay in the old part stays. */
static void grow_past_an_obstacle(void *argument) {
	static struct crowd before, after;

	if (argument)
		crowd_step(&before, 10 * MIB);
	block_break();
	void *end = sbrk(0);
	for (size_t i = 0; i < 100; i++) {
		crowd_step(&after, 3 * MIB);
		crowd_step(&before, MIB);
	}
	CHILD_CHECK(sbrk(0) <= end);
	crowd_leave(&before);
	malloc_trim(0);
	crowd_step(&before, 10 * MIB);
	crowd_leave(&before);
	crowd_leave(&after);
}

static void something_is_in_the_way_of_the_break(void **state) {
	(void)state;
	int anything;

	assert_int_equal(run_in_child(grow_past_an_obstacle, NULL), 0);
	assert_int_equal(run_in_child(grow_past_an_obstacle, &anything), 0);
}

/* The heap is described in windows of 64 MiB. A free top that begins in one window and ends in the next is one free top:
 * the break goes down over it, in whichever order the blocks are freed. */
static void free_a_top_across_windows(void *argument) {
	enum { MOST = 1000 };
	const bool downwards = *(const bool *)argument;
	const size_t window = 64 * MIB;
	static void *blocks[MOST];
	size_t count = 0;

	CHILD_CHECK(mallopt(M_TRIM_THRESHOLD, MIB) == 1);
	CHILD_CHECK(mallopt(M_TOP_PAD, 0) == 1);
	CHILD_CHECK(mallopt(M_MMAP_THRESHOLD, 4 * MIB) == 1);
	/* The break goes to 20 MiB below a boundary, and the blocks fill the heap to a little beyond it. */
	uintptr_t boundary = ((uintptr_t)sbrk(0) + 20 * MIB + window - 1) / window * window;
	CHILD_CHECK(sbrk((intptr_t)(boundary - 20 * MIB - (uintptr_t)sbrk(0))) != (void *)-1);
	uintptr_t start = (uintptr_t)sbrk(0);
	while ((uintptr_t)sbrk(0) < boundary + MIB / 4) {
		CHILD_CHECK(count < MOST);
		blocks[count] = malloc(1200000); /* longer than what a thread keeps for itself */
		CHILD_CHECK(blocks[count]);
		count++;
	}
	CHILD_CHECK((uintptr_t)sbrk(0) < boundary + 2 * MIB);
	for (size_t i = 0; i < count; i++)
		free(blocks[downwards ? count - 1 - i : i]);
	CHILD_CHECK((uintptr_t)sbrk(0) <= start + 4 * MIB);
}

static void free_top_across_windows_is_trimmed(void **state) {
	(void)state;
	bool downwards[] = { false, true };

	for (size_t i = 0; i < COUNT_OF(downwards); i++)
		assert_int_equal(run_in_child(free_a_top_across_windows, &downwards[i]), 0);
}

/* "VmData" of /proc/self/status: what RLIMIT_DATA counts. */
static size_t data_bytes(void) {
	char text[8192];
	FILE *status = fopen("/proc/self/status", "r");

	CHILD_CHECK(status);
	size_t length = fread(text, 1, sizeof text - 1, status);
	fclose(status);
	text[length] = '\0';
	const char *line = strstr(text, "VmData:");
	CHILD_CHECK(line);
	return strtoul(line + 7, NULL, 10) * 1024;
}

/* Allocates until that fails; returns the bytes. The blocks are linked through their first words. */
static size_t allocate_all(void ***chain, size_t size) {
	size_t total = 0;

	for (;;) {
		errno = 0;
		void **block = malloc(size);
		if (!block)
			break;
		*block = *chain;
		*chain = block;
		total += size;
	}
	CHILD_CHECK(errno == ENOMEM);
	return total;
}

static void free_all(void **chain) {
	while (chain) {
		void **next = *chain;
		free(chain);
		chain = next;
	}
}

/* The limit counts the break and private mappings alike: what is left of it can be had, and then no more. */
static void exhaust_data(void *argument) {
	size_t size = *(const size_t *)argument;
	static struct crowd crowd;
	void **chain = NULL;

	crowd_step(&crowd, 5 * MIB);
	for (int round = 0; round < 5; round++) {
		limit_data(data_bytes() + 64 * MIB);
		size_t total = allocate_all(&chain, size);
		CHILD_CHECK(total >= 32 * MIB);
		free_all(chain);
		chain = NULL;
		CHILD_CHECK(allocate_all(&chain, size) >= 32 * MIB);

		/* While all is in use, and no more can be had. */
		limit_data(data_bytes());
		void *refused = malloc(2 * MIB);
		CHILD_CHECK(!refused);
		CHILD_CHECK(errno == ENOMEM);
		free_all(chain);
		chain = NULL;
		limit_data(SIZE_MAX);
		crowd_step(&crowd, 20 * MIB);
		malloc_trim(0);
	}
	crowd_leave(&crowd);
}

static void data_limit_at_the_current_use(void **state) {
	(void)state;
	size_t sizes[] = { 64, 1000, 20000, 100000, MIB };

	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		assert_int_equal(run_in_child(exhaust_data, &sizes[i]), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(program_takes_pieces_of_the_break),
		cmocka_unit_test(program_gives_the_break_back),
		cmocka_unit_test(something_is_in_the_way_of_the_break),
		cmocka_unit_test(free_top_across_windows_is_trimmed),
		cmocka_unit_test(data_limit_at_the_current_use),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
