#include "observe/profile_time.h"

#include "base/conf.h"
#include "base/os.h"
#include "base/print.h"
#include "base/process.h"
#include "cache/hooks.h"
#include "cache/own_thread.h"
#include "cache/tcache.h"
#include "observe/profile.h"
#include "observe/window.h"

/* Less in use than this is no peak. */
#define PEAK_LEAST (1 * MIB)

/* Of the time, so much is spent with writing at most: 1/10, but for what somebody asks for. */
#define PAUSE 9

/* Milliseconds that it sleeps when nothing is expected. */
#define LONG (3600 * 1000)

static struct own_thread thread;
static _Atomic bool ready;   /* libc is ready for threads */
static _Atomic bool refused; /* by the system: in this process and its children */

/* Not 0: there is something to look at. A futex */
static _Atomic uint32_t called;

/* How often somebody has asked, and up to which time that was done. The second is a futex */
static _Atomic uint32_t asked, answered;

/* At the last time that it was written. The thread's own */
static struct {
	uint64_t total, peak; /* bytes */
	uint64_t milliseconds;
} last;

static bool is_asked_for(void) {
	return conf.profile_seconds > 0 || conf.profile_bytes > 0 || conf.profile_growth > 0 ||
	       conf.profile_signal > 0 || conf.profile_term > 0;
}

bool profile_time_is_wanted(void) { return conf_files.profile_file[0] != 0 && is_asked_for(); }

static void call(void) {
	atomic_store(&called, 1);
	os_futex_wake((uint32_t *)&called);
}

/* ---- the thread ---- */

static uint64_t next_time(void) {
	const uint64_t seconds = (uint64_t)conf.profile_seconds;
	return seconds > 0 ? last.milliseconds + 1000 * seconds : UINT64_MAX;
}

static struct profile_sums next_sums(void) {
	const uint64_t bytes = (uint64_t)conf.profile_bytes, growth = (uint64_t)conf.profile_growth;
	return (struct profile_sums){
		.live = growth > 0 ? max_size(last.peak + last.peak / 100 * growth, PEAK_LEAST) : UINT64_MAX,
		.total = bytes > 0 ? last.total + bytes : UINT64_MAX,
	};
}

/* Writes, if it is time, and says when it may be again: milliseconds. */
static uint64_t write_if_due(uint64_t not_before) {
	const uint64_t now = os_milliseconds();
	const uint32_t wanted = atomic_load(&asked);
	const struct profile_sums sums = profile_sums();
	if (sums.total < last.total) last.total = last.peak = 0; /* the profile was started again */
	const struct profile_sums next = next_sums();
	const bool due =
	    now >= next_time() || (now >= not_before && (sums.live >= next.live || sums.total >= next.total));
	if (!due && wanted == atomic_load(&answered)) return not_before;
	if (profile_mean() != 0) profile_file_write_next();
	last.total = sums.total;
	last.peak = max_size(last.peak, sums.live);
	last.milliseconds = now;
	atomic_store(&answered, wanted);
	os_futex_wake_all((uint32_t *)&answered);
	const uint64_t after = os_milliseconds();
	return after + PAUSE * (after - now);
}

/* Until there is something to do. */
static void sleep_until_due(uint64_t not_before) {
	const uint64_t now = os_milliseconds(), time = next_time();
	uint64_t until = now + LONG;
	const struct profile_sums next = next_sums(), sums = profile_sums();
	if (time < until) until = time;
	if (sums.live < next.live && sums.total < next.total)
		profile_expect(next);
	else if (not_before < until)
		until = not_before;
	if (until > now) os_futex_wait_for((uint32_t *)&called, 0, until - now);
	atomic_store(&called, 0);
}

static void write_in_time(void) {
	uint64_t not_before = 0;
	if (!os_own_descriptors()) {
		atomic_store(&refused, true);
		print_fd(2, "arenal: no heap profiles while the process runs: they need Linux 5.9\n");
		return;
	}
	last.milliseconds = os_milliseconds();
	while (!own_thread_shall_end(&thread) && profile_time_is_wanted()) {
		not_before = write_if_due(not_before);
		sleep_until_due(not_before);
	}
	profile_expect((struct profile_sums){ UINT64_MAX, UINT64_MAX });
	/* Nobody is to wait for it any more. */
	atomic_store(&answered, atomic_load(&asked));
	os_futex_wake_all((uint32_t *)&answered);
}

static void await_slow_moment(void) { atomic_store(&cache_hooks.slow_moment, window_look); }

static void thread_ended(void) {
	if (profile_time_is_wanted()) await_slow_moment();
}

static struct own_thread thread = {
	.name = "arenal-profile", .body = write_in_time, .wake = call, .ended = thread_ended
};

static bool is_there(void) { return atomic_load(&thread.state) == OWN_PRESENT; }

/* ---- its start and end ---- */

/* By a tunable that was set later, too. */
static void look_for_name(void) {
	static _Atomic bool said;
	if (conf_files.profile_file[0] != 0 || !is_asked_for() || atomic_exchange(&said, true)) return;
	print_fd(2, "arenal: no heap profiles while the process runs: ARENAL_PROFILE_FILE names no file\n");
}

void profile_time_look(void) {
	if (atomic_load(&ready)) look_for_name();
	if (!atomic_load(&ready) || atomic_load(&refused)) return;
	if (is_there()) {
		call();
	} else if (profile_time_is_wanted()) {
		if (!own_threads_may_start() || !tcache_exit_is_noticed()) {
			await_slow_moment();
			return;
		}
		process_watch();
		const enum own_start done = own_thread_start(&thread);
		if (done == OWN_REFUSED) {
			atomic_store(&refused, true);
			print_fd(2, "arenal: no heap profiles while the process runs: it can have no thread for them\n");
		}
		if (done == OWN_NOT_NOW) await_slow_moment();
	}
}

void profile_time_reached(void) {
	if (is_there())
		call();
	else if (profile_time_is_wanted())
		await_slow_moment();
}

void profile_time_start(void) {
	atomic_store(&ready, true);
	if (profile_time_is_wanted()) profile_signal_start();
	if (is_asked_for()) profile_time_look();
}

void profile_time_end(void) { own_thread_end(&thread); }

void profile_time_after_fork(void) {
	if (profile_time_is_wanted()) await_slow_moment();
}

/* ---- for handlers of signals ---- */

uint32_t profile_time_ask(void) {
	const uint32_t number = atomic_fetch_add(&asked, 1) + 1;
	call();
	return number;
}

void profile_time_await(uint32_t number, uint64_t milliseconds) {
	const uint64_t until = os_milliseconds() + milliseconds;
	while (is_there() && own_threads_know_process()) {
		const uint32_t done = atomic_load(&answered);
		const uint64_t now = os_milliseconds();
		if ((int32_t)(done - number) >= 0 || now >= until) return;
		os_futex_wait_for((uint32_t *)&answered, done, until - now);
	}
}
