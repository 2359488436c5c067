/* Start-up and exit: the moments that concern every layer. */
#include "api/malloc.h"
#include "api/fork.h"
#include "arena/pressure.h"
#include "base/conf.h"
#include "base/cpus.h"
#include "base/libc.h"
#include "base/print.h"
#include "cache/own_thread.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "observe/leaks.h"
#include "observe/profile.h"
#include "observe/profile_time.h"
#include "observe/stats.h"
#include "observe/trace.h"
#include "observe/window.h"

_Atomic bool started;

/* ---- the front ---- */

const struct front plain_front = {
	plain_allocate, plain_allocate_zeroed, plain_allocate_aligned,
	plain_resize,   plain_release,         plain_usable_size,
};
const struct front *_Atomic front;

static bool conf_loaded, chosen;

static void choose_front(void) {
	chosen = conf_loaded;
	const bool trace = conf_files.trace_file[0] != 0;
	if (conf.harden) {
		if (trace) print_fd(2, "arenal: calls are not recorded: there is no trace in hardened mode\n");
		front_serve(&front, harden_start(&plain_front));
	} else if (trace) {
		front_serve(&front, trace_start(&plain_front));
	}
}

/* ---- start and exit ---- */

static struct lock starting; /* RANK_INIT */

void start_lock(void) { lock_take(&starting, RANK_INIT); }
void start_unlock(void) { lock_drop(&starting, RANK_INIT); }

bool front_put_before(const struct front *other, const struct front **behind) {
	ensure_started();
	if (front_instead() == other) return true; /* as most often: no lock for a fork to wait for */
	start_lock();
	if (!conf_loaded) conf_loaded = conf_load();
	if (conf_loaded && !chosen) choose_front();
	if (conf_loaded && front_instead() != other) {
		*behind = front_instead() != NULL ? front_instead() : &plain_front;
		front_serve(&front, other);
	}
	start_unlock();
	if (conf_loaded && harden_is_on) tcache_started();
	return conf_loaded;
}

static void be_in_sandbox(void) {
	os_expect_sandbox();
	os_enter_sandbox();
}

void start(void) {
	libc_find();
	start_lock();
	if (!atomic_load_explicit(&started, memory_order_relaxed)) {
		os_init();
		cpus_remember();
		conf_loaded = conf_load();
		if (conf.sandbox == 1) be_in_sandbox();
		mark_draw();
		page_map_init();
		arena_init();
		tcache_init();
		choose_front();
		atomic_store_explicit(&started, true, memory_order_release);
	}
	start_unlock();
	if (harden_is_on) tcache_started();
	if (conf_loaded) pressure_start();
	fork_expect_early();
}

/* A program that has allocated before libc knew the environment gets its tunables now. One that has not
 * allocated yet perhaps never does, and nothing is started for it, unless it was told to say something. */
__attribute__((constructor)) static void late_start(void) {
	fork_expect();
	cpus_remember(); /* before the program can pin this thread */
	if (conf_is_given()) ensure_started();
	if (started && !conf_loaded) conf_loaded = conf_load();
	if (started && conf.sandbox == 1) be_in_sandbox();
	if (started) pressure_start();
	guard_start();
	if (started && front_instead() == NULL) {
		choose_front();
		if (harden_is_on) tcache_started();
	}
	trace_late_start(fork_next_register != NULL); /* in the shared library, which stays */
	trace_offer(&plain_front, &front);
	profile_init();
	leaks_start(fork_next_register != NULL);
	own_threads_in_new_process();
	window_start();
	profile_time_start();
}

__attribute__((destructor)) static void at_exit(void) {
	if (conf.stats) stats_print(2);
	profile_at_exit();
}
