/* arena/bare: which free blocks have their mark, and which get one when they are taken. */
#include "unit.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "arena/bare.h"
#include "arena/holes.h"
#include "arena/mark.h"
#include "base/conf.h"
#include "base/os.h"
#include "base/random.h"

enum { MOST = SPAN_BLOCKS_MAX };

static struct arena *arena; /* of the test alone: no block of its bins is anywhere else */

static int make_arena(void **state) {
	if (start_arenal(state) != 0) return -1;
	conf.arena_max = (int64_t)arena_count + 1; /* however many CPUs there are */
	arena = arena_create();
	return arena != NULL ? 0 : -1;
}

/* In one step: as many as there are. */
static size_t take(unsigned c, void **blocks, size_t count) {
	const size_t taken = take_up_to(arena, c, blocks, count);
	assert_in_range(taken, 1, count);
	for (size_t i = 0; i < taken; i++) assert_true(mark_is_there(blocks[i]));
	return taken;
}

/* As the program does it: it writes to them, and frees them. The array stays as it is. */
static void give(unsigned c, void *const *blocks, size_t count) {
	void *scratch[MOST];
	for (size_t i = 0; i < count; i++) {
		memset(scratch[i] = blocks[i], 0x77, size_classes[c].size);
		mark_set(blocks[i]);
	}
	for (size_t i = 0; i < count; i += BATCH_MAX) arena_give(c, scratch + i, min_size(count - i, BATCH_MAX));
}

static size_t span_bytes(unsigned c) { return size_classes[c].slices * SLICE_SIZE; }

/* The next span is made of memory that nobody has written to. */
static void start_clean(void) {
	arena_purge_all(0);
	assert_int_equal(arena_list[0]->bins[1].blocks_out, 0);
}

static void new_blocks_come_page_by_page(void **state) {
	(void)state;
	if (os_page_size != PURGE_PAGE) SKIP("pages are not of 4 KiB");
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		const size_t size = size_classes[c].size, on_first = (PURGE_PAGE + size - 1) / size;
		void *first[BATCH_MAX], *second[BATCH_MAX];
		start_clean();
		assert_int_equal(take(c, first, BATCH_MAX), on_first);
		struct span *s = span_of(first[0]);
		assert_int_equal(os_resident(s->start, span_bytes(c)), PURGE_PAGE);
		for (size_t i = 0; i < on_first; i++) assert_ptr_equal(first[i], s->start + i * size);
		/* Then those of the next page. */
		const size_t on_second = take(c, second, BATCH_MAX);
		assert_int_equal(os_resident(s->start, span_bytes(c)), 2 * PURGE_PAGE);
		for (size_t i = 0; i < on_second; i++) assert_ptr_equal(second[i], s->start + (on_first + i) * size);
		give(c, first, on_first);
		give(c, second, on_second);
	}
}

/* As many as are asked for: no page of theirs has to be touched before its time. */
static void new_blocks_of_used_memory_come_in_batches(void **state) {
	(void)state;
	const unsigned c = class_of_size(1024);
	void *blocks[BATCH_MAX];
	start_clean();
	struct span *run = heap_alloc(1, 1, (enum region_kind)arena->kind, SPAN_RUN, NULL);
	assert_non_null(run);
	memset(run->start, 0x55, SLICE_SIZE);
	heap_free(run);
	assert_int_equal(take(c, blocks, 19), 19);
	assert_int_equal(take(c, blocks + 19, BATCH_MAX), 64 - 19);
	for (size_t i = 1; i < 64; i++) assert_ptr_equal(blocks[i], (char *)blocks[i - 1] + 1024);
	/* But not from pages that went back to the kernel meanwhile. */
	give(c, blocks + 1, 63);
	bool more_later;
	holes_purge_touched(0, &more_later);
	const size_t rest = PURGE_PAGE < os_page_size ? 0 : 3;
	if (rest > 0) assert_int_equal(take(c, blocks + 1, BATCH_MAX), rest);
	if (rest > 0) assert_int_equal(take(c, blocks + 1 + rest, BATCH_MAX), 4);
	give(c, blocks, 1);
	if (rest > 0) give(c, blocks + 1, rest + 4);
}

/* What is used, and what is left of a page, comes before a new one. */
static void pages_are_finished(void **state) {
	(void)state;
	const unsigned c = class_of_size(512);
	void *blocks[32], *again[32];
	start_clean();
	assert_int_equal(take(c, blocks, 3), 3);
	assert_int_equal(take(c, blocks + 3, 32), 5);
	assert_int_equal(take(c, blocks + 8, 2), 2); /* of the next one */
	give(c, blocks + 1, 2);
	give(c, blocks + 8, 1);
	assert_int_equal(take(c, again, 32), 3); /* the three that were free before */
	assert_ptr_equal(again[0], blocks[1]);
	assert_ptr_equal(again[1], blocks[2]);
	assert_ptr_equal(again[2], blocks[8]);
	assert_int_equal(take(c, blocks + 10, 32), 6);
	assert_ptr_equal(blocks[10], (char *)blocks[9] + 512);
	give(c, blocks, 16);
}

/* A bin repairs nothing: malloc is to find it. */
static void lost_marks_stay_lost(void **state) {
	(void)state;
	const unsigned c = class_of_size(512);
	void *blocks[8], *again[8];
	start_clean();
	assert_int_equal(take(c, blocks, 8), 8);
	give(c, blocks + 1, 7);
	*mark_place(blocks[5]) = 0;
	assert_int_equal(take_up_to(arena, c, again, 8), 7);
	for (size_t i = 0; i < 7; i++) assert_true(mark_is_there(again[i]) == (again[i] != blocks[5]));
	give(c, blocks, 8);
}

/* Second frees of blocks that are bare come to this: what reads as zero, as far as is known, does not. */
static void what_was_written_to_bare_blocks_is_found(void **state) {
	(void)state;
	const unsigned c = class_of_size(512);
	enum { ON_PAGE = PURGE_PAGE / 512 };
	void *blocks[3 * ON_PAGE], *again[3 * ON_PAGE];
	if (os_page_size != PURGE_PAGE) SKIP("pages are not of 4 KiB");
	start_clean();
	assert_int_equal(take(c, blocks, ON_PAGE), ON_PAGE);
	*mark_place((char *)blocks[0] + PURGE_PAGE + 512) = 7; /* never handed out */
	assert_int_equal(take_up_to(arena, c, blocks + ON_PAGE, ON_PAGE), ON_PAGE);
	for (size_t i = 0; i < ON_PAGE; i++) assert_true(mark_is_there(blocks[ON_PAGE + i]) == (i != 1));
	/* Its first block, too; and also when the page is not taken in one go. */
	assert_int_equal(take(c, blocks + 2 * ON_PAGE, ON_PAGE), ON_PAGE);
	give(c, blocks + ON_PAGE, 2 * ON_PAGE);
	bool more_later;
	assert_true(holes_purge_touched(0, &more_later) > 0);
	*mark_place(blocks[ON_PAGE]) = 7;
	*mark_place(blocks[ON_PAGE + 5]) = 7;
	assert_int_equal(take_up_to(arena, c, again, 2), 2);
	assert_false(mark_is_there(again[0]));
	assert_true(mark_is_there(again[1]));
	assert_int_equal(take_up_to(arena, c, again + 2, ON_PAGE), ON_PAGE - 2);
	for (size_t i = 2; i < ON_PAGE; i++) assert_true(mark_is_there(again[i]) == (i != 5));
	give(c, blocks, ON_PAGE);
	give(c, again, ON_PAGE);
}

static long page_faults(void) {
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* A page fault each, not two. */
static void bare_pages_are_touched_once(void **state) {
	(void)state;
	enum { COUNT = 64 * SLICE_SIZE / PURGE_PAGE };
	static void *blocks[COUNT];
	const unsigned c = class_of_size(PURGE_PAGE);
	if (os_page_size != PURGE_PAGE) SKIP("pages are not of 4 KiB");
#ifdef __SANITIZE_THREAD__
	SKIP("ThreadSanitizer notes each access in pages of its own");
#endif
	start_clean();
	const long before = page_faults();
	for (size_t n = 0; n < COUNT; n++) {
		assert_int_equal(take_up_to(arena, c, blocks + n, 1), 1);
		memset(blocks[n], 1, PURGE_PAGE);
	}
	assert_true(page_faults() - before < COUNT + COUNT / 4);
	give(c, blocks, COUNT);
}

/* ---- whatever happens ---- */

/* In place of the library's (--wrap): madvise may fail, and have done half of it. */
static struct random dice;
static bool refuses;
long __real_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f) {
	if (number != SYS_madvise || !refuses || random_below(&dice, 3) != 0)
		return __real_system_call(number, a, b, c, d, e, f);
	const long half = (long)ALIGN_DOWN((size_t)b / 2, os_page_size);
	if (half > 0) __real_system_call(number, a, half, c, d, e, f);
	return -EINVAL;
}

enum { LIVE_MOST = 1500, STEP_MOST = 60 };
static void *live[LIVE_MOST];
static size_t live_count;

static void take_some(unsigned c) {
	const size_t wanted = 1 + random_below(&dice, STEP_MOST);
	if (live_count + wanted > LIVE_MOST) return;
	const size_t taken = take(c, live + live_count, wanted);
	for (size_t i = live_count; i < live_count + taken; i++) {
		mark_clear(live[i]);
		*(void **)live[i] = live[i];
	}
	live_count += taken;
}

static void give_some(unsigned c) {
	void *batch[STEP_MOST];
	size_t count = 0;
	for (size_t wanted = 1 + random_below(&dice, STEP_MOST); count < wanted && live_count > 0;) {
		const size_t i = random_below(&dice, (uint32_t)live_count);
		assert_ptr_equal(*(void **)live[i], live[i]); /* nobody else has it, and its page did not go away */
		assert_int_equal(*mark_place(live[i]), 0);
		batch[count++] = live[i];
		live[i] = live[--live_count];
	}
	give(c, batch, count);
}

static void free_blocks_have_marks_whatever_happens(void **state) {
	(void)state;
	static const size_t sizes[] = { 16, 48, 112, 256, 800, 1152, 2304, 3840, 5120, 6656, 8192, 13312, 30720 };
	dice.state = os_random();
	print_message("seed %lx\n", dice.state);
	for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
		const unsigned c = class_of_size(sizes[k]);
		for (int step = 0; step < 1500; step++) {
			bool more_later;
			const uint32_t what = random_below(&dice, 100);
			conf.lazy_purge = k % 3 == 2 && what % 2;
			refuses = k % 3 == 1;
			if (what < 46)
				take_some(c);
			else if (what < 90)
				give_some(c);
			else if (what < 99)
				holes_purge_touched(0, &more_later);
			else
				arena_purge_all(0);
		}
		while (live_count > 0) give_some(c);
		assert_int_equal(arena->bins[c].blocks_out, 0);
	}
	conf.lazy_purge = 0;
	refuses = false;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_blocks_come_page_by_page),
		cmocka_unit_test(new_blocks_of_used_memory_come_in_batches),
		cmocka_unit_test(pages_are_finished),
		cmocka_unit_test(lost_marks_stay_lost),
		cmocka_unit_test(what_was_written_to_bare_blocks_is_found),
		cmocka_unit_test(bare_pages_are_touched_once),
		cmocka_unit_test(free_blocks_have_marks_whatever_happens),
	};
	return cmocka_run_group_tests(tests, make_arena, NULL);
}
