/* Misuses of guarded blocks, each of which ends in a report. */
#include "guard.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

void overflow_write(void *unused) {
	(void)unused;
	write_here(guarded_block(96, AT_END) + 96);
}

void overflow_read_far(void *unused) {
	(void)unused;
	read_here(guarded_block(96, AT_END) + 96 + 1000);
}

void underflow_write(void *unused) {
	(void)unused;
	write_here(guarded_block(100, AT_START) - 1);
}

void read_after_free(void *unused) {
	(void)unused;
	char *block = unknown(guarded_block(100, ANY));

	free_here(block);
	read_here(block + 8);
}

void write_after_free(void *unused) {
	(void)unused;
	char *block = unknown(guarded_block(5000, ANY));

	free_here(block);
	/* It stays inaccessible while others come and go. */
	for (int i = 0; i < 25; i++)
		free(malloc(100));
	write_here(block + 4999);
}

static void *free_in_thread(void *block) {
	facts.freeing_thread = (int)syscall(SYS_gettid);
	tell_facts();
	free_here(block);
	return NULL;
}

void use_after_free_elsewhere(void *unused) {
	(void)unused;
	pthread_t thread;
	char *block = unknown(guarded_block(100, ANY));

	CHILD_CHECK(pthread_create(&thread, NULL, free_in_thread, block) == 0);
	pthread_join(thread, NULL);
	read_here(block);
}

void double_free(void *unused) {
	(void)unused;
	char *block = unknown(guarded_block(100, ANY));

	free_here(block);
	free_here(unknown(block));
}

void free_inside(void *unused) {
	(void)unused;
	free_here(guarded_block(100, ANY) + 16);
}

void off_by_one(void *unused) {
	(void)unused;
	char *block = guarded_block(100, AT_END);

	block[hidden(100)] = 0;
	free_here(block);
}

void off_by_many(void *unused) {
	(void)unused;
	char *block = guarded_block(100, AT_START);

	block[hidden(2000)] = 0;
	free_here(block);
}

void before_the_start(void *unused) {
	(void)unused;
	char *block = guarded_block(100, AT_END);

	block[-(ptrdiff_t)hidden(3)] = 0;
	free_here(block);
}

void realloc_after_free(void *unused) {
	(void)unused;
	char *block = unknown(guarded_block(100, ANY));

	free_here(block);
	realloc_here(block, 300);
}

void after_realloc(void *unused) {
	(void)unused;
	char *block = unknown(guarded_block(100, ANY));

	CHILD_CHECK(realloc_here(block, 300) != block);
	read_here(block + 50);
}
