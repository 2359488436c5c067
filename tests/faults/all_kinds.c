/* Work with blocks of all kinds, for tests of what happens around it. */
#include "all_kinds.h"

#include "stamp.h"
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

void work(uint64_t key) {
	static const size_t sizes[] = { 16, 100, 1000, 5000, 30000, 70 * KIB, 400 * KIB, 2 * MIB };
	struct {
		char *address;
		size_t size;
	} blocks[64];

	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		size_t size = blocks[i].size = sizes[i % COUNT_OF(sizes)] + i;
		char *block = i % 3 == 0 ? malloc(size) : i % 3 == 1 ? calloc(1, size) : aligned_alloc(256, size);
		CHILD_CHECK(block);
		CHILD_CHECK(i % 3 != 1 || holds_only(block, size, 0));
		stamp_block(block, size, key);
		blocks[i].address = block;
	}
	for (int half = 0; half < 2; half++) {
		for (size_t i = (size_t)half; i < COUNT_OF(blocks); i += 2) {
			CHILD_CHECK(stamp_intact(blocks[i].address, blocks[i].size, key));
			char *moved = realloc(blocks[i].address, blocks[i].size / 3 + 1);
			CHILD_CHECK(moved);
			CHILD_CHECK(stamp_holds(moved, blocks[i].size / 3 + 1,
			                        stamp_key(blocks[i].address, blocks[i].size, key)));
			free(moved);
		}
		malloc_trim(0);
	}
}

void *work_in_thread(void *key) {
	for (int i = 0; i < 10; i++)
		work((uintptr_t)key);
	return NULL;
}

void work_in_two_threads(void) {
	pthread_t thread;

	CHILD_CHECK(pthread_create(&thread, NULL, work_in_thread, (void *)1) == 0);
	work_in_thread((void *)2);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}
