/* profiled [last] [wait]: allocates from functions that a heap profile has to name: 300 blocks of 1,000 bytes that leak, 100 of 2,000 that
 * are freed, one of 5 MB that stays, from an inlined function, and a few that stay in a thread. With "wait", it says "ready" first,
 * and goes on when it reads a line; then it says "done", and does it again at the next one. With "last", another thread does it, when the first one has ended. Exits with 3. */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))

static void *volatile sink;

NOINLINE void *leak_here(size_t size) {
	void *block = malloc(size); /* the line that leaks */
	sink = block;
	return block;
}

NOINLINE void use_here(size_t size) {
	void *block = malloc(size);
	memset(block, 1, size);
	sink = block;
	free(block);
}

static inline __attribute__((always_inline)) void *inlined(size_t size) {
	void *block = calloc(1, size);
	sink = block;
	return block;
}

NOINLINE void keep_here(void) {
	sink = inlined(5000000);
	sink = NULL;
}

static void *in_thread(void *unused) {
	for (int i = 0; i < 10; i++) sink = leak_here(40);
	sink = NULL;
	return unused;
}

static void work(void) {
	pthread_t thread;
	for (int i = 0; i < 300; i++) leak_here(1000);
	for (int i = 0; i < 100; i++) use_here(2000);
	keep_here();
	if (pthread_create(&thread, NULL, in_thread, NULL) == 0) pthread_join(thread, NULL);
}

static int again_and_again(void) {
	char line[16];
	for (puts("ready"), fflush(stdout); fgets(line, sizeof line, stdin) != NULL; puts("done"), fflush(stdout)) work();
	return 3;
}

static pthread_t first;
static bool waits;

static void *last(void *unused) {
	pthread_join(first, unused);
	if (waits) exit(again_and_again());
	work();
	exit(3);
}

int main(int argc, char **argv) {
	pthread_t thread;
	waits = strcmp(argv[argc - 1], "wait") == 0;
	if (argc > 1 && strcmp(argv[1], "last") == 0) {
		first = pthread_self();
		if (pthread_create(&thread, NULL, last, NULL) == 0) pthread_exit(NULL);
	}
	if (waits) return again_and_again();
	work();
	return 3;
}
