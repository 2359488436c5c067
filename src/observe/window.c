/* The window's thread: when there is one, and how it waits. What it answers is in window_answer.c. */
#include "observe/window.h"

#include "arena/arena.h"
#include "base/conf.h"
#include "base/os.h"
#include "base/process.h"
#include "base/sandbox.h"
#include "cache/hooks.h"
#include "cache/own_thread.h"
#include "cache/purger.h"
#include "cache/tcache.h"
#include "observe/door.h"
#include "observe/profile.h"
#include "observe/profile_time.h"
#include "observe/trace.h"

enum state {
	CLOSED,  /* opened as soon as the tunable says so */
	DUE,     /* there was one: the next is opened at the next slow moment */
	OPEN,    /* a thread was started, or is about to be */
	FAILED,  /* no thread, or no page: tried again in children only */
	REFUSED, /* the kernel lets us have none: never tried again */
};
static _Atomic uint32_t state;
static _Atomic bool ready; /* libc is ready for threads */
static _Atomic(struct window_page *) shared;

static struct own_thread thread;

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

static uint32_t last; /* request that was answered */

/* Nobody has read so far: is it worth to go on? Not if there is another request, for it comes from somebody
 * else then. */
static bool wait_for_reader(int pipe) {
	struct window_page *page = atomic_load(&shared);
	for (unsigned waited = 0; waited < WINDOW_PATIENCE && !own_thread_shall_end(&thread); waited += 20) {
		if (os_wait_to_write(pipe, 20)) return true;
		if (atomic_load(&page->request.number) != last) return false;
	}
	return false;
}

/* It is written as it is read, through the kernel's 64 KiB: a file that has all of it would count as the
 * process's memory. The reader may open the pipe until the next request. */
static void send_dump(int dump[2]) {
	profile_dump_to_pipe(dump[1], wait_for_reader);
	os_close(dump[1]);
	dump[1] = -1;
}

static void serve(struct window_page *page) {
	last = 0;
	int dump[2] = { -1, -1 };
	while (!own_thread_shall_end(&thread)) {
		struct window_request request;
		const uint32_t number = atomic_load_explicit(&page->request.number, memory_order_acquire);
		if (number == 0 || number == last) {
			os_futex_wait_shared((uint32_t *)&page->request.number, number, trace_time_left());
			trace_close_in_time();
		} else if (take_request(page, number, &request)) {
			if (dump[0] >= 0) os_close(dump[0]);
			dump[0] = -1;
			window_describe(page);
			window_answer(page, &request, dump);
			atomic_store_explicit(&page->answer.number, number, memory_order_release);
			os_futex_wake_shared((uint32_t *)&page->answer.number);
			last = number;
			if (dump[1] >= 0) send_dump(dump);
		}
	}
}

/* It never starts another thread: that one would have this one's descriptors. */
static void window_thread(void) {
	if (!os_own_descriptors()) {
		change(OPEN, REFUSED);
		return;
	}
	struct window_page *page = os_map_file("arenal-window", WINDOW_SIZE);
	if (page == NULL) {
		change(OPEN, FAILED);
		return;
	}
	window_describe(page);
	atomic_store(&shared, page);
	serve(page);
	atomic_store(&shared, NULL);
	os_unmap(page, WINDOW_SIZE);
	/* And with the thread goes its table of descriptors. */
}

static void await_slow_moment(void) { atomic_store(&cache_hooks.slow_moment, window_look); }

/* The child has no such thread, nor the page. Nothing is started in here. */
void window_after_fork(void) {
	const uint32_t before = atomic_load(&state);
	door_after_fork();
	atomic_store(&shared, NULL);
	profile_time_after_fork();
	if (before == CLOSED || before == REFUSED) return;
	atomic_store(&state, DUE);
	await_slow_moment();
}

/* Servers that fork their workers: the first process may have no other slow moment (nginx's master). */
void window_after_fork_in_parent(void) {
	if (atomic_load(&state) == DUE) window_look();
}

static void open_window(uint32_t from) {
	if (!change(from, OPEN)) return;
	process_watch();
	const enum own_start done = own_thread_start(&thread);
	if (done == OWN_REFUSED) change(OPEN, FAILED);
	if (done == OWN_NOT_NOW && change(OPEN, from)) await_slow_moment();
}

/* The tunable -1 follows the background thread: a process that has that one has threads anyway. */
void window_look(void) {
	const uint32_t now = atomic_load(&state);
	const int64_t wanted = conf.window;
	atomic_store(&cache_hooks.slow_moment, NULL);
	profile_time_look();
	if (now > DUE || !atomic_load(&ready)) return;
	const bool due =
	    wanted == 1 || (wanted == -1 && (now == DUE || atomic_load(&purger_state) != PURGER_OFF));
	if (due && own_threads_may_start() && tcache_exit_is_noticed())
		open_window(now);
	else if (due)
		await_slow_moment(); /* later, or of another thread */
}

uint32_t window_ask_to_open(void) {
	if (conf.window == 0) return DOOR_NEVER;
	if (sandbox_is_on()) return DOOR_LOCKED_IN;
	if (!own_threads_know_process()) return DOOR_LATER;
	if (!change(CLOSED, DUE)) change(FAILED, DUE);
	/* The heap is started by the first block that is taken, and by nothing else. */
	if (atomic_load(&arena_count) == 0) {
		await_slow_moment();
		return DOOR_LATER;
	}
	window_look();
	const uint32_t now = atomic_load(&state);
	return now == OPEN ? DOOR_OPEN : now == DUE ? DOOR_LATER : DOOR_REFUSED;
}

/* It sleeps until somebody asks. */
static void wake_thread(void) {
	struct window_page *page = atomic_load(&shared);
	if (page != NULL) os_futex_wake_shared((uint32_t *)&page->request.number);
}

static void thread_ended(void) {
	if (change(OPEN, DUE)) await_slow_moment();
}

static struct own_thread thread = {
	.name = "arenal-window", .body = window_thread, .wake = wake_thread, .ended = thread_ended
};

/* The last thread with a cache ends. Perhaps it is the last of all, which runs the handlers of exit: that
 * must not be the window's thread, which has none of the program's descriptors. */
static void close_window(void) {
	own_thread_end(&thread);
	profile_time_end();
}

void window_start(void) {
	atomic_store(&ready, true);
	atomic_store(&cache_hooks.last_exit, close_window);
	atomic_store(&cache_hooks.purger_started, window_look);
	atomic_store(&cache_hooks.new_process, window_after_fork);
	door_start();
	if (conf.window == 1 || atomic_load(&state) == DUE) window_look();
}
