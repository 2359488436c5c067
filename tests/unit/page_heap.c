/* arena/heap and arena/brk: runs of slices. */
#include "unit.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena/brk.h"
#include "arena/heap.h"
#include "arena/thp.h"
#include "arena/wave.h"
#include "base/bitmap.h"
#include "base/cap.h"
#include "base/conf.h"
#include "base/os.h"

static struct heap_stats stats(void) {
	struct heap_stats s;
	heap_stats_get(&s);
	return s;
}

static struct span *run(size_t slices, size_t align, enum region_kind kind) {
	return heap_alloc(slices, align, kind, SPAN_RUN, NULL);
}

static void kinds(void **state) {
	(void)state;
	struct span *low = run(3, 1, REGION_BRK), *high = run(3, 1, REGION_MAPPED);
	assert_non_null(low);
	assert_non_null(high);
	uintptr_t brk = (uintptr_t)sbrk(0);
	assert_true((uintptr_t)low->start < brk && (uintptr_t)high->start > brk);
	assert_ptr_equal(span_of(low->start), low);
	assert_ptr_equal(span_of(high->start + SLICE_SIZE - 1), high);
	assert_null(span_of(high->start + SLICE_SIZE)); /* a run is known by its first slice alone */
	memset(low->start, 1, 3 * SLICE_SIZE);
	memset(high->start, 1, 3 * SLICE_SIZE);
	heap_free(low);
	heap_free(high);
	assert_null(span_of(high->start));
}

static void dirty_slices_serve_everybody(void **state) {
	(void)state;
	heap_purge();
	struct span *high = run(5, 1, REGION_MAPPED);
	char *start = high->start;
	memset(start, 1, 5 * SLICE_SIZE);
	heap_free(high);
	assert_int_equal(stats().dirty, 5 * SLICE_SIZE);
	struct stale stale = { 0 };
	struct span *other = heap_alloc(5, 1, REGION_BRK, SPAN_RUN, &stale);
	assert_ptr_equal(other->start, start);
	assert_int_equal(stale.slices, 5);
	assert_int_equal(stale.map[0], 31);
	assert_int_equal(stats().dirty, 0);
	heap_free(other);
}

/* By time, half of what nobody needed for an interval goes; in a process that rests, all of it, and at once. */
static void all_goes_when_the_process_rests(void **state) {
	(void)state;
	heap_purge();
	struct span *s = run(100, 1, REGION_MAPPED);
	char *start = s->start;
	memset(start, 1, 100 * SLICE_SIZE);
	heap_free(s);
	assert_int_equal(stats().dirty, 100 * SLICE_SIZE);
	assert_int_equal(heap_decay(false), 100 * SLICE_SIZE); /* all of it was needed in this interval */
	assert_int_equal(heap_decay(true), 0);
	assert_int_equal(stats().dirty, 0);
	assert_int_equal(os_resident(start, 100 * SLICE_SIZE), 0);
}

/* Where somebody purges in the background, those who free leave it to him; elsewhere each of them does a piece. */
static void who_frees_purges_a_piece(void **state) {
	(void)state;
	enum { RUNS = 64, LENGTH = MIB / SLICE_SIZE };
	struct span *runs[RUNS];
	const int64_t decay = conf.decay;
	while (heap_purge_is_due) heap_purge_due(); /* what an interval that ended in an earlier test left */
	heap_purge();
	heap_trim(0);
	for (size_t i = 0; i < RUNS; i++) runs[i] = run(LENGTH, 1, REGION_MAPPED);
	for (size_t i = 0; i < RUNS; i++) memset(runs[i]->start, 1, MIB);
	const uint64_t before = stats().purged_total;
	atomic_store(&purged_in_background, true);
	conf.decay = 4; /* intervals of a millisecond, or a tick of the coarse clock */
	for (size_t i = 0; i < RUNS - 2; i++) {
		heap_free(runs[i]);
		heap_purge_due();
		if (i % 16 == 0) usleep(8000);
	}
	assert_int_equal(stats().purged_total, before);
	assert_true(stats().dirty >= (RUNS - 2) * MIB);
	atomic_store(&purged_in_background, false);
	conf.decay = decay;
	conf.dirty_max = MIB;
	for (size_t i = RUNS - 2, credit = PURGE_CREDIT; i < RUNS; i++, credit = 0) {
		const uint64_t then = stats().purged_total;
		heap_free(runs[i]);
		assert_int_equal(stats().purged_total, then); /* with whatever lock the caller has */
		heap_purge_due();
		assert_true(stats().purged_total > then);
		assert_true(stats().purged_total - then <= PURGE_PIECE + credit + 2 * MIB);
	}
	size_t pieces = 0;
	for (; heap_purge_is_due; pieces++) {
		const uint64_t then = stats().purged_total;
		heap_purge_due();
		assert_true(stats().purged_total - then <= PURGE_PIECE + 2 * MIB);
	}
	assert_true(stats().dirty <= MIB);
	conf.dirty_max = -1;
	heap_release(SLICE_SIZE); /* later tests count regions */
}

/* All may fall due with the last free: then it does what the earlier ones did not, up to a bound. */
static void what_falls_due_at_once_has_a_bound(void **state) {
	(void)state;
	enum { RUNS = 64, LENGTH = MIB / SLICE_SIZE };
	struct span *runs[RUNS];
	const int64_t decay = conf.decay;
	while (heap_purge_is_due) heap_purge_due();
	heap_purge();
	for (size_t i = 0; i < RUNS; i++) runs[i] = run(LENGTH, 1, REGION_MAPPED);
	for (size_t i = 0; i < RUNS; i++) memset(runs[i]->start, 1, MIB);
	const uint64_t before = stats().purged_total;
	conf.decay = -1; /* nothing goes by time */
	conf.dirty_max = GIB;
	for (size_t i = 0; i < RUNS - 1; i++) {
		heap_free(runs[i]);
		heap_purge_due();
	}
	assert_int_equal(stats().purged_total, before);
	conf.dirty_max = MIB;
	heap_free(runs[RUNS - 1]);
	heap_purge_due();
	assert_true(stats().purged_total - before > PURGE_CREDIT);
	assert_true(stats().purged_total - before <= PURGE_PIECE + PURGE_CREDIT + 2 * MIB);
	for (uint64_t then; heap_purge_is_due;) {
		then = stats().purged_total;
		heap_purge_due();
		assert_true(stats().purged_total - then <= PURGE_PIECE + 2 * MIB);
	}
	assert_true(stats().dirty <= MIB);
	conf.dirty_max = -1;
	conf.decay = decay;
	heap_release(SLICE_SIZE);
}

static void purged_slices_read_as_zero(void **state) {
	(void)state;
	struct span *s = run(4, 1, REGION_MAPPED);
	char *start = s->start;
	memset(start, 0xee, 4 * SLICE_SIZE);
	heap_free(s);
	uint64_t before = stats().purged_total;
	assert_true(heap_purge() >= 4 * SLICE_SIZE);
	assert_true(stats().purged_total >= before + 4 * SLICE_SIZE);
	assert_int_equal(stats().dirty, 0);
	assert_int_equal(os_resident(start, 4 * SLICE_SIZE), 0);
	struct stale stale = { 1, { 0 } };
	struct span *again = heap_alloc(4, 1, REGION_MAPPED, SPAN_RUN, &stale);
	assert_int_equal(stale.slices, 0);
	for (size_t i = 0; i < 4 * SLICE_SIZE; i++) assert_int_equal(again->start[i], 0);
	heap_free(again);
}

static void lazily_purged_slices_are_not_taken_for_zero(void **state) {
	(void)state;
	heap_purge();
	struct span *s = run(4, 1, REGION_MAPPED);
	char *start = s->start;
	memset(start, 0xee, 4 * SLICE_SIZE);
	conf.lazy_purge = 1;
	conf.dirty_max = 0;
	heap_free(s);
	heap_purge_due(); /* which purges it */
	conf.dirty_max = -1;
	assert_int_equal(stats().dirty, 0);
	struct stale stale = { 0 };
	s = heap_alloc(4, 1, REGION_MAPPED, SPAN_RUN, &stale);
	assert_ptr_equal(s->start, start);
	assert_int_equal(start[0], (char)0xee); /* the kernel has had no need of it */
	assert_int_equal(stale.slices, 4);
	conf.dirty_max = 0;
	heap_free(s);
	heap_purge_due();
	conf.dirty_max = -1;
	/* What goes lazily goes at once when that is wanted, and reads as zero then. */
	assert_int_equal(os_resident(start, 4 * SLICE_SIZE), 4 * SLICE_SIZE);
	assert_int_equal(heap_purge(), 4 * SLICE_SIZE);
	assert_int_equal(os_resident(start, 4 * SLICE_SIZE), 0);
	assert_int_equal(heap_purge(), 0);
	s = heap_alloc(4, 1, REGION_MAPPED, SPAN_RUN, &stale);
	assert_ptr_equal(s->start, start);
	assert_int_equal(stale.slices, 0);
	conf.lazy_purge = 0;
	heap_free(s);
}

/* What the kernel does not take, as where a page is missing, is not taken for zero, and not tried each time that somebody frees. */
static void refused_slices_stay_dirty(void **state) {
	(void)state;
	heap_purge();
	struct span *s = run(4, 1, REGION_MAPPED), *between = run(1, 1, REGION_MAPPED), *other = run(1, 1, REGION_MAPPED);
	memset(s->start, 0xee, 4 * SLICE_SIZE);
	char *missing = s->start + SLICE_SIZE;
	assert_int_equal(munmap(missing, os_page_size), 0);
	assert_int_equal(os_purge(missing, os_page_size, false), PURGE_REFUSED);
	uint64_t before = stats().purged_total;
	const int64_t decay = conf.decay;
	conf.decay = 1000000; /* an interval does not end meanwhile */
	conf.dirty_max = 0;
	heap_free(s);
	heap_purge_due();
	assert_int_equal(stats().dirty, 4 * SLICE_SIZE);
	heap_free(other);
	heap_purge_due();
	assert_int_equal(stats().dirty, 5 * SLICE_SIZE);
	assert_int_equal(stats().purged_total, before);
	conf.dirty_max = -1;
	conf.decay = decay;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	assert_ptr_equal(mmap(missing, os_page_size, PROT_READ | PROT_WRITE, flags, -1, 0), missing);
	struct stale stale = { 0 };
	s = heap_alloc(4, 1, REGION_MAPPED, SPAN_RUN, &stale);
	assert_int_equal(stale.slices, 4);
	heap_free(s);
	heap_free(between);
	assert_int_equal(heap_purge(), 6 * SLICE_SIZE);
}

/* Of a run that is partly stale, a calloc is told which part. */
static void stale_slices_are_told(void **state) {
	(void)state;
	heap_purge();
	enum { SLICES = 150 };
	struct span *s = run(SLICES, 1, REGION_MAPPED), *dirty[3];
	char *start = s->start;
	heap_free(s);
	heap_purge();
	static const size_t parts[] = { 70, 3, 50 };
	for (int i = 0; i < 3; i++) dirty[i] = run(parts[i], 1, REGION_MAPPED);
	assert_ptr_equal(dirty[0]->start, start);
	assert_ptr_equal(dirty[2]->start, start + 73 * SLICE_SIZE);
	heap_free(dirty[1]);
	heap_purge();
	heap_free(dirty[0]);
	heap_free(dirty[2]);
	struct stale stale;
	s = heap_alloc(SLICES, 1, REGION_MAPPED, SPAN_RUN, &stale);
	assert_ptr_equal(s->start, start);
	assert_int_equal(stale.slices, 120);
	for (size_t i = 0; i < SLICES; i++) assert_int_equal(bit_get(stale.map, i), i < 70 || (i >= 73 && i < 123));
	heap_free(s);
	heap_purge();
}

static void refuse_new_mappings(void) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(2);
}

/* Guarded spans are closed, and clean, also where no mapping can be put in their place. */
static void guarded_spans_are_closed_without_new_mappings(void **state) {
	(void)state;
	struct stale stale;
	struct span *s = heap_alloc_guarded(4, SPAN_SMALL, &stale);
	assert_non_null(s);
	memset(s->start, 1, 4 * SLICE_SIZE);
	assert_int_equal(os_purge(s->start, SLICE_SIZE, false), PURGED); /* to find out what it does, there must be mappings */
	const pid_t child = fork();
	if (child == 0) {
		char *start = s->start;
		signal(SIGSEGV, SIG_DFL);
		refuse_new_mappings();
		heap_free_guarded(s);
		s = heap_alloc_guarded(4, SPAN_SMALL, &stale);
		if (s == NULL || s->start != start || stale.slices != 0) _exit(3);
		for (size_t i = 0; i < 4 * SLICE_SIZE; i++)
			if (start[i] != 0) _exit(4);
		heap_free_guarded(s);
		(void)*(volatile char *)start;
		_exit(5);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	heap_free_guarded(s);
}

static void resizing(void **state) {
	(void)state;
	struct span *s = run(8, 1, REGION_MAPPED);
	assert_true(heap_resize(s, 2));
	struct span *wedge = run(1, 1, REGION_MAPPED);
	/* Whether or not the wedge lies right behind: growing must never take slices that are in use. */
	bool free_behind = wedge->start < s->start || wedge->start >= s->start + 8 * SLICE_SIZE;
	assert_int_equal(heap_resize(s, 8), free_behind);
	heap_free(wedge);
	assert_true(heap_resize(s, 8));
	assert_int_equal(s->slices, 8);
	memset(s->start, 1, 8 * SLICE_SIZE);
	heap_free(s);
}

/* The run that ends below the break grows there, unless somebody else has raised it since. */
static void the_topmost_run_raises_the_break(void **state) {
	(void)state;
	heap_purge();
	heap_trim(0);
	enum { SHORT = 20, LONG = 60, TRIES = 24 };
	struct span *tried[TRIES], *s = NULL;
	size_t count = 0;
	while (s == NULL && count < TRIES) {
		struct span *t = tried[count++] = run(SHORT, 1, REGION_BRK);
		const uintptr_t end = (uintptr_t)t->start + SHORT * SLICE_SIZE, top = (uintptr_t)sbrk(0);
		const bool top_most = end <= top && top - end <= (size_t)conf.top_pad;
		if (top_most && slice_number((uintptr_t)t->start) + LONG < REGION_SLICES) s = t;
	}
	assert_non_null(s);
	char *const start = s->start;
	assert_true(heap_resize(s, LONG));
	assert_ptr_equal(s->start, start);
	assert_true((uintptr_t)sbrk(0) >= (uintptr_t)start + LONG * SLICE_SIZE);
	memset(start, 1, LONG * SLICE_SIZE);
	char *const foreign = sbrk(4096);
	memset(foreign, 0x5c, 4096);
	const size_t behind = (size_t)(foreign - start) / SLICE_SIZE + 1;
	assert_false(heap_resize(s, behind));
	assert_int_equal(s->slices, LONG);
	for (int i = 0; i < 4096; i++) assert_int_equal(foreign[i], 0x5c);
	while (count > 0) heap_free(tried[--count]);
	heap_purge();
	heap_trim(0);
}

static void alignment(void **state) {
	(void)state;
	for (size_t align = 1; align <= REGION_SLICES / 2; align *= 2) {
		struct span *s = run(3, align, align % 3 ? REGION_MAPPED : REGION_BRK);
		assert_non_null(s);
		assert_int_equal((uintptr_t)s->start % (align * SLICE_SIZE), 0);
		heap_free(s);
	}
}

static void no_overlap(void **state) {
	(void)state;
	enum { RUNS = 600 };
	struct span *runs[RUNS];
	size_t used = stats().used;
	for (size_t i = 0; i < RUNS; i++) {
		runs[i] = run(1 + i % 17, 1, i % 2 ? REGION_MAPPED : REGION_BRK);
		memset(runs[i]->start, (int)i, runs[i]->slices * SLICE_SIZE);
	}
	for (size_t i = 0; i < RUNS; i++) {
		assert_int_equal(runs[i]->start[0], (char)i);
		assert_int_equal(runs[i]->start[runs[i]->slices * SLICE_SIZE - 1], (char)i);
	}
	for (size_t i = 0; i < RUNS; i += 2) heap_free(runs[i]);
	for (size_t i = 1; i < RUNS; i += 2) heap_free(runs[i]);
	assert_int_equal(stats().used, used);
}

static void break_goes_down(void **state) {
	(void)state;
	heap_purge();
	heap_trim(0);
	allowance_since = 0; /* whatever earlier tests have purged */
	uintptr_t before = (uintptr_t)sbrk(0);
	struct span *s = run(512, 1, REGION_BRK);
	uintptr_t raised = (uintptr_t)sbrk(0);
	assert_true(raised >= before + 512 * SLICE_SIZE - MIB);
	assert_true((uintptr_t)s->start < raised);
	memset(s->start, 1, 512 * SLICE_SIZE);
	heap_free(s);
	heap_purge_due();
	/* What is past the trim threshold is gone, unasked. */
	size_t left = (size_t)(conf.trim_threshold > conf.top_pad ? conf.trim_threshold : conf.top_pad);
	assert_true((uintptr_t)sbrk(0) <= before + left + SLICE_SIZE);
	assert_int_equal(stats().brk_end, (uintptr_t)sbrk(0));
}

static void somebody_moves_the_break(void **state) {
	(void)state;
	heap_purge();
	heap_trim(0);
	char *foreign = sbrk(12345);
	memset(foreign, 0x5a, 12345);
	struct span *s = run(64, 1, REGION_BRK);
	assert_non_null(s);
	memset(s->start, 1, 64 * SLICE_SIZE);
	assert_true(s->start >= foreign + 12345 || s->start + 64 * SLICE_SIZE <= foreign);
	char *top = sbrk(777);
	memset(top, 0x5b, 777);
	heap_free(s);
	assert_ptr_equal(sbrk(0), top + 777); /* not ours to lower */
	for (int i = 0; i < 12345; i++) assert_int_equal(foreign[i], 0x5a);
	for (int i = 0; i < 777; i++) assert_int_equal(top[i], 0x5b);
}

/* The runs of three regions, or of as many pieces where there is no room for a region. */
enum { HALVES = 6 };

static void take_halves(struct span *halves[HALVES], enum region_kind kind) {
	for (size_t i = 0; i < HALVES; i++) {
		halves[i] = kind == REGION_GUARDED ? heap_alloc_guarded(RUN_MAX / SLICE_SIZE - 2, SPAN_SMALL, &(struct stale){ 0 })
		                                   : run(RUN_MAX / SLICE_SIZE, 1, kind);
		assert_non_null(halves[i]);
		memset(halves[i]->start, 1, SLICE_SIZE);
	}
}

static void free_halves(struct span *halves[HALVES], enum region_kind kind) {
	for (size_t i = 0; i < HALVES; i++) kind == REGION_GUARDED ? heap_free_guarded(halves[i]) : heap_free(halves[i]);
}

/* Is any of it mapped? */
static bool is_mapped(const char *address) { return msync((void *)((uintptr_t)address & -os_page_size), 1, MS_ASYNC) == 0; }

static void free_regions_are_unmapped(void **state) {
	(void)state;
	for (int kind = REGION_MAPPED; kind <= REGION_GUARDED; kind += REGION_GUARDED - REGION_MAPPED) {
		struct span *halves[HALVES];
		char *starts[HALVES];
		take_halves(halves, (enum region_kind)kind);
		for (size_t i = 0; i < HALVES; i++) starts[i] = halves[i]->start;
		const size_t metadata = stats().metadata, regions = stats().regions;
		free_halves(halves, (enum region_kind)kind);
		/* One stays. */
		heap_purge();
		heap_trim(0);
		size_t mapped = 0;
		for (size_t i = 0; i < HALVES; i++) mapped += is_mapped(starts[i]);
		assert_int_equal(mapped, 2);
		assert_int_equal(stats().regions, regions - 2);
		/* None. */
		heap_release(SLICE_SIZE);
		for (size_t i = 0; i < HALVES; i++) {
			assert_false(is_mapped(starts[i]));
			assert_null(page_map_region((uintptr_t)starts[i]));
		}
		/* Their records serve others. */
		take_halves(halves, (enum region_kind)kind);
		assert_int_equal(stats().metadata, metadata);
		free_halves(halves, (enum region_kind)kind);
		heap_release(SLICE_SIZE);
	}
}

static void what_stays_free_is_unmapped_by_time(void **state) {
	(void)state;
	struct span *halves[HALVES];
	const int64_t decay = conf.decay;
	take_halves(halves, REGION_MAPPED);
	const size_t regions = stats().regions;
	free_halves(halves, REGION_MAPPED);
	heap_purge();
	conf.decay = 4; /* an interval is a millisecond, or a tick of the coarse clock */
	const time_t start = time(NULL);
	while (stats().regions > regions - 2 && time(NULL) - start < 30) heap_decay(false);
	conf.decay = decay;
	assert_int_equal(stats().regions, regions - 2);
}

static void what_is_opened_follows_what_is_used(void **state) {
	(void)state;
	heap_release(SLICE_SIZE);
	const size_t before = stats().mapped;
	struct span *one = run(1, 1, REGION_MAPPED);
	assert_true(stats().mapped - before <= MIB);
	/* A run grows over the end of what is opened. */
	assert_true(heap_resize(one, 200));
	memset(one->start, 1, 200 * SLICE_SIZE);
	assert_true(stats().mapped - before <= 200 * SLICE_SIZE + 8 * MIB);
	heap_free(one);
	heap_purge();
	heap_trim(0);
	assert_int_equal(stats().mapped, before);
}

/* Regions lie side by side: what of one is reserved only goes, and nothing of the next. */
static void a_neighbour_stays(void **state) {
	(void)state;
	heap_purge(); /* dirty slices would come first, wherever they are */
	heap_release(SLICE_SIZE);
	struct span *low = run(RUN_MAX / SLICE_SIZE, 1, REGION_MAPPED), *high = run(RUN_MAX / SLICE_SIZE, 1, REGION_MAPPED);
	struct span *next = run(2, 1, REGION_MAPPED);
	assert_ptr_equal(high->start, low->start + RUN_MAX);
	assert_ptr_equal(next->start, (char *)ALIGN_UP((uintptr_t)high->start, REGION_SIZE));
	memset(next->start, 7, 2 * SLICE_SIZE);
	heap_free(high);
	heap_release(SLICE_SIZE);
	assert_false(is_mapped(low->start + REGION_SIZE - os_page_size));
	for (size_t i = 0; i < 2 * SLICE_SIZE; i += os_page_size / 2) assert_int_equal(next->start[i], 7);
	heap_free(next);
	heap_free(low);
	heap_release(SLICE_SIZE);
}

/* Where there is a cap, what is reserved only stays as long as there are addresses. */
static void the_cap_takes_no_addresses(void **state) {
	(void)state;
#ifdef __SANITIZE_THREAD__
	SKIP("ThreadSanitizer itself ends where it gets no addresses");
#endif
	struct rlimit usual, none;
	assert_int_equal(getrlimit(RLIMIT_AS, &usual), 0);
	heap_purge();
	heap_release(SLICE_SIZE);
	struct span *one = run(1, 1, REGION_MAPPED);
	char *end = (char *)ALIGN_DOWN((uintptr_t)one->start, REGION_SIZE) + REGION_SIZE - os_page_size;
	assert_true(is_mapped(end));
	conf.cap = (int64_t)(cap_bytes + GIB);
	heap_release(SLICE_SIZE);
	assert_true(is_mapped(end));
	none = (struct rlimit){ MIB, usual.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	heap_release(SLICE_SIZE);
	assert_int_equal(setrlimit(RLIMIT_AS, &usual), 0);
	assert_false(is_mapped(end));
	conf.cap = 0;
	heap_free(one);
	heap_release(SLICE_SIZE);
}

/* The first slice that is touched brings all of its huge page into memory, clean slices as well. When it is broken up, these still
 * count, and go back with the rest. */
static void broken_huge_pages_are_still_counted(void **state) {
	(void)state;
	enum { SLICES = THP_STRETCH / SLICE_SIZE };
	const int64_t thp = conf.thp;
	heap_purge();
	struct span *all = run(SLICES, HUGE_PAGE_SLICES, REGION_MAPPED);
	assert_non_null(all);
	heap_free(all); /* a place that is not used up to its end */
	heap_purge();
	conf.thp = 1;
	struct span *first = run(HUGE_PAGE_SLICES / 4, HUGE_PAGE_SLICES, REGION_MAPPED), *second = run(1, 1, REGION_MAPPED);
	struct region *r = page_map_region((uintptr_t)first->start);
	const size_t at = ((uintptr_t)first->start - r->base) / SLICE_SIZE;
	if (!thp_covers(r, at)) {
		heap_free(first);
		heap_free(second);
		conf.thp = thp;
		SKIP("the kernel has no huge pages");
	}
	assert_ptr_equal(second->start, first->start + HUGE_PAGE_SLICES / 4 * SLICE_SIZE);
	memset(first->start, 1, HUGE_PAGE_SLICES / 4 * SLICE_SIZE);
	memset(second->start, 1, SLICE_SIZE);
	const size_t rest = (HUGE_PAGE_SLICES - HUGE_PAGE_SLICES / 4 - 1) * SLICE_SIZE, dirty = stats().dirty;
	assert_true(stats().unsure >= rest);
	heap_break_huge(r, at, HUGE_PAGE_SLICES / 4);
	assert_false(thp_covers(r, at));
	assert_int_equal(stats().dirty - dirty, rest);
	heap_free(first);
	heap_purge();
	assert_int_equal(stats().dirty, 0);
	assert_int_equal(os_resident(second->start, rest), SLICE_SIZE);
	heap_free(second);
	heap_purge();
	conf.thp = thp;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_topmost_run_raises_the_break), /* while there is little above what is in use */
		cmocka_unit_test(broken_huge_pages_are_still_counted),
		cmocka_unit_test(kinds), cmocka_unit_test(dirty_slices_serve_everybody), cmocka_unit_test(all_goes_when_the_process_rests),
		cmocka_unit_test(who_frees_purges_a_piece), cmocka_unit_test(what_falls_due_at_once_has_a_bound),
		cmocka_unit_test(purged_slices_read_as_zero), cmocka_unit_test(lazily_purged_slices_are_not_taken_for_zero),
		cmocka_unit_test(refused_slices_stay_dirty), cmocka_unit_test(stale_slices_are_told), cmocka_unit_test(guarded_spans_are_closed_without_new_mappings), cmocka_unit_test(resizing), cmocka_unit_test(alignment),
		cmocka_unit_test(free_regions_are_unmapped), cmocka_unit_test(what_stays_free_is_unmapped_by_time), cmocka_unit_test(what_is_opened_follows_what_is_used),
		cmocka_unit_test(no_overlap), cmocka_unit_test(break_goes_down), cmocka_unit_test(somebody_moves_the_break),
		cmocka_unit_test(a_neighbour_stays), cmocka_unit_test(the_cap_takes_no_addresses),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
