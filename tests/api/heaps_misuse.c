/* What follows mistakes with heaps: the program ends with a message, or at least nobody else is harmed. */
#include "heaps.h"

#include <signal.h>

static arenal_heap *heap;
static char *block;

static int setup(void **state) {
	(void)state;
	heap = arenal_heap_create("misused");
	block = arenal_heap_alloc(heap, 100);
	return heap != NULL && block != NULL ? 0 : -1;
}

static int teardown(void **state) {
	(void)state;
	arenal_heap_destroy(heap);
	return 0;
}

/* It ends the program, with a message of Arenal's about the function or the block; in the plain mode, with
 * these words. */
static void ends(void (*body)(void *), const char *words) {
	int status;
	const char *said = written_by_child(body, NULL, &status);
	const bool is_plain = !is_guarded() && !is_profiled() && !blocks_lie_elsewhere();
	if (strstr(said, "arenal: ") == NULL || (is_plain && strstr(said, words) == NULL))
		fail_msg("\"%s\" expected, and this is said: %s", words, said);
	assert_int_equal(status, 128 + SIGABRT);
}

static void alloc_destroyed(void *unused) {
	(void)unused;
	arenal_heap_destroy(heap);
	arenal_heap_alloc(heap, 100);
}
static void calloc_destroyed(void *unused) {
	(void)unused;
	arenal_heap_destroy(heap);
	arenal_heap_calloc(heap, 1, 50000);
}
static void free_destroyed(void *unused) {
	(void)unused;
	arenal_heap_destroy(heap);
	arenal_heap_free(heap, block);
}
static void reset_destroyed(void *unused) {
	(void)unused;
	arenal_heap_destroy(heap);
	arenal_heap_reset(heap);
}
static void destroy_twice(void *unused) {
	(void)unused;
	arenal_heap_destroy(heap);
	arenal_heap_destroy(heap);
}
/* A later one has its place. */
static void destroy_after_another(void *unused) {
	(void)unused;
	arenal_heap_destroy(heap);
	if (arenal_heap_create("next") != NULL) arenal_heap_destroy(heap);
}
static void reset_nothing(void *unused) {
	(void)unused;
	arenal_heap_reset((arenal_heap *)&heap);
}

static void destroyed_heaps_are_found(void **state) {
	(void)state;
	ends(alloc_destroyed, "arenal_heap_alloc(");
	ends(alloc_destroyed, "this is no heap: it was destroyed already, or never made");
	ends(calloc_destroyed, "arenal_heap_calloc(");
	ends(free_destroyed, "arenal_heap_free(");
	ends(reset_destroyed, "arenal_heap_reset(");
	ends(destroy_twice, "arenal_heap_destroy(");
	ends(destroy_after_another, "arenal_heap_destroy(");
	ends(reset_nothing, "arenal_heap_reset(");
}

static void free_of_another(void *unused) {
	(void)unused;
	arenal_heap *other = arenal_heap_create("other");
	arenal_heap_free(other, block);
}
static void free_of_none(void *unused) {
	(void)unused;
	arenal_heap_free(heap, malloc(100));
}
static void realloc_of_none(void *unused) {
	(void)unused;
	arenal_heap_realloc(heap, malloc(100), 200);
}
static void free_of_none_large(void *unused) {
	(void)unused;
	arenal_heap_free(heap, malloc(100000));
}
static void free_an_address(void *unused) {
	(void)unused;
	arenal_heap_free(heap, &heap);
}

static void blocks_of_others_are_found(void **state) {
	(void)state;
	ends(free_of_another, "the block is none of heap");
	ends(free_of_none, "arenal_heap_free(");
	ends(realloc_of_none, "arenal_heap_realloc(");
	ends(free_of_none_large, "the block is none of heap");
	ends(free_an_address, "the block is none of heap");
}

static void free_after_reset(void *unused) {
	(void)unused;
	arenal_heap_reset(heap);
	free(block);
}
static void free_after_reset_large(void *unused) {
	(void)unused;
	char *large = arenal_heap_alloc(heap, 100000);
	arenal_heap_reset(heap);
	free(large);
}
static void free_after_destroy(void *unused) {
	(void)unused;
	arenal_heap_destroy(heap);
	free(block);
}
static void free_twice(void *unused) {
	(void)unused;
	free(block);
	free(block);
}
static void heap_free_twice(void *unused) {
	(void)unused;
	arenal_heap_free(heap, block);
	arenal_heap_free(heap, block);
}
/* With others freed in between, so many that it is back in its bin. */
static void heap_free_twice_late(void *unused) {
	(void)unused;
	static char *others[400];
	for (size_t i = 0; i < COUNT_OF(others); i++) others[i] = arenal_heap_alloc(heap, 100);
	arenal_heap_free(heap, block);
	for (size_t i = 0; i < COUNT_OF(others); i++) arenal_heap_free(heap, others[i]);
	arenal_heap_free(heap, block);
}
/* Blocks that are ready to be handed out: none of them is anybody's. */
static void heap_free_of_the_next_after_reset(void *unused) {
	(void)unused;
	static char *stale[100];
	for (size_t i = 0; i < COUNT_OF(stale); i++) stale[i] = arenal_heap_alloc(heap, 100);
	arenal_heap_reset(heap);
	char *first = arenal_heap_alloc(heap, 100);
	for (size_t i = 0; i < COUNT_OF(stale); i++)
		if (stale[i] != first) arenal_heap_free(heap, stale[i]);
}
static void heap_free_of_none_yet(void *unused) {
	(void)unused;
	arenal_heap_free(heap, block + 5 * malloc_usable_size(block));
}
static void free_of_none_yet(void *unused) {
	(void)unused;
	arenal_heap *other = arenal_heap_create("other");
	free(arenal_heap_alloc(other, 100));
	free(block + 5 * malloc_usable_size(block));
}
static void resize_after_reset(void *unused) {
	(void)unused;
	arenal_heap_reset(heap);
	block = realloc(unknown(block), 5000);
}

static void second_frees_are_found(void **state) {
	(void)state;
	ends(free_after_reset, "free(");
	ends(free_after_reset_large, "free(");
	ends(free_after_destroy, "free(");
	ends(free_twice, "free(");
	ends(heap_free_twice, "arenal_heap_free(");
	ends(heap_free_twice_late, "was freed already");
	ends(heap_free_of_the_next_after_reset, "was freed already, and waits for its heap");
	ends(resize_after_reset, "was freed already");
}

static void blocks_that_nobody_has_yet_are_found(void **state) {
	(void)state;
	if (blocks_lie_elsewhere() || is_guarded() || is_profiled()) return; /* no such blocks lie side by side */
	ends(heap_free_of_none_yet, "and waits for its heap");
	ends(free_of_none_yet, "and waits for its heap");
}

/* When others were freed in between, the second one is found before the block would be handed out twice. */
static void free_twice_with_others(void *unused) {
	(void)unused;
	char *others[3];
	for (size_t i = 0; i < COUNT_OF(others); i++) others[i] = arenal_heap_alloc(heap, 100);
	arenal_heap_free(heap, block);
	arenal_heap_free(heap, others[0]);
	arenal_heap_free(heap, block);
	for (int i = 0; i < 10000; i++) memset(arenal_heap_alloc(heap, 100), 1, 100);
}
static void free_in_two_ways(void *unused) {
	(void)unused;
	arenal_heap_free(heap, block);
	free(block);
	for (int i = 0; i < 10000; i++) memset(arenal_heap_alloc(heap, 100), 1, 100);
}

static void blocks_freed_twice_are_not_handed_out_twice(void **state) {
	(void)state;
	ends(free_twice_with_others, "was freed twice");
	ends(free_in_two_ways, "was freed already, and waits for its heap");
}

/* Somebody who frees late hits this heap's own blocks at worst: no other's are in that memory. */
static void late_frees_harm_nobody_else(void **state) {
	(void)state;
	/* where addresses wait, and late frees are found: second_frees_are_found */
	if (blocks_lie_elsewhere() || is_guarded()) return;
	static char *stale[5000], *others[20000];
	for (size_t i = 0; i < COUNT_OF(stale); i++) stale[i] = arenal_heap_alloc(heap, 100);
	arenal_heap_reset(heap);
	arenal_heap *other = arenal_heap_create("other");
	for (size_t i = 0; i < COUNT_OF(others); i++) {
		others[i] = i % 2 == 0 ? malloc(100) : arenal_heap_alloc(other, 100);
		for (size_t s = i % 50; s < COUNT_OF(stale); s += 50) assert_ptr_not_equal(others[i], stale[s]);
	}
	for (size_t i = 0; i < COUNT_OF(others); i += 2) free(others[i]);
	arenal_heap_destroy(other);
}

/* In guarded blocks, an access after the reset is reported with the stack of who reset. */
static void touch_after_reset(void *unused) {
	(void)unused;
	for (int i = 0; i < 50; i++) {
		char *volatile guarded = arenal_heap_alloc(heap, 200);
		arenal_heap_reset(heap);
		guarded[10] = 1;
	}
}
static void guarded_blocks_are_closed(void **state) {
	(void)state;
	if (!is_guarded()) return;
	int status;
	const char *said = written_by_child(touch_after_reset, NULL, &status);
	assert_int_equal(status, 128 + SIGSEGV);
	assert_non_null(strstr(said, "freed"));
	assert_non_null(strstr(said, "200 bytes"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(destroyed_heaps_are_found),
		TEST(blocks_of_others_are_found),
		TEST(second_frees_are_found),
		TEST(blocks_that_nobody_has_yet_are_found),
		TEST(blocks_freed_twice_are_not_handed_out_twice),
		TEST(late_frees_harm_nobody_else),
		TEST(guarded_blocks_are_closed),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
