#include "arena/pressure.h"

#include "arena/arena.h"
#include "arena/heap.h"
#include "arena/holes.h"
#include "arena/huge.h"
#include "base/cap.h"
#include "base/conf.h"
#include "base/gate.h"
#include "base/limits.h"
#include "base/os.h"

/* Since the kernel said what is left, the process's memory may have grown by this share more than ours. */
#define UNSEEN_SHARE 16

#define NO_LIMIT (INT64_MAX / 2)

struct pressure pressure = {
	.left = NO_LIMIT,
	.look_below = INT64_MIN,
	.look_from = UINT64_MAX,
	.keep = SIZE_MAX,
	.caches = PRESSURE_CACHES,
};

void (*_Atomic pressure_ask)(void);

static _Atomic int busy; /* somebody looks: the ID of his process, for children have not the threads of their
                            parents. Owner of what follows */
static struct {
	struct cgroup group;
	uint64_t search_from;          /* milliseconds */
	_Atomic uint64_t measure_from; /* milliseconds; also read by who may look */
	struct headroom told;          /* what the kernel said last, but for a limit by hand: of the group */
	int64_t resident;              /* and of the process; known where the limit is by hand */
	bool stalled;
	int64_t held;       /* what we held at that moment */
	int64_t left_then;  /* pressure.left after the last look */
	size_t limit;       /* bytes: what that is left of */
	uint64_t purged_at; /* milliseconds: when all was given back last */
	bool worth_it;      /* and that was a good part of what it takes to get here again */
	bool owed;          /* all is to be given back, by who measures; if nobody does any more, by who looks */
} state = { .told = { SIZE_MAX, SIZE_MAX }, .left_then = NO_LIMIT };

/* Bytes of free memory that the page heap and the cache of mappings have and need not walk for. */
static size_t kept_now(void) {
	struct heap_stats heap;
	struct huge_stats huge;
	heap_stats_get(&heap);
	huge_stats_get(&huge);
	return heap.dirty + heap.unsure + huge.cached;
}

/* Bytes that may be in memory for us. */
static int64_t held_now(void) {
	struct heap_stats heap;
	struct huge_stats huge;
	heap_stats_get(&heap);
	huge_stats_get(&huge);
	const size_t holes = min_size(atomic_load_explicit(&holes_bytes, memory_order_relaxed), heap.used);
	return (int64_t)(heap.used - holes + heap.dirty + heap.unsure + huge.bytes + huge.cached +
	                 atomic_load_explicit(&pressure.above, memory_order_relaxed));
}

/* Reads the kernel's files. `pending`: bytes that may have been handed out, but not written to yet: they are
 * held, and not in memory. */
static void measure(uint64_t now, int64_t pending) {
	state.held = held_now() - pending;
	if (conf.memory_limit > 0) {
		state.resident = (int64_t)limits_resident("");
		return;
	}
	if (now >= state.search_from) {
		limits_find_cgroup(&state.group, "");
		state.search_from = now + PRESSURE_SEARCH_AGAIN;
	}
	state.told = limits_headroom(&state.group);
}

/* What is left by now: by what the kernel said last, and what we have taken and given back since. What was
 * handed out and never written to is not in memory: when not much seems to be left, the most that the process
 * ever had there is a bound. */
static struct headroom estimate_to_limit(void) {
	const size_t limit = conf.memory_limit > 0   ? (size_t)conf.memory_limit
	                     : conf.memory_limit < 0 ? SIZE_MAX
	                                             : state.told.limit;
	if (limit >= (size_t)NO_LIMIT) return (struct headroom){ SIZE_MAX, SIZE_MAX };
	const int64_t room = conf.memory_limit > 0 ? (int64_t)limit - state.resident : (int64_t)state.told.left;
	int64_t grown = held_now() - state.held;
	if (room - grown < (int64_t)limit / PRESSURE_NEAR_SHARE) {
		const int64_t most = (int64_t)min_size(os_peak_resident(), (size_t)NO_LIMIT) - state.resident;
		if (grown > most) grown = most;
	}
	/* What grows with our memory and is not in it (page tables, the kernel's records, other libraries'
	 * mappings) is guessed. */
	const int64_t left = room - grown - (grown > 0 ? grown / UNSEEN_SHARE : 0);
	return (struct headroom){ limit, left > 0 ? (size_t)left : 0 };
}

/* Until the limit, or the cap, if that is nearer. */
static struct headroom estimate(void) {
	const struct headroom limit = estimate_to_limit(), cap = { (size_t)conf.cap, cap_left() };
	return cap.left < limit.left ? cap : limit;
}

/* Sets what all go by. */
static enum pressure_level settle(uint64_t now) {
	const struct headroom h = estimate();
	const bool limited = h.limit < (size_t)NO_LIMIT;
	const bool stalled = state.stalled && atomic_load_explicit(&pressure_ask, memory_order_relaxed) != NULL &&
	                     conf.memory_limit >= 0;
	const int64_t limit = limited ? (int64_t)h.limit : NO_LIMIT, left = limited ? (int64_t)h.left : NO_LIMIT;
	const bool near = left < limit / PRESSURE_NEAR_SHARE;
	size_t keep = SIZE_MAX;
	if (near) keep = max_size((size_t)left / PRESSURE_KEEP_SHARE, PRESSURE_KEEP_LEAST);
	if (stalled) keep = PRESSURE_KEEP_LEAST;
	const int64_t step =
	    left / PRESSURE_STEP_SHARE > PRESSURE_STEP_LEAST ? left / PRESSURE_STEP_SHARE : PRESSURE_STEP_LEAST;
	const uint64_t pause = left < limit / 2 ? PRESSURE_SOON : PRESSURE_LATER;
	state.left_then = left;
	state.limit = (size_t)limit;
	atomic_store_explicit(&state.measure_from, now + pause, memory_order_relaxed);
	atomic_store_explicit(&pressure.look_below, limited ? left - step : INT64_MIN, memory_order_relaxed);
	atomic_store_explicit(&pressure.left, left, memory_order_relaxed);
	atomic_store_explicit(&pressure.look_from, limited ? now + pause : UINT64_MAX, memory_order_relaxed);
	atomic_store_explicit(&pressure.keep, keep, memory_order_relaxed);
	atomic_store_explicit(&pressure.caches, keep < SIZE_MAX ? PRESSURE_CACHES_LEAST : PRESSURE_CACHES,
	                      memory_order_relaxed);
	const enum pressure_level level = left < limit / PRESSURE_CRITICAL_SHARE ? PRESSURE_CRITICAL
	                                  : near || stalled                      ? PRESSURE_NEAR
	                                                                         : PRESSURE_NONE;
	atomic_store_explicit(&pressure.level, level, memory_order_relaxed);
	return level;
}

static void give_all_back(uint64_t now) {
	int64_t purged = (int64_t)arena_purge_all((size_t)conf.top_pad);
	state.purged_at = now;
	/* While a fork is under way, and in its child, it goes by the last look. */
	if (!gate_try_enter()) return;
	int64_t before = state.left_then;
	settle(now);
	gate_leave();
	state.worth_it = purged >= PRESSURE_STEP_LEAST && state.left_then - before >= purged / 2;
}

/* False: somebody looks already. */
static bool begin_look(void) {
	int nobody = 0;
	const int own = os_process_id();
	if (atomic_compare_exchange_strong(&busy, &nobody, own)) return true;
	if (nobody == own || !atomic_compare_exchange_strong(&busy, &nobody, own)) return false;
	state.search_from = 0; /* a thread of the parent was looking, and had perhaps written half of a path */
	return true;
}

static void look(uint64_t now, bool measured) {
	/* A fork waits for the look, but not for the purge that may follow. */
	if (!gate_try_enter()) return;
	if (!begin_look()) {
		gate_leave();
		return;
	}
	atomic_store(&pressure.due, false);
	const bool was_on = pressure_is_on();
	if (measured && conf.memory_limit >= 0) {
		const int64_t pending = state.left_then - atomic_load_explicit(&pressure.left, memory_order_relaxed);
		measure(now, pending > 0 ? pending : 0);
		state.stalled = limits_stalled(&state.group, "") >= PRESSURE_STALLED;
	}
	const enum pressure_level level = settle(now);
	gate_leave();
	/* Once when it begins. Later, the bounds on what is kept do, until it becomes critical. What is much and
	 * surely free goes at once; a walk through all holes is not done again and again for little. */
	const bool begins = level == PRESSURE_NEAR && !was_on, purger = atomic_load(&pressure_ask) != NULL;
	const bool waits = begins && !measured && purger && state.limit >= PRESSURE_PURGER_LEAST;
	const bool wanted =
	    level == PRESSURE_CRITICAL || (begins && !waits) || (state.owed && (measured || !purger));
	state.owed = pressure_is_on() && (waits || (state.owed && !wanted));
	if (wanted && (state.worth_it || now - state.purged_at >= PRESSURE_PATIENCE ||
	               kept_now() >= state.limit / PRESSURE_CRITICAL_SHARE))
		give_all_back(now);
	atomic_store(&busy, 0);
}

COLD void pressure_look(void) {
	look(os_milliseconds(), false);
	void (*ask)(void) = atomic_load_explicit(&pressure_ask, memory_order_acquire);
	if (ask != NULL) ask();
}

void pressure_measure(bool wanted) {
	const uint64_t now = os_milliseconds();
	if (wanted || now >= atomic_load_explicit(&state.measure_from, memory_order_relaxed)) look(now, true);
}

void pressure_start(void) {
	static atomic_flag begun = ATOMIC_FLAG_INIT;
	if ((conf.memory_limit < 0 && conf.cap == 0) || atomic_flag_test_and_set(&begun)) return;
	if (!gate_try_enter()) return;
	if (begin_look()) {
		const uint64_t now = os_milliseconds();
		if (conf.memory_limit == 0) limits_find_container(&state.group, "");
		state.search_from = now + 1; /* the next one is exact */
		if (conf.memory_limit >= 0) measure(now, 0);
		settle(now);
		atomic_store(&busy, 0);
	}
	gate_leave();
}

COLD void pressure_count(size_t bytes) {
	int64_t left =
	    atomic_fetch_sub_explicit(&pressure.left, (int64_t)bytes, memory_order_relaxed) - (int64_t)bytes;
	if (left < atomic_load_explicit(&pressure.look_below, memory_order_relaxed))
		atomic_store_explicit(&pressure.due, true, memory_order_relaxed);
}

COLD void pressure_failed(void) { atomic_fetch_add_explicit(&pressure.failures, 1, memory_order_relaxed); }

void pressure_after_fork(void) { atomic_store(&busy, 0); }
