/* arena/arena: blocks of spans. */
#include "unit.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena/batch.h"
#include "arena/bin.h"
#include "arena/holes.h"
#include "arena/page_map.h"
#include "base/cap.h"
#include "base/conf.h"
#include "base/os.h"

/* So many, in as many steps as it takes: new blocks come page by page. */
static void take_all(struct arena *arena, unsigned c, void **blocks, size_t count) {
	for (size_t n = 0, more; n < count; n += more) {
		more = take_up_to(arena, c, blocks + n, count - n);
		assert_true(more > 0 && more <= count - n);
	}
}

static void takes_lowest_first(void **state) {
	(void)state;
	void *blocks[64];
	unsigned c = class_of_size(1000);
	take_all(arena_list[0], c, blocks, 64);
	for (int i = 1; i < 64; i++) assert_true(blocks[i] != blocks[i - 1]);
	struct span *s = span_of(blocks[0]);
	assert_int_equal(s->class_, c);
	assert_int_equal(page_map_tag(blocks[0]), page_map.covered == 0 ? 0 : TAG_OF_CLASS(c));
	/* The hole that is lowest is filled first. */
	void *low = blocks[10], *high = blocks[20], *again;
	void *scratch = high;
	arena_give(c, &scratch, 1);
	scratch = low;
	arena_give(c, &scratch, 1);
	assert_int_equal(take_up_to(arena_list[0], c, &again, 1), 1);
	assert_ptr_equal(again, low < high ? low : high);
	blocks[10] = again;
	blocks[20] = blocks[63];
	arena_give(c, blocks, 63);
}

static void every_class(void **state) {
	(void)state;
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		enum { BLOCKS = 200 };
		char *blocks[BLOCKS];
		take_all(arena_list[0], c, (void **)blocks, BLOCKS);
		for (int i = 0; i < BLOCKS; i++) memset(blocks[i], i, size_classes[c].size);
		for (int i = 0; i < BLOCKS; i++) {
			assert_int_equal(blocks[i][0], (char)i);
			assert_int_equal(blocks[i][size_classes[c].size - 1], (char)i);
		}
		arena_give(c, (void **)blocks, BLOCKS);
		assert_int_equal(arena_list[0]->bins[c].blocks_out, 0);
	}
}

static void blocks_go_home(void **state) {
	(void)state;
	/* A mixed batch from two arenas comes back to both. */
	const int64_t usual = conf.arena_max;
	conf.arena_max = (int64_t)arena_count + 1; /* however many CPUs there are */
	struct arena *second = arena_create();
	conf.arena_max = usual;
	assert_non_null(second);
	unsigned c = class_of_size(48);
	void *mixed[40];
	take_all(arena_list[0], c, mixed, 20);
	take_all(second, c, mixed + 20, 20);
	for (int i = 0; i < 20; i += 2) {
		void *swap = mixed[i];
		mixed[i] = mixed[39 - i];
		mixed[39 - i] = swap;
	}
	uint64_t first_out = arena_list[0]->bins[c].blocks_out;
	arena_give(c, mixed, 40);
	assert_int_equal(second->bins[c].blocks_out, 0);
	assert_int_equal(arena_list[0]->bins[c].blocks_out, first_out - 20);
}

static void **find_pointer(void **pointers, size_t count, const void *wanted) {
	for (size_t i = 0; i < count; i++)
		if (pointers[i] == wanted) return &pointers[i];
	return NULL;
}

/* Long refills: the lowest free blocks of spans, each once, in order, whatever lies between them. `step`: each so many-th block of
 * two whole spans was free. */
static void take_each(size_t step) {
	enum { BLOCKS = 2 * SLICE_SIZE / 64 };
	static_assert(BLOCKS / 64 > 2 * BATCH_WORDS, "more words than are copied");
	static void *all[BLOCKS], *wanted[BLOCKS], *scratch[BLOCKS];
	const unsigned c = class_of_size(64);
	struct arena *arena = arena_list[1];
	const struct bin *bin = &arena->bins[c];
	take_all(arena, c, all, BLOCKS);
	assert_int_equal(bin->blocks_out, BLOCKS);
	size_t count = 0;
	for (size_t i = step / 2; i < BLOCKS; i += step)
		if (i % (BLOCKS / 2) != 0) scratch[count] = wanted[count] = all[i], count++; /* the span stays */
	for (size_t i = 0; i < count; i += BATCH_MAX) arena_give(c, scratch + i, min_size(BATCH_MAX, count - i));
	for (size_t n, at = 0; at < count; at += n) {
		n = min_size(at == 0 ? BATCH_LONG : BATCH_MAX, count - at);
		void *told[BATCH_MAX + 1] = { NULL }, **end = told + BATCH_MAX + 1;
		struct bare_blocks bare;
		assert_int_equal(arena_take_bare(arena, c, end, n, &bare), n);
		assert_int_equal(bare.count, 0);
		assert_null(end[-1 - (ptrdiff_t)n]);
		for (size_t i = 1; i <= n; i++) {
			void **place = find_pointer(wanted, count, *(end - i));
			assert_non_null(place);
			*place = NULL;
			assert_false(arena_has_free(span_of(*(end - i)), *(end - i)));
			if (i > 1 && span_of(*(end - i)) == span_of(*(end - i + 1))) assert_true(*(end - i) > *(end - i + 1));
		}
	}
	assert_int_equal(bin->blocks_out, BLOCKS);
	for (size_t i = 0; i < BLOCKS; i += BATCH_MAX) arena_give(c, all + i, BATCH_MAX);
	assert_int_equal(bin->blocks_out, 0);
}

static void long_refills(void **state) {
	(void)state;
	take_each(1);   /* words of free blocks, of which the last is taken in part */
	take_each(3);   /* words of some */
	take_each(50);  /* one or two in each word, of more words than are copied */
	take_each(150); /* words of none between */
}

static void holes_go_back(void **state) {
	(void)state;
	unsigned c = class_of_size(256);
	enum { BLOCKS = 256 };
	void *blocks[BLOCKS];
	take_all(arena_list[0], c, blocks, BLOCKS);
	for (int i = 0; i < BLOCKS; i++) memset(blocks[i], 7, 256);
	struct span *s = span_of(blocks[0]);
	assert_true(os_resident(s->start, SLICE_SIZE) >= 60 * KIB);
	void *kept = blocks[100];
	blocks[100] = blocks[BLOCKS - 1];
	arena_give(c, blocks, BLOCKS - 1);
	arena_purge_all(0);
	/* One block is left: the page it lies on stays, and its content. */
	assert_true(os_resident(s->start, SLICE_SIZE) <= os_page_size);
	for (int i = 0; i < 256; i++) assert_int_equal(((char *)kept)[i], 7);
	arena_give(c, &kept, 1);
}

/* Blocks of 512 B, eight on a page: all of a span but the first of every second page are given back. */
static void purged_pages_are_used_last(void **state) {
	(void)state;
	unsigned c = class_of_size(512);
	enum { BLOCKS = SLICE_SIZE / 512, ON_PAGE = PURGE_PAGE / 512 };
	if (sysconf(_SC_PAGESIZE) != PURGE_PAGE) SKIP("pages are not of 4 KiB");
	arena_purge_all(0); /* frees what earlier tests left empty */
	void *blocks[BLOCKS], *given[BLOCKS], *again[BLOCKS];
	take_all(arena_list[0], c, blocks, BLOCKS);
	struct span *s = span_of(blocks[0]);
	assert_ptr_equal(s->start, blocks[0]);
	size_t count = 0;
	for (int i = 0; i < BLOCKS; i++)
		if (i % (2 * ON_PAGE) != 0) given[count++] = blocks[i];
	arena_give(c, given, count);
	bool more_later;
	size_t before = holes_bytes;
	assert_int_equal(holes_purge_touched(0, &more_later), SLICE_SIZE / 2);
	assert_false(more_later);
	assert_int_equal(holes_bytes - before, SLICE_SIZE / 2);
	/* A second look finds nothing new, and nothing is counted twice. */
	assert_int_equal(holes_purge_touched(0, &more_later), 0);

	/* First what is left on resident pages: those with a block that was kept. */
	const size_t resident = SLICE_SIZE / PURGE_PAGE / 2 * (ON_PAGE - 1);
	assert_int_equal(take_up_to(arena_list[0], c, again, resident), resident);
	for (size_t i = 0; i < resident; i++) assert_int_equal(((char *)again[i] - s->start) / PURGE_PAGE % 2, 0);
	assert_int_equal(holes_bytes - before, SLICE_SIZE / 2);
	/* Then one purged page after the other. */
	assert_int_equal(take_up_to(arena_list[0], c, again + resident, 1), 1);
	assert_int_equal(((char *)again[resident] - s->start) / PURGE_PAGE, 1);
	assert_int_equal(holes_bytes - before, SLICE_SIZE / 2 - PURGE_PAGE);
	assert_true(s->purged != 0);

	arena_give(c, again, resident + 1);
	count = 0;
	for (int i = 0; i < BLOCKS; i += 2 * ON_PAGE) given[count++] = blocks[i];
	arena_give(c, given, count);
	arena_purge_all(0);
	assert_int_equal(holes_bytes, before);
}

/* In place of the library's (--wrap): as a kernel before Linux 5.18 does it with locked memory. */
static bool refuses;
static void (*meanwhile)(void); /* what others do while the kernel takes memory back; or NULL */
long __real_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f) {
	if (number == SYS_madvise && meanwhile != NULL) meanwhile();
	return refuses && number == SYS_madvise ? -EINVAL : __real_system_call(number, a, b, c, d, e, f);
}

static void refused_pages_are_tried_again_when_told(void **state) {
	(void)state;
	unsigned c = class_of_size(512);
	enum { BLOCKS = SLICE_SIZE / 512 };
	void *blocks[BLOCKS], *given[BLOCKS];
	bool more_later;
	arena_purge_all(0);
	take_all(arena_list[0], c, blocks, BLOCKS);
	memcpy(given, blocks, sizeof given);
	char *start = span_of(blocks[0])->start;
	refuses = true;
	assert_int_equal(os_purge(start, os_page_size, false), PURGE_REFUSED);
	size_t before = holes_bytes;
	arena_give(c, given + 1, BLOCKS - 1);
	assert_int_equal(holes_purge_touched(0, &more_later), 0);
	assert_int_equal(arena_purge_all_holes(), 0);
	assert_false(more_later);
	assert_int_equal(holes_bytes, before);
	refuses = false;
	/* Nobody came back to the span: not worth a look, unless it has to be now. */
	assert_int_equal(holes_purge_touched(0, &more_later), 0);
	assert_int_equal(arena_purge_all_holes(), SLICE_SIZE - os_page_size);
	assert_int_equal(arena_purge_all_holes(), 0);
	assert_int_equal(holes_bytes - before, SLICE_SIZE - os_page_size);
	arena_give(c, blocks, 1);
}

/* How the count for the cap changes when a span with one block, and holes, is free as a whole, and so much is left of the cap. */
static int64_t freed_with_holes(size_t left, bool refused) {
	const unsigned c = class_of_size(512);
	enum { BLOCKS = SLICE_SIZE / 512 };
	void *blocks[BLOCKS];
	bool more_later;
	arena_purge_all(0);
	take_all(arena_list[0], c, blocks, BLOCKS);
	struct span *s = span_of(blocks[0]);
	memset(blocks[0], 1, 512);
	void *last = blocks[0];
	arena_give(c, blocks + 1, BLOCKS - 1);
	assert_int_equal(holes_purge_touched(0, &more_later), SLICE_SIZE - os_page_size);
	const size_t before = cap_bytes, holes_before = holes_bytes;
	struct heap_stats stats;
	heap_stats_get(&stats);
	const uint64_t purged_before = stats.purged_total;
	conf.cap = (int64_t)(before + left);
	refuses = refused;
	arena_give(c, &last, 1);
	bin_retire_empty(&arena_list[0]->bins[c], c);
	refuses = false;
	conf.cap = 0;
	heap_stats_get(&stats);
	assert_int_equal(stats.purged_total - purged_before, cap_bytes < before ? before - cap_bytes : 0);
	assert_int_equal(s->kind, SPAN_NONE);
	assert_int_equal(holes_bytes, holes_before - (SLICE_SIZE - os_page_size));
	return (int64_t)(cap_bytes - before);
}

/* Free memory is taken without asking the cap. */
static void holes_are_free_memory_within_the_cap(void **state) {
	(void)state;
	const int64_t page = (int64_t)os_page_size, holes = SLICE_SIZE - page;
	if (sysconf(_SC_PAGESIZE) != PURGE_PAGE) SKIP("pages are not of 4 KiB");
	assert_int_equal(freed_with_holes(SLICE_SIZE, false), holes);
	assert_int_equal(freed_with_holes((size_t)page, false), -page);
	/* What the kernel does not take back may be there as a whole. */
	assert_int_equal(freed_with_holes((size_t)page, true), holes);
}

enum { GO_SPANS = 200 };
static size_t refused;

static void count_refusals(void) {
	assert_true(++refused <= 4 * GO_SPANS);
}

/* Spans whose pages the kernel keeps, locked ones for instance, come back to the end of the list, which has an end for
 * who purges all of it. */
static void all_may_be_refused(void **state) {
	(void)state;
	enum { BLOCKS = GO_SPANS * SLICE_SIZE / 512 };
	static void *blocks[BLOCKS], *given[BLOCKS];
	unsigned c = class_of_size(512);
	size_t given_count = 0, kept = 0;
	arena_purge_all(0);
	for (size_t i = 0; i < BLOCKS; i += SLICE_SIZE / 512) take_all(arena_list[0], c, blocks + i, SLICE_SIZE / 512);
	for (size_t i = 0; i < BLOCKS; i++) {
		if (blocks[i] == span_of(blocks[i])->start)
			blocks[kept++] = blocks[i];
		else
			given[given_count++] = blocks[i];
	}
	assert_true(kept >= GO_SPANS);
	arena_give(c, given, given_count);
	refuses = true;
	meanwhile = count_refusals;
	assert_int_equal(arena_purge_all_holes(), 0);
	meanwhile = NULL;
	refuses = false;
	assert_true(refused >= kept);
	assert_int_equal(arena_purge_all_holes(), kept * (SLICE_SIZE - os_page_size));
	assert_int_equal(arena_purge_all_holes(), 0);
	arena_give(c, blocks, kept);
}

static bool touched_bit(const struct span *s) {
	const struct region *r = page_map_region((uintptr_t)s->start);
	const size_t slice = (size_t)(s - r->spans);
	return r->touched[slice / 64] >> slice % 64 & 1;
}

static void idle_spans_only(void **state) {
	(void)state;
	unsigned c = class_of_size(1024);
	void *blocks[64];
	bool more_later;
	holes_purge_touched(0, &more_later);
	take_all(arena_list[0], c, blocks, 64);
	arena_give(c, blocks + 1, 63);
	assert_int_equal(holes_purge_touched(2, &more_later), 0);
	assert_true(more_later);
	holes_next_tick();
	assert_int_equal(holes_purge_touched(2, &more_later), 0);
	holes_next_tick();
	assert_int_equal(holes_purge_touched(2, &more_later), SLICE_SIZE - os_page_size);
	assert_false(more_later);
	arena_give(c, blocks, 1);
}

/* A look meets the spans that a block came back to since the last one, and no others. */
static void looks_meet_what_was_touched(void **state) {
	(void)state;
	enum { SPANS = 40, BLOCKS = SPANS * SLICE_SIZE / 1024 };
	static void *blocks[BLOCKS];
	const unsigned c = class_of_size(1024);
	bool more_later;
	arena_purge_all(0);
	take_all(arena_list[0], c, blocks, BLOCKS);
	holes_purge_touched(0, &more_later);
	for (size_t i = 0; i < BLOCKS; i++) {
		struct span *s = span_of(blocks[i]);
		assert_int_equal(s->touched, 0);
		assert_false(touched_bit(s));
	}
	struct span *s = span_of(blocks[BLOCKS / 2]);
	arena_give_alone(c, blocks[BLOCKS / 2]);
	assert_true(touched_bit(s));
	s->purged = 0;
	assert_int_equal(holes_purge_touched(0, &more_later), 0); /* a page has more than one block */
	assert_false(touched_bit(s));
	size_t count = 0;
	for (size_t i = 0; i < BLOCKS; i++)
		if (i != BLOCKS / 2 && i % 64 != 0) blocks[count++] = blocks[i];
	arena_give(c, blocks, count);
	arena_purge_all(0);
}

/* ---- who purges all looks only at what has changed since ---- */

/* A tick that is none of today's: any look wipes it. */
#define NOT_LOOKED_AT 77

static void what_has_gone_is_left_alone(void **state) {
	(void)state;
	unsigned c = class_of_size(512);
	enum { BLOCKS = SLICE_SIZE / 512 };
	void *blocks[BLOCKS];
	arena_purge_all(0);
	take_all(arena_list[0], c, blocks, BLOCKS);
	void *last = blocks[BLOCKS - 1], *again;
	struct span *s = span_of(last);
	assert_ptr_equal(s, span_of(blocks[0]));
	arena_give(c, blocks, BLOCKS - 1);
	assert_int_equal(arena_purge_all_holes(), SLICE_SIZE - os_page_size);
	s->touched = NOT_LOOKED_AT;
	assert_int_equal(arena_purge_all_holes(), 0);
	bin_retire_empty(&arena_list[0]->bins[c], c);
	assert_int_equal(s->touched, NOT_LOOKED_AT);
	/* Blocks that leave change nothing; one that comes back does. */
	assert_int_equal(take_up_to(arena_list[0], c, &again, 1), 1);
	assert_int_equal(arena_purge_all_holes(), 0);
	assert_int_equal(s->touched, NOT_LOOKED_AT);
	arena_give_alone(c, again);
	assert_int_equal(arena_purge_all_holes(), 0);
	assert_int_equal(s->touched, 0);
	arena_give_alone(c, last);
}

static void what_went_lazily_goes_again(void **state) {
	(void)state;
	unsigned c = class_of_size(512);
	enum { BLOCKS = SLICE_SIZE / 512 };
	void *blocks[BLOCKS];
	bool more_later;
	const bool usual = conf.lazy_purge;
	arena_purge_all(0);
	take_all(arena_list[0], c, blocks, BLOCKS);
	arena_give(c, blocks, BLOCKS - 1);
	conf.lazy_purge = true;
	const size_t lazily = holes_purge_touched(0, &more_later);
	conf.lazy_purge = usual;
	assert_int_equal(lazily, SLICE_SIZE - os_page_size);
	assert_int_equal(arena_purge_all_holes(), lazily);
	assert_int_equal(arena_purge_all_holes(), 0);
	arena_give_alone(c, blocks[BLOCKS - 1]);
}

static void *given_meanwhile; /* or NULL */

/* While a span is away: a block comes back to it, and somebody else purges all that is there. */
static void purge_meanwhile(void) {
	const unsigned c = class_of_size(512);
	meanwhile = NULL;
	if (given_meanwhile != NULL) arena_give_alone(c, given_meanwhile);
	assert_int_equal(holes_purge_bin(&arena_list[0]->bins[c]), 0);
}

/* Of a span, the first block stays, and one in the middle comes back while it is purged. */
static void span_that_was_away(bool now, bool lazily, bool given) {
	unsigned c = class_of_size(512);
	enum { BLOCKS = SLICE_SIZE / 512, MIDDLE = BLOCKS / 2 };
	void *blocks[BLOCKS], *batch[BLOCKS];
	size_t count = 0;
	bool more_later;
	const bool usual = conf.lazy_purge;
	arena_purge_all(0);
	take_all(arena_list[0], c, blocks, BLOCKS);
	for (size_t n = 1; n < BLOCKS; n++)
		if (n != MIDDLE || !given) batch[count++] = blocks[n];
	arena_give(c, batch, count);
	given_meanwhile = given ? blocks[MIDDLE] : NULL;
	meanwhile = purge_meanwhile;
	conf.lazy_purge = lazily;
	const size_t first = now ? arena_purge_all_holes() : holes_purge_touched(0, &more_later), all = SLICE_SIZE - os_page_size;
	conf.lazy_purge = usual;
	assert_null(meanwhile);
	assert_int_equal(first, given ? all - os_page_size : all);
	assert_int_equal(arena_purge_all_holes(), lazily ? all : given ? os_page_size : 0);
	assert_int_equal(arena_purge_all_holes(), 0);
	arena_give_alone(c, blocks[0]);
}

static void spans_that_were_away_are_seen(void **state) {
	(void)state;
	span_that_was_away(true, false, false);
	span_that_was_away(true, false, true);
	span_that_was_away(false, false, true);
	span_that_was_away(false, true, false);
	span_that_was_away(false, true, true);
}

/* Runs `misuse` in a child: it must end by SIGABRT with the expected words on stderr. */
static void expect_abort(void (*misuse)(void), const char *words) {
	int fds[2], status;
	assert_int_equal(pipe(fds), 0);
	pid_t child = fork();
	if (child == 0) {
		dup2(fds[1], 2);
		misuse();
		_exit(0);
	}
	close(fds[1]);
	char text[512] = { 0 };
	size_t length = 0;
	for (ssize_t n; (n = read(fds[0], text + length, sizeof text - 1 - length)) > 0;) length += (size_t)n;
	close(fds[0]);
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(text, words));
}

static void give_twice(void) {
	unsigned c = class_of_size(64);
	void *block, *scratch;
	take_up_to(arena_list[0], c, &block, 1);
	scratch = block;
	arena_give(c, &scratch, 1);
	arena_give(c, &block, 1);
}

/* What is written down of a span takes memory only for the blocks that it has. */
static void short_bitmaps_share_pages(void **state) {
	(void)state;
	enum { SPANS = 64, BLOCKS = SPANS * SLICE_SIZE / 8192 };
	static void *blocks[BLOCKS];
	const unsigned c = class_of_size(8192);
	take_all(arena_list[0], c, blocks, BLOCKS);
	/* Some of the spans may lie in the next region, which has its own. */
	static uintptr_t pages[BLOCKS];
	size_t count = 0;
	for (size_t i = 0; i < BLOCKS; i++) {
		const uintptr_t page = (uintptr_t)span_of(blocks[i])->free_blocks / PURGE_PAGE;
		size_t known = 0;
		while (known < count && pages[known] != page) known++;
		pages[known] = page;
		count = max_size(count, known + 1);
	}
	assert_true(count <= SPANS / 16);
	arena_give(c, blocks, BLOCKS);
}

static void give_inside(void) {
	unsigned c = class_of_size(64);
	void *block;
	take_up_to(arena_list[0], c, &block, 1);
	block = (char *)block + 16;
	arena_give(c, &block, 1);
}

static void misuse_is_found(void **state) {
	(void)state;
	expect_abort(give_twice, "was freed already");
	expect_abort(give_inside, "is not the start of a block");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_lowest_first), cmocka_unit_test(every_class), cmocka_unit_test(blocks_go_home),
		cmocka_unit_test(holes_go_back), cmocka_unit_test(holes_are_free_memory_within_the_cap), cmocka_unit_test(purged_pages_are_used_last), cmocka_unit_test(idle_spans_only), cmocka_unit_test(looks_meet_what_was_touched),
		cmocka_unit_test(refused_pages_are_tried_again_when_told), cmocka_unit_test(all_may_be_refused),
		cmocka_unit_test(what_has_gone_is_left_alone), cmocka_unit_test(what_went_lazily_goes_again),
		cmocka_unit_test(spans_that_were_away_are_seen),
		cmocka_unit_test(short_bitmaps_share_pages), cmocka_unit_test(long_refills), cmocka_unit_test(misuse_is_found),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
