/* A program that is linked with the library, as the tests of linking build it: statically, against the shared library,
 * and as a consumer of an installation. Checks that its malloc is Arenal's, also in threads and in a child. */
#include <arenal/arenal.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))

static void broken(int line, const char *condition) {
	fprintf(stderr, "linked_program.c:%d: %s does not hold\n", line, condition);
	exit(1);
}

static size_t allocated(void) {
	struct arenal_stats stats;

	CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats.allocated;
}

/* Blocks of many sizes, filled with their number. */
static void *allocate_some(void *unused) {
	enum { BLOCKS = 2000 };
	unsigned char *blocks[BLOCKS];

	(void)unused;
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = realloc(malloc(i / 2 + 1), i * 30 + 1);
		CHECK(blocks[i]);
		memset(blocks[i], (int)(i % 251), i * 30 + 1);
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		CHECK(blocks[i][0] == i % 251 && blocks[i][i * 30] == i % 251);
		free(blocks[i]);
	}
	return NULL;
}

static void run_threads(void) {
	pthread_t threads[4];

	for (size_t i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, allocate_some, NULL) == 0);
	for (size_t i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void use_heap(void) {
	arenal_heap *heap = arenal_heap_create("linked");
	struct arenal_heap_stats stats;

	CHECK(heap);
	for (size_t i = 0; i < 1000; i++) {
		char *block = arenal_heap_alloc(heap, i * 50);
		CHECK(block && arenal_heap_of(block) == heap);
		memset(block, 1, i * 50);
		CHECK(arenal_expand(block, i * 50) >= i * 50);
	}
	arenal_heap_reset(heap);
	CHECK(arenal_heap_stats_get(heap, &stats, sizeof stats) == 0 && stats.blocks == 0);
	arenal_heap_destroy(heap);
	CHECK(arenal_good_size(100) >= 100);
}

int main(void) {
	CHECK(strcmp(arenal_version(), ARENAL_VERSION_STRING) == 0);

	size_t before = allocated();
	char *volatile block = malloc(1 << 20); /* volatile: or compilers may do without the block */
	CHECK(block);
	CHECK(allocated() >= before + (1 << 20));
	char *volatile copy = strdup("what the libc allocates comes from the same malloc");
	CHECK(copy);
	free(copy);
	free(block);
	CHECK(allocated() <= before + 4096);

	allocate_some(NULL);
	run_threads();
	use_heap();
	int status;
	pid_t child = fork();
	if (child == 0) {
		run_threads();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == 0);
	printf("arenal %s\n", arenal_version());
	return 0;
}
