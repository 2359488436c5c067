/* arena/huge, arena/huge_cache and arena/large. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena/clear.h"
#include "arena/heap.h"
#include "arena/huge.h"
#include "arena/huge_cache.h"
#include "arena/large.h"
#include "arena/wave.h"
#include "base/conf.h"
#include "base/os.h"
#include "harden/hard_large.h"

/* System calls that map and unmap, since it was set to 0. */
static unsigned calls;

static struct huge_stats stats(void) {
	struct huge_stats s;
	huge_stats_get(&s);
	return s;
}

static void table_grows(void **state) {
	(void)state;
	enum { BLOCKS = 500 };
	char *blocks[BLOCKS];
	size_t stale;
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = huge_alloc((size_t)(i + 1) * 4096, 1, &stale);
		assert_non_null(blocks[i]);
		blocks[i][0] = (char)i;
	}
	assert_int_equal(stats().blocks, BLOCKS);
	for (int i = 0; i < BLOCKS; i++) {
		assert_int_equal(huge_size(blocks[i]), (size_t)(i + 1) * 4096);
		assert_int_equal(huge_size(blocks[i] + 4096), 0);
		assert_int_equal(blocks[i][0], (char)i);
	}
	for (int i = 0; i < BLOCKS; i++) assert_true(huge_free(blocks[i]));
	assert_false(huge_free(blocks[0]));
	assert_int_equal(stats().blocks, 0);
	assert_int_equal(stats().bytes, 0);
	huge_purge();
}

static void kept_mappings_are_reused(void **state) {
	(void)state;
	size_t stale;
	huge_purge();
	char *a = huge_alloc(4 * MIB, 1, &stale);
	assert_int_equal(stale, 0);
	memset(a, 1, 4 * MIB);
	huge_free(a);
	assert_int_equal(stats().cached, 4 * MIB);
	/* A shorter one is cut from it; a longer one grows it, and keeps what is resident. */
	char *b = huge_alloc(1 * MIB, 1, &stale);
	assert_ptr_equal(b, a);
	assert_int_equal(stale, MIB);
	assert_int_equal(stats().cached, 3 * MIB);
	char *c = huge_alloc(5 * MIB, 1, &stale);
	assert_int_equal(stale, 3 * MIB);
	assert_int_equal(stats().cached, 0);
	assert_int_equal(os_resident(c, 5 * MIB), 3 * MIB);
	assert_int_equal(huge_size(c), 5 * MIB);
	memset(c, 2, 5 * MIB);
	assert_int_equal(b[MIB - 1], 1);
	huge_free(b);
	huge_free(c);
	assert_int_equal(huge_purge(), 6 * MIB);
	assert_int_equal(stats().cached, 0);
}

static void cache_is_bounded(void **state) {
	(void)state;
	size_t stale;
	huge_purge();
	char *large = huge_alloc(64 * MIB, 1, &stale);
	huge_free(large);
	assert_int_equal(stats().cached, 0); /* more than the limit: unmapped at once */
	char *blocks[40];
	for (int i = 0; i < 40; i++) blocks[i] = huge_alloc(MIB, 1, &stale);
	for (int i = 0; i < 40; i++) huge_free(blocks[i]);
	assert_in_range(stats().cached, 1, DIRTY_MIN);
	/* Neighbours grow together to more than the limit: only what is too much is dropped. */
	huge_purge();
	char *parts = huge_alloc(12 * MIB, 1, &stale);
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	assert_int_equal(huge_cache_put((struct piece){ parts, 6 * MIB, 1 }, 8 * MIB, victims), 0);
	assert_int_equal(huge_cache_put((struct piece){ parts + 6 * MIB, 6 * MIB, 1 }, 8 * MIB, victims), 1);
	assert_int_equal(victims[0].size, 4 * MIB);
	assert_int_equal(huge_cache_take(8 * MIB).size, 8 * MIB);
	huge_free(parts);
	conf.dirty_max = 0;
	huge_free(huge_alloc(MIB, 1, &stale));
	assert_int_equal(stats().cached, 0);
	conf.dirty_max = -1;
}

/* A freed block serves the next one of its size and alignment, and the kernel is not asked. */
static void aligned_mappings_are_reused(void **state) {
	(void)state;
	size_t stale;
	for (size_t align = 2 * os_page_size; align <= 16 * MIB; align *= 2) {
		huge_purge();
		char *block = huge_alloc(4 * MIB, align, &stale);
		assert_non_null(block);
		assert_int_equal((uintptr_t)block % align, 0);
		assert_true(huge_free(block));
		calls = 0;
		for (int i = 0; i < 3; i++) {
			assert_ptr_equal(huge_alloc(4 * MIB, align, &stale), block);
			assert_int_equal(stale, 4 * MIB);
			assert_true(huge_free(block));
		}
		assert_int_equal(calls, 0);
		/* One that is a little shorter gets it whole. */
		assert_ptr_equal(huge_alloc(4 * MIB - 2 * os_page_size, align, &stale), block);
		assert_int_equal(huge_size(block), 4 * MIB);
		assert_true(huge_free(block));
		/* A longer one is not made of it. */
		char *longer = huge_alloc(5 * MIB, align, &stale);
		assert_non_null(longer);
		assert_int_equal((uintptr_t)longer % align, 0);
		assert_int_equal(stale, 0);
		assert_int_equal(stats().cached, 4 * MIB);
		assert_true(huge_free(longer));
	}
	huge_purge();
}

/* What lies before and behind it stays, and grows together with it when it is freed. */
static void aligned_blocks_are_cut_from_longer_mappings(void **state) {
	(void)state;
	size_t stale;
	huge_purge();
	char *whole = huge_alloc(8 * MIB, 2 * MIB, &stale);
	assert_true(huge_free(whole));
	calls = 0;
	char *first = huge_alloc(MIB, os_page_size, &stale);
	assert_ptr_equal(first, whole);
	char *middle = huge_alloc(2 * MIB, 2 * MIB, &stale);
	assert_ptr_equal(middle, whole + 2 * MIB);
	assert_int_equal(stats().cached, 5 * MIB);
	char *last = huge_alloc(2 * MIB, 2 * MIB, &stale);
	assert_ptr_equal(last, whole + 4 * MIB);
	assert_int_equal(huge_size(last), 2 * MIB);
	/* The end of one, and all of another one. */
	char *end = huge_alloc(2 * MIB - 16 * os_page_size, 2 * MIB, &stale);
	assert_ptr_equal(end, whole + 6 * MIB);
	assert_int_equal(huge_size(end), 2 * MIB);
	assert_int_equal(stats().cached, MIB);
	assert_ptr_equal(huge_alloc(MIB, MIB, &stale), whole + MIB);
	assert_int_equal(stats().cached, 0);
	assert_true(huge_free(middle));
	assert_true(huge_free(whole + MIB));
	assert_true(huge_free(end));
	/* From an odd place on, up to the end of what is kept. */
	assert_ptr_equal(huge_alloc(2 * MIB, 2 * MIB, &stale), end);
	assert_ptr_equal(huge_alloc(2 * MIB, 2 * MIB, &stale), middle);
	assert_int_equal(stats().cached, MIB);
	char *const blocks[] = { last, first, end, middle };
	for (int i = 0; i < 4; i++) assert_true(huge_free(blocks[i]));
	assert_ptr_equal(huge_alloc(8 * MIB, 2 * MIB, &stale), whole);
	assert_int_equal(calls, 0);
	assert_true(huge_free(whole));
	huge_purge();
}

/* Where there is no room for what is left on both sides, nothing is cut. */
static void a_full_cache_is_not_cut_in_three(void **state) {
	(void)state;
	huge_purge();
	struct mapping victims[HUGE_CACHE_ENTRIES + 1];
	char *const base = (char *)((uintptr_t)1 << 40); /* nobody looks at what is there */
	for (uint32_t i = 0; i < HUGE_CACHE_ENTRIES; i++) {
		const struct piece p = { base + i * 64 * MIB + os_page_size, i == 7 ? 6 * MIB : MIB, i + 1 };
		assert_int_equal(huge_cache_put(p, GIB, victims), 0);
	}
	const size_t all = huge_cache_bytes();
	assert_null(huge_cache_take_aligned(2 * MIB, 2 * MIB).address);
	assert_int_equal(huge_cache_bytes(), all);
	/* On one side there is. */
	struct piece p = huge_cache_take_aligned(4 * MIB, 2 * MIB);
	assert_ptr_equal(p.address, base + 7 * 64 * MIB + 2 * MIB);
	assert_int_equal(p.size, 4 * MIB + os_page_size);
	assert_int_equal(p.origin, 8);
	assert_int_equal(huge_cache_bytes(), all - p.size);
	for (uint32_t i = 0; i < HUGE_CACHE_ENTRIES; i++) assert_non_null(huge_cache_take(MIB).address);
	assert_int_equal(huge_cache_bytes(), 2 * MIB - os_page_size - MIB);
	assert_int_equal(huge_cache_take(MIB - os_page_size).size, MIB - os_page_size);
	assert_int_equal(huge_cache_bytes(), 0);
}

static void resizing_keeps_content(void **state) {
	(void)state;
	size_t stale;
	char *p = huge_alloc(2 * MIB, 1, &stale);
	memset(p, 3, 2 * MIB);
	for (size_t size = 3 * MIB; size <= 300 * MIB; size += 27 * MIB) {
		p = huge_resize(p, size);
		assert_non_null(p);
		assert_true(huge_size(p) >= size);
		p[size - 1] = 4;
	}
	assert_null(huge_resize(p, (size_t)PTRDIFF_MAX));
	p = huge_resize(p, 2 * MIB);
	assert_int_equal(huge_size(p), 2 * MIB);
	for (size_t i = 0; i < 2 * MIB; i++) assert_int_equal(p[i], 3);
	huge_free(p);
}

/* The rest of a kept mapping lies behind the block that was cut from it. */
static void growing_takes_what_is_kept_behind(void **state) {
	(void)state;
	size_t stale;
	huge_purge();
	char *block = huge_alloc(6 * MIB, os_page_size, &stale);
	assert_non_null(block);
	memset(block, 5, 6 * MIB);
	assert_true(huge_free(block));
	assert_int_equal(stats().cached, 6 * MIB);
	assert_ptr_equal(huge_alloc(2 * MIB, os_page_size, &stale), block);
	assert_ptr_equal(huge_resize(block, 4 * MIB), block);
	const size_t size = huge_size(block);
	assert_true(size >= 4 * MIB && size < 6 * MIB);
	assert_int_equal(stats().cached, 6 * MIB - size);
	for (size_t i = 0; i < size; i += 1000) assert_int_equal(block[i], 5); /* resident: no fault, no zeros */
	/* No more behind it than is kept: the kernel moves it. */
	char *moved = huge_resize(block, 32 * MIB);
	assert_non_null(moved);
	assert_int_equal(moved[4 * MIB - 1], 5);
	assert_true(huge_free(moved));
	huge_purge();
}

/* Can the kernel resize it as one? */
static bool is_one_mapping(char *address, size_t size) {
	errno = 0;
	if (mremap(address, size, size + os_page_size, 0) == address) munmap(address + size, os_page_size);
	return errno != EFAULT;
}

/* Where the next mapping of 2 MiB, or the next one that moves, shall end; NULL: the kernel decides. */
static char *end_here;

/* In place of the library's (--wrap). */
long __real_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f) {
	calls += number == SYS_mmap || number == SYS_munmap || number == SYS_mremap;
	if (end_here != NULL && number == SYS_mmap && b == (long)(2 * MIB))
		return __real_system_call(number, (long)end_here - b, b, c, d | MAP_FIXED, e, f);
	if (end_here != NULL && number == SYS_mremap && d == MREMAP_MAYMOVE)
		return __real_system_call(number, a, b, c, d | MREMAP_FIXED, (long)end_here - c, f);
	return __real_system_call(number, a, b, c, d, e, f);
}

/* mremap moves a block to right before another: to the kernel, these are two mappings for ever. */
static void make_neighbours(char **low, char **high) {
	const size_t room = 16 * MIB;
	size_t stale;
	char *area = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *block;
	assert_true(area != MAP_FAILED);
	assert_non_null(block = huge_alloc(2 * MIB, os_page_size, &stale));
	memset(block, 1, 2 * MIB);
	end_here = area + room;
	assert_non_null(*high = huge_alloc(2 * MIB, os_page_size, &stale));
	memset(*high, 2, 2 * MIB);
	end_here = *high;
	*low = huge_resize(block, 4 * MIB);
	end_here = NULL;
	assert_ptr_equal(*high, area + room - 2 * MIB);
	assert_true(*low != NULL && *low + huge_size(*low) == *high);
	munmap(area, (size_t)(*low - area));
}

/* What the kernel sees as several mappings it cannot resize as one. */
static void what_the_kernel_sees_as_two_stays_apart(void **state) {
	(void)state;
	size_t stale;
	char *low, *high;
	/* Freed in either order, they are not joined. */
	for (int first = 0; first < 2; first++) {
		huge_purge();
		make_neighbours(&low, &high);
		const size_t size = huge_size(low);
		assert_false(is_one_mapping(low, size + 2 * MIB));
		conf.dirty_max = 64 * MIB;
		assert_true(huge_free(first == 0 ? low : high));
		assert_true(huge_free(first == 0 ? high : low));
		assert_int_equal(stats().cached, size + 2 * MIB);
		char *block = huge_alloc(size + 2 * MIB, os_page_size, &stale);
		assert_non_null(block);
		assert_true(is_one_mapping(block, size + 2 * MIB));
		assert_non_null(block = huge_resize(block, 40 * MIB));
		huge_free(block);
		conf.dirty_max = -1;
		huge_purge();
	}
	/* Nor does a block grow into what is kept behind it. */
	make_neighbours(&low, &high);
	conf.dirty_max = 64 * MIB;
	const size_t size = huge_size(low) + MIB;
	assert_true(huge_free(high));
	assert_non_null(low = huge_resize(low, size));
	assert_int_equal(low[2 * MIB - 1], 1);
	assert_true(is_one_mapping(low, huge_size(low)));
	huge_free(low);
	conf.dirty_max = -1;
	huge_purge();
}

/* They are unmapped when they are freed; and who holds the lock, as the handler of a signal may find it, waits for nobody. */
static void altered_blocks_are_not_kept(void **state) {
	(void)state;
	size_t stale;
	huge_purge();
	char *blocks[4];
	for (int i = 0; i < 4; i++) assert_non_null(blocks[i] = huge_alloc(2 * MIB, os_page_size, &stale));
	huge_alter(blocks[0] + MIB, 1, 0);
	huge_alter(blocks[1], 2 * MIB, 2 * MIB + 1); /* only larger ones */
	huge_alter(blocks[1] - 1, 1, 0);
	huge_alter(blocks[1] + 2 * MIB, 1, 0);
	assert_true(huge_free(blocks[0]));
	assert_int_equal(stats().cached, 0);
	/* Not those beside it, wherever they lie. */
	char *alone = huge_alloc(2 * MIB, os_page_size, &stale);
	assert_true(huge_free(alone));
	assert_int_equal(stats().cached, 2 * MIB);
	huge_purge();
	huge_lock();
	huge_alter(alone, 1, 0);
	huge_alter(blocks[3], 1, 0);
	huge_unlock();
	for (int i = 1; i < 4; i++) assert_true(huge_free(blocks[i]));
	assert_int_equal(stats().cached, 0);
	/* All others from then on. */
	alone = huge_alloc(2 * MIB, os_page_size, &stale);
	assert_true(huge_free(alone));
	assert_int_equal(stats().cached, 2 * MIB);
	/* The mark is not left to the next block that has its place in the table, and goes along when the table grows or the block. */
	enum { MANY = 300 };
	char *many[MANY];
	alone = huge_alloc(2 * MIB, os_page_size, &stale);
	huge_alter(alone, 1, 0);
	for (int i = 0; i < MANY; i++) assert_non_null(many[i] = huge_alloc(os_page_size, os_page_size, &stale));
	assert_non_null(alone = huge_resize(alone, 5 * MIB));
	for (int i = 0; i < MANY; i++) assert_true(huge_free(many[i]));
	huge_purge();
	assert_true(huge_free(alone));
	assert_int_equal(stats().cached, 0);
	assert_non_null(alone = huge_alloc(2 * MIB, os_page_size, &stale));
	assert_true(huge_free(alone));
	assert_int_equal(stats().cached, 2 * MIB);
	huge_purge();
}

static int status_of(void (*body)(void)) {
	const pid_t child = fork();
	if (child == 0) {
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		body();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void resize_freed_huge(void) {
	size_t stale;
	char *block = huge_alloc(2 * MIB, os_page_size, &stale);
	huge_free(block);
	huge_resize(block, 3 * MIB);
}

static void resize_freed_run(void) {
	size_t size = 10 * SLICE_SIZE;
	char *block = large_alloc(size, 16, false, REGION_BRK);
	struct span *run = span_of(block);
	heap_free(run);
	large_resize_run(run, size);
}

static void resize_freed_run_longer(void) {
	char *block = large_alloc(10 * SLICE_SIZE, 16, false, REGION_BRK);
	struct span *run = span_of(block);
	arenal_test_free(block);
	large_resize_run(run, 11 * SLICE_SIZE);
}

static void resize_freed_hardened(void) {
	CLAIM(claim, "free", FAMILY_MALLOC);
	char *block = large_hard_alloc(MIN_ALIGN, 100000, FAMILY_MALLOC);
	if (!large_hard_free(block, &claim)) _exit(1);
	large_hard_resize(block, 200000);
}

static void hold_freed_hardened(void) {
	CLAIM(claim, "free", FAMILY_MALLOC);
	size_t size;
	enum family family;
	char *block = large_hard_alloc(MIN_ALIGN, 100000, FAMILY_MALLOC);
	if (!large_hard_free(block, &claim)) _exit(1);
	large_hard_hold(block, &size, &family);
}

/* What realloc holds nobody else may free, or hold: also where it moves what is in it by copying. */
static void free_held_hardened(void) {
	CLAIM(claim, "free", FAMILY_MALLOC);
	size_t size;
	enum family family;
	char *block = large_hard_alloc(MIN_ALIGN, 100000, FAMILY_MALLOC);
	if (!large_hard_hold(block, &size, &family)) _exit(1);
	large_hard_free(block, &claim);
}

static void hold_held_hardened(void) {
	size_t size;
	enum family family;
	char *block = large_hard_alloc(MIN_ALIGN, 100000, FAMILY_MALLOC);
	if (!large_hard_hold(block, &size, &family)) _exit(1);
	large_hard_hold(block, &size, &family);
}

/* As when another thread frees the block while realloc is on its way to it. */
static void resizing_what_was_freed_ends_the_program(void **state) {
	(void)state;
	assert_int_equal(status_of(resize_freed_huge), 128 + SIGABRT);
	assert_int_equal(status_of(resize_freed_run), 128 + SIGABRT);
	assert_int_equal(status_of(resize_freed_run_longer), 128 + SIGABRT);
	assert_int_equal(status_of(resize_freed_hardened), 128 + SIGABRT);
	assert_int_equal(status_of(hold_freed_hardened), 128 + SIGABRT);
	assert_int_equal(status_of(free_held_hardened), 128 + SIGABRT);
	assert_int_equal(status_of(hold_held_hardened), 128 + SIGABRT);
}

static bool is_zero(const char *block, size_t size) {
	for (size_t i = 0; i < size; i++)
		if (block[i] != 0) return false;
	return true;
}

/* calloc writes to what it must, and to nothing else. */
static void only_what_is_stale_is_cleared(void **state) {
	(void)state;
	static const size_t sizes[] = { MIB, 5 * MIB, 40 * MIB };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		const size_t size = sizes[i];
		char *memory = os_map(size, os_page_size);
		assert_non_null(memory);
		/* Nobody used it, or who did wrote to a page that is not looked at, or only zeros. */
		memory[3 * os_page_size] = 1;
		clear_stale(memory, size, true);
		assert_in_range(os_resident(memory, size), 0, 64 * KIB);
		assert_true(is_zero(memory, size));
		/* In use: it stays. */
		memset(memory, 1, size);
		clear_stale(memory, size, true);
		assert_int_equal(os_resident(memory, size), size);
		assert_true(is_zero(memory, size));
		memory[os_page_size] = 1;
		clear_stale(memory, size - 1, false);
		assert_int_equal(os_resident(memory, size), size);
		assert_true(is_zero(memory, size));
		/* A tenth of it was used. What the C library's malloc would serve from its heap is written to. */
		clear_stale(memory, size, true);
		memset(memory, 1, size / 10);
		clear_stale(memory, size, true);
		if (size < 32 * MIB)
			assert_int_equal(os_resident(memory, size), size);
		else
			assert_in_range(os_resident(memory, size), 0, 64 * KIB);
		assert_true(is_zero(memory, size));
		os_unmap(memory, size);
	}
	/* A kept mapping that grew: only its old part has had an owner. */
	size_t stale;
	huge_purge();
	char *old = huge_alloc(6 * MIB, os_page_size, &stale);
	memset(old, 1, 6 * MIB);
	huge_free(old);
	char *block = large_alloc(24 * MIB, MIN_ALIGN, true, REGION_MAPPED);
	assert_int_equal(os_resident(block, 24 * MIB), 6 * MIB);
	assert_true(is_zero(block, 24 * MIB));
	huge_free(block);
	huge_purge();
	/* A run of which two slices in the middle were used last. */
	conf.mmap_threshold = 32 * MIB;
	heap_purge();
	block = large_alloc(30 * MIB, MIN_ALIGN, false, REGION_MAPPED);
	struct span *run = span_of(block), *parts[3];
	heap_free(run);
	heap_purge();
	static const size_t slices[] = { 100, 2, 5 };
	for (int i = 0; i < 3; i++) parts[i] = heap_alloc(slices[i], 1, REGION_MAPPED, SPAN_RUN, NULL);
	assert_ptr_equal(parts[1]->start, block + 100 * SLICE_SIZE);
	memset(parts[1]->start, 1, 2 * SLICE_SIZE);
	heap_free(parts[0]);
	heap_free(parts[2]);
	heap_purge();
	heap_free(parts[1]);
	assert_ptr_equal(large_alloc(30 * MIB, MIN_ALIGN, true, REGION_MAPPED), block);
	assert_int_equal(os_resident(block, 30 * MIB), 2 * SLICE_SIZE);
	assert_true(is_zero(block, 30 * MIB));
	heap_free(span_of(block));
	heap_purge();
	conf.mmap_threshold = MIB;
}

static void large_blocks(void **state) {
	(void)state;
	static const size_t sizes[] = { SMALL_MAX + 1, 100 * KIB, 1 * MIB, 1 * MIB + 1, 70 * MIB };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (size_t align = 16; align <= 128 * MIB; align *= 8) {
			char *p = large_alloc(sizes[i], align, true, REGION_BRK);
			assert_non_null(p);
			assert_int_equal((uintptr_t)p % align, 0);
			for (size_t j = 0; j < sizes[i]; j += 4096) assert_int_equal(p[j], 0);
			memset(p, 9, sizes[i] < 2 * MIB ? sizes[i] : 2 * MIB); /* dirty for the next round */
			arenal_test_free(p);
		}
	}
	assert_null(large_alloc(SIZE_MAX, 16, false, REGION_BRK));
	assert_null(large_alloc((size_t)PTRDIFF_MAX + 1, 16, false, REGION_BRK));
}

static size_t kept_after_a_wave(void) {
	enum { BLOCKS = 8 };
	void *blocks[BLOCKS];
	size_t stale;
	huge_purge();
	conf.decay = 1000000; /* its intervals are longer than this test */
	for (int i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = huge_alloc(4 * MIB, os_page_size, &stale));
	for (int i = 0; i < BLOCKS; i++) assert_true(huge_free(blocks[i]));
	conf.decay = 1000;
	return stats().cached;
}

/* A program that frees a lot gets rid of it; one that has used up what it may purge, or that is purged in the
 * background, keeps what it used a moment ago. */
static void waves_are_kept(void **state) {
	(void)state;
	allowance_since = 0;
	assert_true(kept_after_a_wave() <= DIRTY_MIN);
	allowance_since = os_milliseconds() + 1000000;
	assert_int_equal(kept_after_a_wave(), 32 * MIB);
	allowance_since = 0;
	purged_in_background = true;
	assert_int_equal(kept_after_a_wave(), 32 * MIB);
	purged_in_background = false;
	huge_purge();
}

/* Who waits for the lock has read the clock before somebody else began an interval: what that has seen stays. */
static void an_older_clock_ends_no_interval(void **state) {
	(void)state;
	struct wave w = { 0 };
	assert_true(wave_next(&w, 0, 1000000));
	wave_note(&w, 1000);
	assert_false(wave_next(&w, 10, 999999));
	assert_int_equal(w.peak, 1000);
	assert_true(wave_next(&w, 10, 1000000 + decay_interval()));
	assert_int_equal(w.before, 1000);
	/* In a time namespace of its own, a child has another clock. */
	assert_true(wave_next(&w, 10, 5000));
	assert_false(wave_next(&w, 10, 5000));
	assert_true(wave_next(&w, 10, 5000 + decay_interval()));
}

static void unused_mappings_decay(void **state) {
	(void)state;
	purged_in_background = true;
	assert_int_equal(kept_after_a_wave(), 32 * MIB);
	purged_in_background = false;
	conf.decay = 4; /* an interval is a millisecond */
	for (size_t left = 32 * MIB, before = left; left > 0; before = left) {
		uint64_t start = os_milliseconds();
		while (os_milliseconds() - start < 10) {
		}
		left = huge_decay();
		assert_true(left >= before / 2 || before <= MIB);
		assert_true(left < before || before == 32 * MIB); /* the first look only notes what there is */
	}
	conf.decay = 1000;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_grows), cmocka_unit_test(kept_mappings_are_reused), cmocka_unit_test(cache_is_bounded),
		cmocka_unit_test(aligned_mappings_are_reused), cmocka_unit_test(aligned_blocks_are_cut_from_longer_mappings),
		cmocka_unit_test(a_full_cache_is_not_cut_in_three),
		cmocka_unit_test(resizing_keeps_content), cmocka_unit_test(growing_takes_what_is_kept_behind), cmocka_unit_test(large_blocks),
		cmocka_unit_test(what_the_kernel_sees_as_two_stays_apart), cmocka_unit_test(altered_blocks_are_not_kept),
		cmocka_unit_test(resizing_what_was_freed_ends_the_program), cmocka_unit_test(only_what_is_stale_is_cleared),
		cmocka_unit_test(waves_are_kept), cmocka_unit_test(an_older_clock_ends_no_interval),
		cmocka_unit_test(unused_mappings_decay),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
