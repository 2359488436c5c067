/* small_program MIB: an ordinary small program, for tests that start one under limits. It holds MIB megabytes in blocks
 * of several sizes, in the main thread and in a second one, and exits with 0 when all went well. */
#include "stamp.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const size_t sizes[] = { 24, 100, 600, 3000, 20000, 100000 };

/* Returns whether it got its megabytes, and found them intact. */
static bool work(size_t bytes) {
	static const size_t slots = 200000;
	struct {
		void *block;
		size_t size;
	} *held = calloc(slots, sizeof *held);
	bool good = held != NULL;
	size_t count = 0;

	for (size_t total = 0; good && total < bytes && count < slots; count++) {
		held[count].size = sizes[count % (sizeof sizes / sizeof sizes[0])];
		held[count].block = malloc(held[count].size);
		good = held[count].block != NULL;
		if (good)
			stamp_block(held[count].block, held[count].size, count);
		total += held[count].size;
	}
	for (size_t i = 0; good && i < count; i++) {
		good = stamp_intact(held[i].block, held[i].size, i);
		free(held[i].block);
	}
	free(held);
	return good;
}

static void *work_in_thread(void *bytes) {
	return work(*(size_t *)bytes) ? bytes : NULL;
}

int main(int argc, char **argv) {
	size_t bytes = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : 1 << 20;
	pthread_attr_t attributes;
	pthread_t thread;
	void *result = NULL;

	if (!work(bytes)) {
		fprintf(stderr, "the main thread failed\n");
		return 1;
	}
	/* The stack counts against the limits too. */
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 256 * 1024);
	if (pthread_create(&thread, &attributes, work_in_thread, &bytes) != 0) {
		fprintf(stderr, "no thread\n");
		return 1;
	}
	pthread_join(thread, &result);
	if (!result) {
		fprintf(stderr, "the second thread failed\n");
		return 1;
	}
	return 0;
}
