/* Handlers of fork of others, that wait for a thread which allocates, or call all of malloc's functions;
 * and the locks of streams, which libc's fork takes before its own malloc's. */
#include "forks.h"

#include "fork_handlers.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- handlers ---- */

/* A thread that allocates when somebody asks it to. */
static atomic_int asked, done;
static atomic_bool over;

static void *allocate_when_asked(void *unused) {
	while (!atomic_load(&over)) {
		if (atomic_load(&asked) == atomic_load(&done)) {
			usleep(50);
			continue;
		}
		allocate();
		atomic_fetch_add(&done, 1);
	}
	return unused;
}

/* As a handler does that waits for a lock, whose holder allocates before it drops it. */
static void wait_for_one_who_allocates(enum moment moment) {
	if (moment == AFTER_IN_CHILD) {
		allocate();
		return;
	}
	int turn = atomic_fetch_add(&asked, 1) + 1;
	while (atomic_load(&done) < turn)
		usleep(50);
}

static void call_everything(enum moment moment) {
	char *text = NULL;
	size_t length;

	(void)moment;
	allocate();
	malloc_trim(0);
	arenal_purge();
	struct mallinfo2 info = mallinfo2();
	CHILD_CHECK(info.uordblks > 0);
	FILE *file = open_memstream(&text, &length);
	CHILD_CHECK(malloc_info(0, file) == 0);
	fclose(file);
	CHILD_CHECK(length > 0);
	free(text);
}

static void *register_in_thread(void *unused) {
	register_fork_handlers();
	return unused;
}

/* Three sets of handlers: of before anything was allocated, of later, and of another thread. */
static void fork_with_handlers(void (*handler)(enum moment)) {
	pthread_t helper, registering;

	register_fork_handlers();
	CHILD_CHECK(pthread_create(&helper, NULL, allocate_when_asked, NULL) == 0);
	CHILD_CHECK(pthread_create(&registering, NULL, register_in_thread, NULL) == 0);
	CHILD_CHECK(pthread_join(registering, NULL) == 0);
	/* It has a cache, with something in it. */
	wait_for_one_who_allocates(AFTER);
	fork_handler = handler;
	for (int i = 0; i < 5; i++) {
		pid_t child = fork();
		if (child == 0) {
			fork_handler = NULL;
			allocate();
			allocate_in_another_thread();
			malloc_trim(0);
			_exit(0);
		}
		expect_success(child);
	}
	/* Nothing of another thread's stayed locked. */
	wait_for_one_who_allocates(AFTER);
	fork_handler = NULL;
	atomic_store(&over, true);
	CHILD_CHECK(pthread_join(helper, NULL) == 0);
}

void handlers_wait(void) {
	fork_with_handlers(wait_for_one_who_allocates);
}

void handlers_call(void) {
	fork_with_handlers(call_everything);
}

/* ---- streams: libc's fork takes the lock of all of them, before its own malloc's ---- */

static FILE *lines;
static atomic_bool streams_end;

/* Has a stream, and waits for malloc. */
static void *read_lines(void *unused) {
	while (!atomic_load(&streams_end)) {
		char *line = NULL;
		size_t size = 0;
		if (getline(&line, &size, lines) < 0)
			rewind(lines);
		free(line);
	}
	return unused;
}

/* Has the lock of all, and waits for a stream. */
static void *flush_all(void *unused) {
	while (!atomic_load(&streams_end)) {
		fflush(NULL);
		usleep(10);
	}
	return unused;
}

void streams(void) {
	pthread_t reader, flusher;

	lines = tmpfile();
	CHILD_CHECK(lines);
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 200000 + i * 1000; k++) putc('a', lines);
		putc('\n', lines);
	}
	rewind(lines);
	CHILD_CHECK(pthread_create(&reader, NULL, read_lines, NULL) == 0);
	CHILD_CHECK(pthread_create(&flusher, NULL, flush_all, NULL) == 0);
	for (int i = 0; i < 60; i++) {
		int status;
		const pid_t child = fork();
		if (child == 0) {
			fputs("", lines); /* the child may use streams, too */
			_exit(fflush(stdout));
		}
		CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	atomic_store(&streams_end, true);
	pthread_join(reader, NULL);
	pthread_join(flusher, NULL);
	CHILD_CHECK(fflush(NULL) == 0);
}
