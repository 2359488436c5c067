/* A program that is recorded while it runs. Its threads are there before, with blocks in their caches. It says "ready" and does what
 * each line of its standard input says, and "done" behind that:
 *
 *   round    each thread frees a block and moves another one, both from the round before, and calls malloc and free 100 times
 *   race     the threads allocate, resize and free each other's blocks at random until the next line
 *   fork     a child does a round, and 300 more when the next line has come
 *   heap     makes a heap
 *   count    asks what the thread has allocated
 *
 * It exits with 3. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, SLOTS = 512, NOTHING = 0, ROUND, RACE, END };

/* Arenal's, when it is preloaded. */
struct arenal_heap *arenal_heap_create(const char *name) __attribute__((weak));
int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size) __attribute__((weak));

static pthread_barrier_t begin, over;
static _Atomic int what, stop;
static char *kept[THREADS], *moved[THREADS];
static char *_Atomic slots[SLOTS];

static char *touched(char *block) {
	if (block == NULL) abort();
	*block = 1;
	return block;
}

static void round_of(int k) {
	free(kept[k]);
	moved[k] = touched(realloc(moved[k], moved[k] == NULL ? 3000 : 9000));
	for (int i = 0; i < 100; i++) {
		char *block = touched(malloc((size_t)(1000 + k)));
		if (i < 99)
			free(block);
		else
			kept[k] = block;
	}
}

static char *at_random(unsigned *state) {
	const size_t size = ((size_t)16 << rand_r(state) % 12) + (size_t)rand_r(state) % 100;
	switch (rand_r(state) % 4) {
	case 0: return calloc(1, size);
	case 1: return aligned_alloc(64, (size + 63) & ~(size_t)63);
	default: return malloc(size);
	}
}

static void race_of(int k) {
	unsigned state = (unsigned)k + 1;
	while (!stop) {
		char *old = atomic_exchange(&slots[(unsigned)rand_r(&state) % SLOTS], touched(at_random(&state)));
		if (old != NULL && rand_r(&state) % 8 == 0) old = realloc(old, (size_t)rand_r(&state) % 3000 + 1);
		free(old);
	}
}

static void *work(void *number) {
	const int k = (int)(intptr_t)number;
	round_of(k);
	for (;;) {
		pthread_barrier_wait(&begin);
		if (what == ROUND) round_of(k);
		if (what == RACE) race_of(k);
		if (what == END) return NULL;
		pthread_barrier_wait(&over);
	}
}

static char line[64];

/* The next line, without a call of malloc; its first letter, or 0. */
static char next_line(void) {
	size_t length = 0;
	while (length < sizeof line - 1 && read(STDIN_FILENO, line + length, 1) == 1 && line[length] != '\n') length++;
	line[length] = 0;
	return line[0];
}

static void say(const char *word) {
	if (write(STDOUT_FILENO, word, strlen(word)) < 0) abort();
}

static void all(int thing) {
	what = thing;
	stop = 0;
	pthread_barrier_wait(&begin);
	if (thing == END) return;
	if (thing == RACE) {
		say("done\n");
		next_line();
		stop = 1;
	}
	pthread_barrier_wait(&over);
	say(thing == NOTHING ? "ready\n" : "done\n");
}

static void with_child(void) {
	int lines[2];
	if (pipe(lines) != 0) abort();
	const pid_t child = fork();
	if (child == 0) {
		char byte;
		round_of(0);
		say("done\n");
		close(lines[1]);
		if (read(lines[0], &byte, 1) != 0) abort();
		for (int i = 0; i < 300; i++) round_of(0);
		_exit(0);
	}
	next_line();
	close(lines[0]);
	close(lines[1]);
	waitpid(child, NULL, 0);
	say("done\n");
}

static void make_heap(void) {
	if (arenal_heap_create(NULL) == NULL) abort();
	say("done\n");
}

static void count(void) {
	uint64_t bytes;
	size_t size = sizeof bytes;
	if (mallctl("thread.allocated", &bytes, &size, NULL, 0) != 0) abort();
	say("done\n");
}

int main(void) {
	pthread_t threads[THREADS];
	pthread_barrier_init(&begin, NULL, THREADS + 1);
	pthread_barrier_init(&over, NULL, THREADS + 1);
	for (int k = 0; k < THREADS; k++)
		if (pthread_create(&threads[k], NULL, work, (void *)(intptr_t)k) != 0) abort();
	all(NOTHING);
	for (char first = 'x'; first != 0; first = next_line()) {
		if (strcmp(line, "round") == 0) all(ROUND);
		if (strcmp(line, "race") == 0) all(RACE);
		if (strcmp(line, "fork") == 0) with_child();
		if (strcmp(line, "heap") == 0) make_heap();
		if (strcmp(line, "count") == 0) count();
	}
	all(END);
	for (int k = 0; k < THREADS; k++) pthread_join(threads[k], NULL);
	return 3;
}
