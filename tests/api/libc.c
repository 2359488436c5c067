/* What the libc builds on malloc: obstacks, streams in memory, and forks while other threads hold the locks of streams. */
#include "stamp.h"
#include "support.h"

#include <malloc.h>
#include <obstack.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free

static void obstacks(void **state) {
	(void)state;
	struct obstack stack;
	char *objects[200];

	for (size_t align = 16; align <= 4096; align *= 16) {
		obstack_init(&stack);
		obstack_alignment_mask(&stack) = (int)align - 1;
		obstack_alloc(&stack, 0); /* counts from the next object on */
		for (size_t i = 0; i < COUNT_OF(objects); i++) {
			/* Some grow from chunk to chunk. */
			for (size_t part = 0; part < i; part++)
				obstack_grow(&stack, "0123456789abcdef", 16);
			obstack_blank(&stack, 100);
			objects[i] = obstack_finish(&stack);
			assert_int_equal((uintptr_t)objects[i] % align, 0);
			stamp_block(objects[i], 16 * i + 100, i);
		}
		for (size_t i = 0; i < COUNT_OF(objects); i++)
			assert_true(stamp_intact(objects[i], 16 * i + 100, i));
		obstack_free(&stack, objects[COUNT_OF(objects) / 2]);
		for (size_t i = 0; i < COUNT_OF(objects) / 2; i++)
			assert_true(stamp_intact(objects[i], 16 * i + 100, i));
		obstack_free(&stack, NULL);
	}
}

static atomic_bool stopped;

static void write_stream(void) {
	char *text = NULL;
	size_t length = 0;
	FILE *stream = open_memstream(&text, &length);

	CHILD_CHECK(stream);
	for (int i = 0; i < 300; i++)
		CHILD_CHECK(fprintf(stream, "%100d", i) == 100);
	CHILD_CHECK(malloc_info(0, stream) == 0);
	CHILD_CHECK(fclose(stream) == 0);
	CHILD_CHECK(length > 30000 && strlen(text) == length);
	free(text);
}

static void *write_streams(void *unused) {
	while (!atomic_load(&stopped))
		write_stream();
	return unused;
}

/* fork takes the locks of the streams and those of malloc; a thread that has one may want the other. */
static void forks_beside_streams(void **state) {
	(void)state;
	pthread_t threads[3];

	for (size_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_streams, NULL), 0);
	for (int i = 0; i < 100; i++) {
		int status;
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			write_stream();
			fflush(NULL);
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
	atomic_store(&stopped, true);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static struct {
	void *blocks[200];
	bool wanted;
} of_handler;

/* Of many sizes, so that most need the allocator's locks. */
static void allocate_many(void) {
	for (size_t i = 0; i < COUNT_OF(of_handler.blocks); i++) {
		free(of_handler.blocks[i]);
		of_handler.blocks[i] = malloc(100 + i * 150);
		CHILD_CHECK(of_handler.blocks[i]);
	}
}

/* The last to run before a fork, while Arenal holds its locks for the child: the first one to be registered. */
static void before_fork(void) {
	if (of_handler.wanted)
		allocate_many();
}

static void *allocate_in_thread(void *unused) {
	free(malloc(10));
	return unused;
}

static void *fork_once(void *unused) {
	int status;

	of_handler.wanted = true;
	pid_t child = fork();
	assert_true(child >= 0);
	alarm(10); /* instead of a wait for ever */
	if (child == 0) {
		allocate_many();
		_exit(0);
	}
	allocate_many();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	alarm(0);
	of_handler.wanted = false;
	return unused;
}

static void run_in_thread(void *(*body)(void *)) {
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, body, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Locks that a handler of fork found open, or held by its own thread, are open afterwards, on both sides: also when it is
 * the first to allocate in its thread. */
static void fork_handlers_allocate(void **state) {
	(void)state;
	run_in_thread(allocate_in_thread);
	fork_once(NULL);
	run_in_thread(fork_once);
}

int main(void) {
	/* Before there is a second thread, which is when Arenal registers its own. */
	if (pthread_atfork(before_fork, NULL, NULL) != 0)
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(obstacks),
		cmocka_unit_test(fork_handlers_allocate),
		cmocka_unit_test(forks_beside_streams),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
