/* Heaps: blocks that go all at once. Run in each mode. What follows mistakes is in heaps_misuse.c. */
#include "heaps.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t sizes[] = { 0, 1, 16, 100, 1000, 1024, 1025, 5000, 20000, 32768, 40000, 300000, 3000000 };

static void blocks_come_from_the_heap(void **state) {
	(void)state;
	arenal_heap *first = arenal_heap_create("first"), *second = arenal_heap_create(NULL);
	assert_non_null(first);
	assert_ptr_not_equal(first, second);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		char *block = arenal_heap_alloc(first, sizes[i]), *other = arenal_heap_alloc(second, sizes[i]);
		assert_ptr_equal(arenal_heap_of(block), first);
		assert_ptr_equal(arenal_heap_of(other), second);
		assert_ptr_not_equal(block, other);
		assert_true(malloc_usable_size(block) >= sizes[i]);
		memset(block, 1, sizes[i]);
		memset(other, 2, sizes[i]);
		assert_true(holds_only((unsigned char *)block, sizes[i], 1));
		if (i % 2 == 0)
			arenal_heap_free(first, block);
		else
			free(block);
		assert_true(holds_only((unsigned char *)other, sizes[i], 2));
	}
	char *plain = malloc(100);
	assert_null(arenal_heap_of(plain));
	free(plain);
	assert_null(arenal_heap_of(NULL));
	assert_null(arenal_heap_of(&first));
	assert_int_equal(stats_of(first).blocks, 0);
	assert_int_equal(stats_of(second).blocks, COUNT_OF(sizes));
	arenal_heap_destroy(first);
	arenal_heap_destroy(second);
}

static void calloc_is_zero_and_aligned_is_aligned(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("zero");
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT_OF(sizes); i++) {
			unsigned char *block = arenal_heap_calloc(heap, 1, sizes[i]);
			assert_true(holds_only(block, sizes[i], 0));
			memset(block, 0xEE, sizes[i]);
			for (size_t align = 1; align <= 1 << 17; align *= 4) {
				char *aligned = arenal_heap_aligned_alloc(heap, align, sizes[i]);
				assert_non_null(aligned);
				assert_int_equal((uintptr_t)aligned % align, 0);
				assert_ptr_equal(arenal_heap_of(aligned), heap);
				memset(aligned, 0xEE, sizes[i]);
			}
		}
		arenal_heap_reset(heap);
	}
	errno = 0;
	assert_null(arenal_heap_aligned_alloc(heap, 24, 100));
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_null(arenal_heap_aligned_alloc(heap, 0, 100));
	assert_int_equal(errno, EINVAL);
	arenal_heap_destroy(heap);
}

static void what_cannot_be_had_is_refused(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("small");
	errno = 0;
	assert_null(arenal_heap_alloc(heap, hidden(PTRDIFF_MAX)));
	assert_int_equal(errno, ENOMEM);
	errno = 0;
	assert_null(arenal_heap_calloc(heap, hidden(SIZE_MAX / 2), 3));
	assert_int_equal(errno, ENOMEM);
	char *block = arenal_heap_alloc(heap, 50);
	memset(block, 7, 50);
	errno = 0;
	assert_null(arenal_heap_realloc(heap, block, hidden(PTRDIFF_MAX)));
	assert_int_equal(errno, ENOMEM);
	assert_true(holds_only((unsigned char *)block, 50, 7));
	errno = 0;
	assert_null(arenal_heap_alloc(NULL, 10));
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_null(arenal_heap_calloc(NULL, 10, 10));
	assert_int_equal(errno, EINVAL);
	arenal_heap_free(heap, NULL);
	arenal_heap_reset(NULL);
	arenal_heap_destroy(NULL);
	struct arenal_heap_stats stats;
	assert_int_equal(arenal_heap_stats_get(NULL, &stats, sizeof stats), EINVAL);
	assert_int_equal(arenal_heap_stats_get(heap, NULL, sizeof stats), EINVAL);
	arenal_heap_destroy(heap);
}

/* However it is resized, and by whichever function. */
static void realloc_stays_in_the_heap(void **state) {
	(void)state;
	static const size_t steps[] = { 10, 1000, 20, 9000, 50000, 90000, 3000000, 9000000, 70000, 200, 20 };
	arenal_heap *heap = arenal_heap_create("realloc");
	for (int way = 0; way < 2; way++) {
		unsigned char *block = arenal_heap_realloc(heap, NULL, 5);
		memset(block, 5, 5);
		for (size_t i = 0; i < COUNT_OF(steps); i++) {
			block = way == 0 ? realloc(block, steps[i]) : arenal_heap_realloc(heap, block, steps[i]);
			assert_ptr_equal(arenal_heap_of(block), heap);
			assert_true(holds_only(block, 5, 5));
			assert_int_equal(stats_of(heap).blocks, (size_t)way + 1);
		}
	}
	void *block = arenal_heap_alloc(heap, 10);
	assert_null(arenal_heap_realloc(heap, block, 0));
	arenal_heap_reset(heap);
	assert_int_equal(stats_of(heap).blocks, 0);
	arenal_heap_destroy(heap);
}

static void fill(arenal_heap *heap, size_t count) {
	for (size_t i = 0; i < count; i++) {
		const size_t size = i % 500 == 0 ? sizes[i / 500 % COUNT_OF(sizes)] : 1 + i % 700;
		unsigned char *block = arenal_heap_alloc(heap, size);
		assert_non_null(block);
		memset(block, (int)i, size);
		if (i % 7 == 0) free(block);
		if (i % 7 == 3) arenal_heap_free(heap, block);
	}
}

/* Also of threads' caches and of all figures; and nothing grows. */
static void reset_frees_all(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("reset");
	const size_t before = allocated_now();
	fill(heap, 10000);
	arenal_heap_reset(heap);
	const size_t resident = resident_bytes();
	for (int round = 0; round < 6; round++) {
		fill(heap, 10000);
		assert_true(allocated_now() > before + 2 * MIB);
		arenal_heap_reset(heap);
		assert_int_equal(stats_of(heap).blocks, 0);
		assert_int_equal(stats_of(heap).allocated, 0);
		assert_true(allocated_now() < before + MIB / 2);
	}
	assert_true(resident_bytes() < resident + 16 * MIB);
	arenal_heap_destroy(heap);
	assert_true(allocated_now() < before + MIB / 2);
}

/* What threads keep for a heap is cached, not allocated. */
static void figures_are_exact(void **state) {
	(void)state;
	if (blocks_lie_elsewhere() || is_guarded() || is_profiled())
		return; /* then it is elsewhere, or not kept */
	arenal_heap *heap = arenal_heap_create("figures");
	struct arenal_stats before, with, after;
	assert_int_equal(arenal_stats_get(&before, sizeof before), 0);
	void *block = arenal_heap_alloc(heap, 16);
	assert_int_equal(arenal_stats_get(&with, sizeof with), 0);
	arenal_heap_free(heap, block);
	assert_int_equal(arenal_stats_get(&after, sizeof after), 0);
	assert_int_equal(with.allocated, before.allocated + 16);
	assert_true(with.cached > before.cached || environment_is("ARENAL_TCACHE_MAX", "0"));
	assert_int_equal(after.allocated, before.allocated);
	assert_int_equal(after.cached, with.cached + (environment_is("ARENAL_TCACHE_MAX", "0") ? 0 : 16));
	arenal_heap_destroy(heap);
}

/* Large blocks count as they are, from the first moment on. */
static void figures_of_large_blocks(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("large");
	const size_t large[] = { 33000, 100001, 300001, 2000001 };
	for (size_t i = 0; i < COUNT_OF(large); i++) {
		void *block = arenal_heap_alloc(heap, large[i]);
		assert_int_equal(stats_of(heap).allocated, malloc_usable_size(block));
		assert_int_equal(stats_of(heap).memory, malloc_usable_size(block));
		arenal_expand(block, large[i] + 100000);
		assert_int_equal(stats_of(heap).allocated, malloc_usable_size(block));
		block = arenal_heap_realloc(heap, block, 2 * large[i] + 1);
		assert_int_equal(stats_of(heap).allocated, malloc_usable_size(block));
		arenal_heap_free(heap, block);
		assert_int_equal(stats_of(heap).allocated, 0);
	}
	arenal_heap_destroy(heap);
}

static void memory_stays_as_long_as_it_is_used(void **state) {
	(void)state;
	if (blocks_lie_elsewhere()) return; /* then the heap has no memory of its own */
	arenal_heap *heap = arenal_heap_create("keeps");
	for (int i = 0; i < 20000; i++) assert_non_null(arenal_heap_alloc(heap, 200));
	const size_t used = stats_of(heap).memory;
	assert_true(used >= 20000 * 200);
	arenal_heap_reset(heap);
	assert_true(stats_of(heap).memory >= used - used / 8);
	for (int i = 0; i < 2000; i++) assert_non_null(arenal_heap_alloc(heap, 200));
	assert_true(stats_of(heap).memory <= used + MIB / 8);
	arenal_heap_reset(heap);
	assert_true(stats_of(heap).memory <= 2000 * 208 + MIB / 8);
	arenal_heap_reset(heap);
	assert_int_equal(stats_of(heap).memory, 0);
	arenal_heap_destroy(heap);
}

/* A heap that nobody uses for the time being gives its pages back as all others do. */
static void what_it_keeps_goes_back_on_request(void **state) {
	(void)state;
	if (blocks_lie_elsewhere()) return;
	arenal_heap *heap = arenal_heap_create("idle");
	for (int i = 0; i < 40000; i++) memset(arenal_heap_alloc(heap, 500), 1, 500);
	arenal_heap_reset(heap);
	const size_t before = resident_bytes();
	arenal_purge();
	assert_true(resident_bytes() + 15 * MIB < before);
	for (int i = 0; i < 40000; i++) {
		unsigned char *block = arenal_heap_calloc(heap, 1, 500);
		assert_true(holds_only(block, 500, 0));
		memset(block, 2, 500);
	}
	arenal_heap_destroy(heap);
}

/* Freed blocks are handed out again, and by nobody else. */
/* What threads keep for heaps which they have left, too, and what this one keeps. */
static void *use_and_free(void *heaps) {
	for (arenal_heap **heap = heaps; *heap != NULL; heap++) {
		char *blocks[50];
		for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = arenal_heap_alloc(*heap, i * 20);
		for (size_t i = 0; i < COUNT_OF(blocks); i++) arenal_heap_free(*heap, blocks[i]);
	}
	return NULL;
}
static size_t memory_of(arenal_heap **heap) {
	size_t memory = 0;
	for (; *heap != NULL; heap++) memory += stats_of(*heap).memory;
	return memory;
}
static void nothing_is_kept_on_request(void **state) {
	(void)state;
	arenal_heap *heaps[51] = { NULL };
	for (size_t i = 0; i < 50; i++) heaps[i] = arenal_heap_create("many");
	for (int round = 0; round < 3; round++) {
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, use_and_free, heaps), 0);
		use_and_free(heaps);
		pthread_join(thread, NULL);
		arenal_purge();
		assert_int_equal(memory_of(heaps), 0);
		use_and_free(heaps);
		malloc_trim(0);
		assert_int_equal(memory_of(heaps), 0);
	}
	for (size_t i = 0; i < 50; i++) arenal_heap_destroy(heaps[i]);
}

static void freed_blocks_stay_there(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("again");
	void *blocks[200];
	for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = arenal_heap_alloc(heap, 64);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) i % 2 ? free(blocks[i]) : arenal_heap_free(heap, blocks[i]);
	assert_int_equal(stats_of(heap).blocks, 0);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(64);
		assert_null(arenal_heap_of(blocks[i]));
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++) free(blocks[i]);
	const size_t memory = stats_of(heap).memory;
	for (int round = 0; round < 1000; round++) {
		for (size_t i = 0; i < 20; i++) blocks[i] = arenal_heap_alloc(heap, 64);
		for (size_t i = 0; i < 20; i++) i % 3 ? free(blocks[i]) : arenal_heap_free(heap, blocks[i]);
	}
	assert_true(blocks_lie_elsewhere() || stats_of(heap).memory == memory);
	arenal_heap_destroy(heap);
}

/* More than a thread keeps blocks of, by turns. */
static void one_thread_uses_many(void **state) {
	(void)state;
	enum { HEAPS = 50, BLOCKS = 100 };
	arenal_heap *heaps[HEAPS];
	static unsigned char *blocks[HEAPS][BLOCKS];
	for (size_t h = 0; h < HEAPS; h++) heaps[h] = arenal_heap_create("many");
	for (size_t b = 0; b < BLOCKS; b++)
		for (size_t h = 0; h < HEAPS; h++) {
			blocks[h][b] = arenal_heap_alloc(heaps[h], 10 + b);
			memset(blocks[h][b], (int)(h + b), 10 + b);
		}
	for (size_t h = 0; h < HEAPS; h++) {
		for (size_t b = 0; b < BLOCKS; b++) {
			assert_ptr_equal(arenal_heap_of(blocks[h][b]), heaps[h]);
			assert_true(holds_only(blocks[h][b], 10 + b, (unsigned char)(h + b)));
		}
		assert_int_equal(stats_of(heaps[h]).blocks, BLOCKS);
	}
	for (size_t h = 0; h < HEAPS; h++) arenal_heap_destroy(heaps[h]);
}

/* ---- threads ---- */

struct work {
	arenal_heap *heap;
	unsigned char **left; /* for the next thread to free */
	pthread_barrier_t *barrier;
	unsigned number;
	const char *wrong;
};
enum { WORKERS = 4, LEFT = 3000 };

static void *work(void *argument) {
	struct work *w = argument;
	for (size_t i = 0; i < LEFT; i++) {
		const size_t size = 16 + i % 900;
		unsigned char *block = arenal_heap_alloc(w->heap, size);
		if (block == NULL || arenal_heap_of(block) != w->heap) w->wrong = "no block of the heap's";
		memset(block, (int)w->number, size);
		w->left[w->number * LEFT + i] = block;
	}
	pthread_barrier_wait(w->barrier);
	const unsigned next = (w->number + 1) % WORKERS;
	for (size_t i = 0; i < LEFT; i++) {
		unsigned char *block = w->left[next * LEFT + i];
		if (!holds_only(block, 16 + i % 900, (unsigned char)next)) w->wrong = "somebody else's bytes";
		if (i % 3 == 0) free(block);
		if (i % 3 == 1) arenal_heap_free(w->heap, block);
	}
	return NULL;
}

static void threads_share_a_heap(void **state) {
	(void)state;
	static unsigned char *left[WORKERS * LEFT];
	arenal_heap *heap = arenal_heap_create("shared");
	pthread_barrier_t barrier;
	pthread_barrier_init(&barrier, NULL, WORKERS);
	for (int round = 0; round < 4; round++) {
		struct work works[WORKERS];
		pthread_t threads[WORKERS];
		for (unsigned t = 0; t < WORKERS; t++) {
			works[t] = (struct work){ heap, left, &barrier, t, NULL };
			assert_int_equal(pthread_create(&threads[t], NULL, work, &works[t]), 0);
		}
		for (unsigned t = 0; t < WORKERS; t++) {
			pthread_join(threads[t], NULL);
			if (works[t].wrong != NULL) fail_msg("%s", works[t].wrong);
		}
		assert_int_equal(stats_of(heap).blocks, WORKERS * LEFT / 3);
		arenal_heap_reset(heap);
		assert_int_equal(stats_of(heap).blocks, 0);
	}
	pthread_barrier_destroy(&barrier);
	arenal_heap_destroy(heap);
}

static void *take_some(void *heap) {
	for (int i = 0; i < 3; i++) arenal_heap_alloc(heap, 100);
	return NULL;
}

/* What they kept serves the next ones. */
static void threads_come_and_go(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("comers");
	for (int i = 0; i < 200; i++) {
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, take_some, heap), 0);
		pthread_join(thread, NULL);
	}
	assert_int_equal(stats_of(heap).blocks, 600);
	assert_true(blocks_lie_elsewhere() || stats_of(heap).memory <= 4 * 65536);
	arenal_heap_destroy(heap);
}

/* Each thread its own requests, all the time, while others make and destroy. */
static void *serve(void *argument) {
	for (int request = 0; request < 50; request++) {
		arenal_heap *heap = arenal_heap_create("request");
		if (heap == NULL) return "no heap";
		unsigned char *first = arenal_heap_alloc(heap, 100);
		memset(first, request, 100);
		for (size_t i = 0; i < 300; i++) {
			const size_t size = 1 + i * 7 % 1500 + (i % 100 == 0 ? 50000 : 0);
			void *block = arenal_heap_alloc(heap, size);
			if (block == NULL) return "no block";
			memset(block, request + 1, size);
			if (i % 5 == 0) free(block);
		}
		if (!holds_only(first, 100, (unsigned char)request)) return "somebody else's bytes";
		if (request % 20 == 0) arenal_purge();
		arenal_heap_destroy(heap);
	}
	return argument;
}

static void heaps_come_and_go_in_threads(void **state) {
	(void)state;
	const size_t before = allocated_now();
	pthread_t threads[WORKERS];
	for (size_t t = 0; t < WORKERS; t++) assert_int_equal(pthread_create(&threads[t], NULL, serve, NULL), 0);
	for (size_t t = 0; t < WORKERS; t++) {
		void *wrong;
		pthread_join(threads[t], &wrong);
		if (wrong != NULL) fail_msg("%s", (const char *)wrong);
	}
	assert_true(allocated_now() < before + MIB / 2);
}

/* ---- children ---- */

static void use_in_child(void *argument) {
	arenal_heap *heap = argument;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 1000; i++) CHILD_CHECK(arenal_heap_alloc(heap, 100) != NULL);
		arenal_heap_reset(heap);
		CHILD_CHECK(stats_of(heap).blocks == 0);
	}
	arenal_heap_destroy(heap);
	arenal_heap *own = arenal_heap_create("child");
	CHILD_CHECK(own != NULL && arenal_heap_alloc(own, 10) != NULL);
}

static _Atomic bool stop;

static void *allocate_all_the_time(void *heap) {
	for (size_t i = 0; !stop; i++) {
		void *block = arenal_heap_alloc(heap, 100);
		if (i % 2 == 0)
			arenal_heap_free(heap, block);
		else
			free(block);
	}
	return NULL;
}

static void children_have_them_too(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("forks");
	unsigned char *small = arenal_heap_alloc(heap, 100), *large = arenal_heap_alloc(heap, 100000);
	memset(small, 7, 100);
	memset(large, 7, 100000);
	pthread_t threads[2];
	stop = false;
	for (size_t t = 0; t < 2; t++)
		assert_int_equal(pthread_create(&threads[t], NULL, allocate_all_the_time, heap), 0);
	for (int i = 0; i < 5; i++) assert_int_equal(run_in_child(use_in_child, heap), 0);
	stop = true;
	for (size_t t = 0; t < 2; t++) pthread_join(threads[t], NULL);
	assert_true(holds_only(small, 100, 7));
	assert_true(holds_only(large, 100000, 7));
	assert_int_equal(stats_of(heap).blocks, 2);
	arenal_heap_destroy(heap);
}

/* ---- figures, and how many there may be ---- */

static void tables_have_the_name(void **state) {
	(void)state;
	arenal_heap *heap = arenal_heap_create("a name longer than is kept");
	arenal_heap_alloc(heap, 100);
	char text[60000], expected[] = "heap a name longer than is k\n";
	const int fd = memfd_create("table", 0);
	assert_int_equal(arenal_stats_print(fd), 0);
	const ssize_t length = pread(fd, text, sizeof text - 1, 0);
	assert_true(length > 0);
	text[length] = 0;
	assert_non_null(strstr(text, expected));
	arenal_heap_destroy(heap);
	assert_int_equal(ftruncate(fd, 0), 0);
	lseek(fd, 0, SEEK_SET);
	arenal_stats_print(fd);
	text[pread(fd, text, sizeof text - 1, 0)] = 0;
	assert_null(strstr(text, "heap a name"));
	close(fd);
}

static void make_all(void *unused) {
	(void)unused;
	static arenal_heap *heaps[2000];
	size_t count = 0;
	while (count < COUNT_OF(heaps) && (heaps[count] = arenal_heap_create("all")) != NULL) count++;
	CHILD_CHECK(count >= 900 && count < COUNT_OF(heaps));
	CHILD_CHECK(errno == ENOMEM);
	for (size_t i = 0; i < count; i++) CHILD_CHECK(arenal_heap_alloc(heaps[i], 10) != NULL);
	for (size_t i = 0; i < count; i += 2) arenal_heap_destroy(heaps[i]);
	for (size_t i = 0; i < count; i += 2) CHILD_CHECK((heaps[i] = arenal_heap_create("again")) != NULL);
	CHILD_CHECK(arenal_heap_create("one more") == NULL);
	for (size_t i = 0; i < count; i++) arenal_heap_destroy(heaps[i]);
}

static void about_a_thousand_may_be_there(void **state) {
	(void)state;
	assert_int_equal(run_in_child(make_all, NULL), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_come_from_the_heap),
		cmocka_unit_test(calloc_is_zero_and_aligned_is_aligned),
		cmocka_unit_test(what_cannot_be_had_is_refused),
		cmocka_unit_test(realloc_stays_in_the_heap),
		cmocka_unit_test(reset_frees_all),
		cmocka_unit_test(figures_are_exact),
		cmocka_unit_test(figures_of_large_blocks),
		cmocka_unit_test(memory_stays_as_long_as_it_is_used),
		cmocka_unit_test(what_it_keeps_goes_back_on_request),
		cmocka_unit_test(nothing_is_kept_on_request),
		cmocka_unit_test(freed_blocks_stay_there),
		cmocka_unit_test(one_thread_uses_many),
		cmocka_unit_test(threads_share_a_heap),
		cmocka_unit_test(threads_come_and_go),
		cmocka_unit_test(heaps_come_and_go_in_threads),
		cmocka_unit_test(children_have_them_too),
		cmocka_unit_test(tables_have_the_name),
		cmocka_unit_test(about_a_thousand_may_be_there),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
