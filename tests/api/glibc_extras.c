/* What glibc has beside the standard functions: malloc_trim, mallopt, mallinfo, mallinfo2, malloc_info, malloc_stats. */
#include "stamp.h"
#include "support.h"
#include "xml.h"

#include <errno.h>
#include <arenal/arenal.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

typedef int arenal_stats_get_function(struct arenal_stats *out, size_t size);

static void trim_gives_free_memory_back(void **state) {
	(void)state;
	enum { BLOCKS = 65536, SIZE = 1024 };
	void **blocks = malloc(BLOCKS * sizeof *blocks);
	size_t before = resident_bytes();

	assert_non_null(blocks);
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(SIZE);
		assert_non_null(blocks[i]);
		stamp_block(blocks[i], SIZE, i);
	}
	assert_true(resident_bytes() >= before + BLOCKS * SIZE);
	for (size_t i = 0; i < BLOCKS; i++) {
		if (i % 512)
			free(blocks[i]);
	}
	int released = malloc_trim(0);
	assert_true(released == 0 || released == 1);
	assert_true(resident_bytes() <= before + 16 * MIB);
	for (size_t i = 0; i < BLOCKS; i += 512) {
		assert_true(stamp_intact(blocks[i], SIZE, i));
		free(blocks[i]);
	}
	free(blocks);
}

static void trim_with_a_pad_is_accepted(void **state) {
	(void)state;
	static const size_t pads[] = { 1, 4096, 128 * 1024, MIB, 1024 * MIB, SIZE_MAX };

	for (size_t i = 0; i < COUNT_OF(pads); i++) {
		free(malloc(100000));
		int released = malloc_trim(pads[i]);
		assert_true(released == 0 || released == 1);
		void *block = malloc(100000);
		assert_non_null(block);
		stamp_block(block, 100000, i);
		assert_true(stamp_intact(block, 100000, i));
		free(block);
	}
}

static void mallopt_takes_what_glibc_takes(void *argument) {
	(void)argument;
	CHILD_CHECK(mallopt(M_MMAP_THRESHOLD, 256 * 1024) == 1);
	CHILD_CHECK(mallopt(M_TRIM_THRESHOLD, 1024 * 1024) == 1);
	CHILD_CHECK(mallopt(M_TOP_PAD, 64 * 1024) == 1);
	CHILD_CHECK(mallopt(M_MMAP_MAX, 1000) == 1);
	CHILD_CHECK(mallopt(M_ARENA_MAX, 2) == 1);
	CHILD_CHECK(mallopt(M_ARENA_TEST, 4) == 1);
	CHILD_CHECK(mallopt(M_MXFAST, 64) == 1);
	CHILD_CHECK(mallopt(M_PERTURB, 0) == 1);
	CHILD_CHECK(mallopt(M_CHECK_ACTION, 3) == 1);
	/* Out of range, there as here. */
	CHILD_CHECK(mallopt(M_MXFAST, 100000) == 0);

	for (size_t size = 16; size < 100 * MIB; size *= 2) {
		void *block = malloc(size);
		CHILD_CHECK(block);
		stamp_block(block, size, 1);
		CHILD_CHECK(stamp_intact(block, size, 1));
		free(block);
	}
}

static void mallopt_accepts_and_refuses(void **state) {
	(void)state;
	assert_int_equal(run_in_child(mallopt_takes_what_glibc_takes, NULL), 0);
}

/* In a child each, as the settings stay. */
static void threshold_decides_what_is_mapped(void *argument) {
	(void)argument;
	CHILD_CHECK(mallopt(M_MMAP_THRESHOLD, 4 * MIB) == 1);
	struct mallinfo2 before = mallinfo2();
	void *below = malloc(2 * MIB);
	CHILD_CHECK(below);
	CHILD_CHECK(mallinfo2().hblks == before.hblks);
	void *above = malloc(8 * MIB);
	CHILD_CHECK(above);
	CHILD_CHECK(mallinfo2().hblks == before.hblks + 1);
	free(below);
	free(above);
	CHILD_CHECK(mallinfo2().hblks == before.hblks);
}

static void mallopt_moves_the_mmap_threshold(void **state) {
	(void)state;
	assert_int_equal(run_in_child(threshold_decides_what_is_mapped, NULL), 0);
}

static void mallinfo2_follows_allocations(void **state) {
	(void)state;
	enum { BLOCKS = 10000, SIZE = 1000 };
	void **blocks = malloc(BLOCKS * sizeof *blocks);
	struct mallinfo2 before = mallinfo2();

	assert_non_null(blocks);
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(SIZE);
		assert_non_null(blocks[i]);
	}
	struct mallinfo2 full = mallinfo2();
	assert_true(full.uordblks >= before.uordblks + BLOCKS * SIZE);
	assert_true(full.uordblks <= before.uordblks + BLOCKS * SIZE * 3 / 2);
	/* All that is in use or free lies in the arenas or in mappings. */
	assert_true(full.arena + full.hblkhd >= full.uordblks);
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	struct mallinfo2 empty = mallinfo2();
	assert_true(empty.uordblks + BLOCKS * SIZE / 10 * 9 <= full.uordblks);
	free(blocks);

	void *mapped = malloc(80 * MIB);
	assert_non_null(mapped);
	struct mallinfo2 with_mapping = mallinfo2();
	assert_int_equal(with_mapping.hblks, before.hblks + 1);
	assert_true(with_mapping.hblkhd >= before.hblkhd + 80 * MIB);
	free(mapped);
	assert_int_equal(mallinfo2().hblks, before.hblks);
	assert_int_equal(mallinfo2().hblkhd, before.hblkhd);
}

static void mallinfo_is_mallinfo2_in_int(void **state) {
	(void)state;
	void *mapped = malloc(80 * MIB);
	assert_non_null(mapped);
	struct mallinfo2 wide = mallinfo2();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop

	assert_int_equal(narrow.arena, (int)wide.arena);
	assert_int_equal(narrow.hblks, (int)wide.hblks);
	assert_int_equal(narrow.hblkhd, (int)wide.hblkhd);
	assert_int_equal(narrow.uordblks, (int)wide.uordblks);
	assert_int_equal(narrow.fordblks, (int)wide.fordblks);
	free(mapped);
}

static void *hold_until_told(void *argument) {
	pthread_barrier_t *barrier = argument;
	void *block = malloc(1000);

	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	free(block);
	return block;
}

static void malloc_info_writes_well_formed_xml(void **state) {
	(void)state;
	pthread_barrier_t barrier;
	pthread_t threads[3];
	void *large = malloc(90 * MIB), *was_allocated;
	char *text = NULL;
	size_t length = 0;

	/* Several arenas and caches, and a mapping, so that there is something to tell. */
	pthread_barrier_init(&barrier, NULL, COUNT_OF(threads) + 1);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hold_until_told, &barrier), 0);
	pthread_barrier_wait(&barrier);
	FILE *stream = open_memstream(&text, &length);
	assert_non_null(stream);
	assert_int_equal(malloc_info(0, stream), 0);
	assert_int_equal(fclose(stream), 0);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &was_allocated), 0);
		assert_non_null(was_allocated);
	}
	pthread_barrier_destroy(&barrier);

	char problem[128];
	assert_true(length > 20);
	assert_int_equal(strncmp(text, "<malloc version=\"1\">", 20), 0);
	if (!xml_is_well_formed(text, problem, sizeof problem))
		fail_msg("malloc_info: %s in:\n%s", problem, text);
	free(text);
	free(large);
}

/* What the call writes to file descriptor `fd`. Nothing here allocates. */
static const char *written_to(int fd, void (*call)(void)) {
	static char text[65536];
	int file = memfd_create("output", MFD_CLOEXEC), saved = dup(fd);

	assert_true(file >= 0 && saved >= 0 && dup2(file, fd) >= 0);
	call();
	assert_true(dup2(saved, fd) >= 0);
	ssize_t length = pread(file, text, sizeof text - 1, 0);
	assert_true(length > 0);
	text[length] = '\0';
	close(saved);
	close(file);
	return text;
}

static FILE *unallocated;

static void write_info(void) {
	assert_int_equal(malloc_info(0, unallocated), 0);
	assert_int_equal(fflush(unallocated), 0);
}

/* The number that follows `before`, wherever that is in the text; `skip` words of it later. */
static size_t number_after(const char *text, const char *before, size_t skip) {
	const char *at = strstr(text, before);

	assert_non_null(at);
	at += strlen(before);
	for (; skip > 0; skip--) {
		at += strspn(at, " ");
		at += strcspn(at, " ");
	}
	return strtoull(at, NULL, 10);
}

/* All four tell the same, to the byte, while nobody allocates. The table has a figure with a unit, then bytes. */
static void all_interfaces_agree(void **state) {
	(void)state;
	static char buffer[65536];
	arenal_stats_get_function *get = (arenal_stats_get_function *)find_function("arenal_stats_get");
	struct arenal_stats stats;
	void *blocks[1000], *mapped = malloc(70 * MIB);

	unallocated = fopen("/dev/null", "w");
	assert_non_null(unallocated);
	setvbuf(unallocated, buffer, _IOFBF, sizeof buffer);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		blocks[i] = malloc(i * 50);
	for (size_t i = 0; i < COUNT_OF(blocks); i += 2)
		free(blocks[i]);
	assert_int_equal(get(&stats, sizeof stats), 0);
	struct mallinfo2 info = mallinfo2();
	assert_int_equal(info.uordblks + info.hblkhd, stats.allocated);
	assert_int_equal(info.arena + info.hblkhd, stats.mapped);
	assert_int_equal(info.arena, info.uordblks + info.fordblks);
	assert_int_equal(info.hblks, stats.huge_blocks);
	assert_int_equal(info.hblkhd, stats.huge_bytes);
	assert_int_equal(info.fsmblks, stats.cached);
	assert_int_equal(info.keepcost, stats.dirty);
	assert_true(stats.cached > 0 && stats.huge_blocks > 0);

	const char *text = written_to(fileno(unallocated), write_info);
	assert_int_equal(number_after(text, "type=\"fast\" count=\"0\" size=\"", 0), stats.cached);
	size_t rest = number_after(text, "type=\"rest\" count=\"0\" size=\"", 0);
	size_t system = number_after(text, "<system type=\"current\" size=\"", 0);
	assert_int_equal(system, info.arena);
	assert_int_equal(system - stats.cached - rest, info.uordblks);
	assert_int_equal(rest + stats.cached, info.fordblks);
	assert_int_equal(number_after(text, "type=\"mmap\" count=\"", 0), stats.huge_blocks);

	text = written_to(STDERR_FILENO, malloc_stats);
	assert_int_equal(number_after(text, "\n  allocated", 2), stats.allocated);
	assert_int_equal(number_after(text, "\n  cached", 2), stats.cached);
	assert_int_equal(number_after(text, "\n  active", 2), stats.active);
	assert_int_equal(number_after(text, "\n  dirty", 2), stats.dirty);
	assert_int_equal(number_after(text, "\n  resident", 2), stats.resident);
	assert_int_equal(number_after(text, "\n  mapped", 2), stats.mapped);
	assert_int_equal(number_after(text, "\n  huge", 2), stats.huge_bytes);
	assert_int_equal(number_after(text, "\n  brk heap", 2), stats.brk_bytes);
	struct arenal_stats after;
	assert_int_equal(get(&after, sizeof after), 0);
	assert_memory_equal(&after, &stats, sizeof stats);

	fclose(unallocated);
	for (size_t i = 1; i < COUNT_OF(blocks); i += 2)
		free(blocks[i]);
	free(mapped);
}

static void malloc_info_refuses_options(void **state) {
	(void)state;
	char *text = NULL;
	size_t length = 0;
	FILE *stream = open_memstream(&text, &length);

	assert_non_null(stream);
	assert_int_equal(malloc_info(1, stream), EINVAL);
	assert_int_equal(malloc_info(-1, stream), EINVAL);
	assert_int_equal(fclose(stream), 0);
	assert_int_equal(length, 0);
	free(text);
}

static void malloc_stats_writes_to_stderr(void **state) {
	(void)state;
	int file = memfd_create("stderr", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	char text[65536];

	assert_true(file >= 0 && saved >= 0);
	fflush(stderr);
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	malloc_stats();
	fflush(stderr);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	ssize_t length = pread(file, text, sizeof text - 1, 0);
	close(file);
	assert_true(length > 0);
	text[length] = '\0';
	/* A table: several lines, with figures, the last one complete. */
	assert_non_null(strpbrk(text, "0123456789"));
	assert_int_equal(text[length - 1], '\n');
	assert_ptr_not_equal(strchr(text, '\n'), text + length - 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trim_gives_free_memory_back),
		cmocka_unit_test(trim_with_a_pad_is_accepted),
		cmocka_unit_test(mallopt_accepts_and_refuses),
		cmocka_unit_test(mallopt_moves_the_mmap_threshold),
		cmocka_unit_test(mallinfo2_follows_allocations),
		cmocka_unit_test(mallinfo_is_mallinfo2_in_int),
		cmocka_unit_test(malloc_info_writes_well_formed_xml),
		cmocka_unit_test(all_interfaces_agree),
		cmocka_unit_test(malloc_info_refuses_options),
		cmocka_unit_test(malloc_stats_writes_to_stderr),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
