#include "cache/purger.h"

#include "arena/arena.h"
#include "arena/depot.h"
#include "arena/holes.h"
#include "arena/huge.h"
#include "arena/policy.h"
#include "arena/pressure.h"
#include "arena/shelf.h"
#include "arena/wave.h"
#include "base/conf.h"
#include "base/gate.h"
#include "cache/growth.h"
#include "cache/hooks.h"
#include "cache/own_thread.h"
#include "cache/rest.h"
#include "cache/tcache.h"

#define NANOSECONDS 1000000 /* in a millisecond */

/* Milliseconds until the next attempt, when the thread could not be started. */
#define PATIENCE 10000

_Atomic uint32_t purger_state;

/* Milliseconds: the thread could not be started, and is not tried again until then. */
static _Atomic uint64_t not_before;

static struct own_thread thread;

/* Not 0: it is not to sleep on: the memory limits are to be looked at, or it shall end. */
static _Atomic uint32_t called;

static void set_off(void) {
	atomic_store(&pressure_ask, NULL);
	atomic_store(&purged_in_background, false);
	atomic_store(&purger_state, PURGER_OFF);
}

/* Wakes it, wherever it sleeps. When that does nothing, somebody else woke it, or it has ended in this
 * moment. */
static void call(void) {
	uint32_t asleep = PURGER_ASLEEP;
	atomic_store(&called, 1);
	if (atomic_compare_exchange_strong(&purger_state, &asleep, PURGER_AWAKE))
		os_futex_wake((uint32_t *)&purger_state);
	os_futex_wake((uint32_t *)&called);
}

/* Sleeps until it is time to look at everything. */
static void wait_for_tick(uint64_t milliseconds) {
	const uint64_t until = os_milliseconds() + milliseconds;
	for (uint64_t now; (now = os_milliseconds()) < until && !own_thread_shall_end(&thread);) {
		os_futex_wait_for((uint32_t *)&called, 0, until - now);
		const bool asked = atomic_exchange(&called, 0) && atomic_load(&pressure_ask) != NULL;
		if (asked && !own_thread_shall_end(&thread)) pressure_measure(true);
	}
}

/* One look at everything; `rests`: the process did since the last one. True when there is something to look
 * at later. */
static bool purge_idle(bool rests) {
	if (atomic_load_explicit(&pressure_ask, memory_order_relaxed) != NULL) pressure_measure(false);
	const bool soon = rests || pressure_is_on();
	if (rests) tcache_drain(IDLE_LOOKS); /* what caches hold now they have held all the time */
	bool holes_later, caches_later = soon ? tcache_drain(1) : tcache_drain_some(IDLE_LOOKS);
	const unsigned looks = rests ? 0 : soon ? 1 : IDLE_LOOKS;
	caches_later |= shelves_drain(looks);
	caches_later |= depots_drain(looks);
	holes_next_tick();
	holes_purge_touched(soon ? 0 : IDLE_TICKS, &holes_later);
	size_t slices = heap_decay(rests), mappings = huge_decay();
	return caches_later || holes_later || (conf.decay > 0 && slices + mappings > 0);
}

/* Sleeps until somebody frees something. False when that took so long that the thread may as well end: the
 * state is PURGER_OFF then, and whoever pokes from now on has the next one started. */
static bool sleep_until_poked(void) {
	atomic_store(&purger_state, PURGER_ASLEEP);
	/* What was freed between the last look and now poked nobody. */
	if (purge_idle(false) || own_thread_shall_end(&thread) || atomic_load(&called)) {
		atomic_store(&purger_state, PURGER_AWAKE);
		return true;
	}
	os_futex_wait_for((uint32_t *)&purger_state, PURGER_ASLEEP, PURGER_ENOUGH);
	if (atomic_load(&purger_state) == PURGER_AWAKE) return true;
	void (*ask)(void) = atomic_exchange(&pressure_ask, NULL);
	atomic_store(&purged_in_background, false);
	uint32_t state = PURGER_ASLEEP;
	if (atomic_compare_exchange_strong(&purger_state, &state, PURGER_OFF)) return false;
	atomic_store(&purged_in_background, true); /* poked at the last moment */
	atomic_store(&pressure_ask, ask);
	return true;
}

/* What waits for other threads goes back: nobody will see to it any more. Inside of the gate: a fork that is
 * under way is waited for, or what lies on shelves and in depots would stay there. */
static void end_waiting(void) {
	tcache_end_parked();
	gate_enter();
	shelves_drain(0);
	depots_drain(0);
	gate_leave();
}

/* Does the process rest since the last look? The kernel adds the times of all threads up, which takes it 1 to
 * 2 ms for ten thousand: where there are many, it is not asked more often than is worth it. */
static bool process_rests(struct rest *rest, uint64_t *ask_from) {
	const uint64_t begin = os_nanoseconds(), interval = decay_interval() * NANOSECONDS;
	if (begin < *ask_from && tcache_count() > QUIET_FROM) return false;
	const uint64_t cpu = os_processor_time_of_others(), now = os_nanoseconds();
	*ask_from = begin + min_size((now - begin) * REST_ASK_SHARE, REST_ASK_INTERVALS * interval);
	return rest_look(rest, now, cpu, interval);
}

/* With a table of descriptors of its own, in which it may open files: nobody sees them in the program's. It
 * starts no other thread, which would have that table, and must not run the handlers of exit, which want
 * the program's: see purger_end. */
static void purge_in_background(void) {
	if (tcache_has_exit() && os_own_descriptors()) atomic_store(&pressure_ask, call);
	struct rest rest = { .cpu = os_processor_time_of_others() };
	uint64_t ask_from = 0; /* nanoseconds */
	while (conf.background && conf.decay > 0) {
		wait_for_tick(pressure_is_on() ? min_size(decay_interval(), PURGER_URGENT) : decay_interval());
		/* The process must not live on for our sake. */
		if (own_thread_shall_end(&thread) || (tcache_count() == 0 && os_is_last_thread())) break;
		const bool rests = process_rests(&rest, &ask_from);
		if (purge_idle(rests) || tcache_count() == 0) continue;
		if (tcache_count() <= 1) break;
		if (!sleep_until_poked()) {
			end_waiting();
			return;
		}
	}
	set_off();
	end_waiting();                                                /* nothing waits after that */
	if (!own_thread_shall_end(&thread)) tcache_drain(IDLE_LOOKS); /* nobody is hot any more */
}

static struct own_thread thread = { .name = "arenal", .body = purge_in_background, .wake = call };

static void start_thread(void) {
	uint32_t off = PURGER_OFF;
	/* Starting a thread allocates, and so comes here again: by then, it is awake. */
	if (!atomic_compare_exchange_strong(&purger_state, &off, PURGER_AWAKE)) return;
	process_watch();
	atomic_store(&purged_in_background, true);
	const enum own_start done = own_thread_start(&thread);
	if (done == OWN_STARTED) {
		cache_hook_call(&cache_hooks.purger_started);
	} else {
		if (done == OWN_REFUSED) atomic_store(&not_before, os_milliseconds() + PATIENCE);
		set_off();
		end_waiting(); /* what others left there meanwhile */
	}
}

void purger_end(void) { own_thread_end(&thread); }

void purger_look_at_process(void) {
	if (likely(!process_may_be_new()) || !process_is_new()) return;
	own_threads_in_new_process();
	set_off();
	tcache_in_new_process();
	cache_hook_call(&cache_hooks.new_process);
}

/* Where a thread sees to them in the background, what was due before it came is its, too. */
static COLD void purge_holes_due(void) {
	if (atomic_load(&purger_state) == PURGER_OFF)
		holes_purge_due();
	else
		atomic_store_explicit(&holes_are_due, false, memory_order_relaxed);
}

/* Does a piece of what those who free are to do, and wakes the thread if it sleeps. Returns whether it should
 * be started. */
static bool wake_or_miss(void) {
	purger_look_at_process();
	tcache_count_own();
	tcache_adopt_in_time();
	if (unlikely(atomic_load_explicit(&heap_purge_is_due, memory_order_relaxed))) heap_purge_due();
	if (unlikely(atomic_load_explicit(&holes_are_due, memory_order_relaxed))) purge_holes_due();
	uint32_t state = atomic_load(&purger_state);
	/* When this fails, somebody else woke it, or it has ended in this moment. */
	if (state == PURGER_ASLEEP && atomic_compare_exchange_strong(&purger_state, &state, PURGER_AWAKE))
		os_futex_wake((uint32_t *)&purger_state);
	return state == PURGER_OFF && tcache_count() > 1 && conf.background && conf.decay > 0 &&
	       wave_is_large() && os_milliseconds() >= atomic_load(&not_before) && own_threads_may_start();
}

static bool somebody_knocks(void) {
	return unlikely(atomic_load_explicit(&cache_hooks.knock, memory_order_relaxed) != 0);
}

void purger_start(void) {
	if (wake_or_miss()) start_thread();
	if (somebody_knocks()) cache_hook_call(&cache_hooks.knocked);
	cache_hook_call(&cache_hooks.slow_moment);
}

/* Threads may be started here. */
static void in_slow_moment(void) {
	atomic_store(&cache_hooks.slow_moment, NULL);
	growth_look();
	purger_start();
	cache_hook_call(&cache_hooks.purger_started); /* who waited for a slow moment before says so again */
}

void purger_wake(void) {
	if (wake_or_miss() || somebody_knocks()) atomic_store(&cache_hooks.slow_moment, in_slow_moment);
}

/* Where nobody frees, nobody pokes: a program that only takes more and more, a leak, is to have the thread,
 * too, and what comes with it. And before it takes more, it gives back what it does not use. */
static void rise(void) {
	void (*nobody)(void) = NULL;
	if (somebody_knocks() ||
	    (wave_is_large() && atomic_load_explicit(&purger_state, memory_order_relaxed) == PURGER_OFF &&
	     tcache_count() > 1))
		atomic_store(&cache_hooks.slow_moment, in_slow_moment);
	else if (growth_is_due()) /* who waits for that moment already has it first: growth comes again */
		atomic_compare_exchange_strong(&cache_hooks.slow_moment, &nobody, in_slow_moment);
}

void purger_expect(void) { atomic_store(&wave_rises, rise); }

void purger_after_fork(void) { set_off(); }
