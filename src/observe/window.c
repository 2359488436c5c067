/* The window's thread: when there is one, and how it waits. What it answers is in window_answer.c. */
#include "observe/window.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/conf.h"
#include "base/os.h"
#include "base/process.h"
#include "cache/own_thread.h"
#include "cache/purger.h"
#include "cache/tcache.h"

/* Nanoseconds between two attempts to wake the thread that shall end. */
#define IMPATIENCE 5000000

enum state {
	CLOSED,  /* opened as soon as the tunable says so */
	DUE,     /* there was one: the next is opened at the next slow moment */
	OPENING, /* a thread was started, or is about to be */
	OPEN,
	CLOSING, /* it shall end */
	ENDED,   /* it ended by itself, and was not joined */
	REFUSED, /* the system lets us have none: never tried again */
};
static _Atomic uint32_t state;
static _Atomic bool ready; /* libc is ready for threads */
static _Atomic(struct window_page *) shared;
static pthread_t thread; /* written by the one who opens; read when it cannot be at work: see close_window */
static int opened_in;    /* process ID: a child that libc knows nothing of (clone) has no such thread. Written likewise */

static bool change(uint32_t from, uint32_t to) { return atomic_compare_exchange_strong(&state, &from, to); }

/* Copies the request. False when there is none, or somebody writes to it. */
static bool take_request(struct window_page *page, uint32_t number, struct window_request *copy) {
	copy->kind = *(volatile uint32_t *)&page->request.kind;
	copy->value = *(volatile int64_t *)&page->request.value;
	for (size_t i = 0; i < sizeof copy->name; i++) copy->name[i] = ((volatile char *)page->request.name)[i];
	copy->name[sizeof copy->name - 1] = 0;
	/* Not a load: it could come before the reads above. */
	return atomic_compare_exchange_strong(&page->request.number, &(uint32_t){ number }, number);
}

static void serve(struct window_page *page) {
	uint32_t last = 0;
	int file = -1;
	while (atomic_load(&state) != CLOSING) {
		struct window_request request;
		const uint32_t number = atomic_load_explicit(&page->request.number, memory_order_acquire);
		if (number == 0 || number == last) {
			os_futex_wait_shared((uint32_t *)&page->request.number, number);
		} else if (take_request(page, number, &request)) {
			window_describe(page);
			window_answer(page, &request, &file);
			atomic_store_explicit(&page->answer.number, number, memory_order_release);
			os_futex_wake_shared((uint32_t *)&page->answer.number);
			last = number;
		}
	}
}

/* It never starts another thread: that one would have this one's descriptors. */
static void *window_thread(void *unused) {
	own_thread_name("arenal-window");
	if (!os_own_descriptors()) {
		if (change(OPENING, REFUSED)) pthread_detach(pthread_self());
		return unused;
	}
	struct window_page *page = os_map_file("arenal-window", WINDOW_SIZE);
	if (page == NULL) {
		change(OPENING, ENDED);
		return unused;
	}
	window_describe(page);
	atomic_store(&shared, page);
	if (change(OPENING, OPEN)) serve(page);
	atomic_store(&shared, NULL);
	os_unmap(page, WINDOW_SIZE);
	return unused; /* and with the thread goes its table of descriptors */
}

static void await_slow_moment(void) { atomic_store(&cache_hooks.slow_moment, window_look); }

/* The child has no such thread, nor the page. Nothing is started in here. */
void window_after_fork(void) {
	const uint32_t before = atomic_load(&state);
	atomic_store(&shared, NULL);
	if (before == CLOSED || before == REFUSED) return;
	atomic_store(&state, DUE);
	await_slow_moment();
}

/* Servers that fork their workers: the first process may have no other slow moment (nginx's master). */
void window_after_fork_in_parent(void) {
	if (atomic_load(&state) == DUE) window_look();
}

/* From a thread with a cache, so that close_window cannot be at work. */
static void open_window(uint32_t from) {
	if (!change(from, OPENING)) return;
	process_watch();
	opened_in = os_process_id();
	if (!own_thread_start(window_thread, &thread)) change(OPENING, REFUSED);
}

/* The tunable -1 follows the background thread: a process that has that one has threads anyway. */
void window_look(void) {
	const uint32_t now = atomic_load(&state);
	const int64_t wanted = conf.window;
	atomic_store(&cache_hooks.slow_moment, NULL);
	if (now > DUE || !atomic_load(&ready)) return;
	const bool due = wanted == 1 || (wanted == -1 && (now == DUE || atomic_load(&purger_state) != PURGER_OFF));
	if (due && tcache_exit_is_noticed())
		open_window(now);
	else if (due)
		await_slow_moment(); /* of another thread */
}

/* The last thread with a cache ends. Perhaps it is the last of all, which runs the handlers of exit: that must not be the
 * window's thread, which has none of the program's descriptors. */
static void close_window(void) {
	if (change(ENDED, CLOSING) || change(OPENING, CLOSING) || change(OPEN, CLOSING)) {
		if (opened_in == os_process_id()) {
			struct timespec until;
			do {
				/* It may be just about to fall asleep. */
				struct window_page *page = atomic_load(&shared);
				if (page != NULL) os_futex_wake_shared((uint32_t *)&page->request.number);
				const uint64_t date = os_date() + IMPATIENCE;
				until = (struct timespec){ (time_t)(date / 1000000000), (long)(date % 1000000000) };
			} while (pthread_timedjoin_np(thread, NULL, &until) != 0);
		}
		atomic_store(&shared, NULL);
		atomic_store(&state, DUE);
		await_slow_moment();
	}
}

void window_start(void) {
	atomic_store(&ready, true);
	atomic_store(&cache_hooks.last_exit, close_window);
	atomic_store(&cache_hooks.purger_started, window_look);
	atomic_store(&cache_hooks.new_process, window_after_fork);
	if (conf.window == 1) window_look();
}
