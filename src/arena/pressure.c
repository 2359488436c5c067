#include "arena/pressure.h"

#include "arena/arena.h"
#include "base/conf.h"
#include "base/gate.h"
#include "base/limits.h"

/* Near: less than this share of the limit is left. Critical: less than that one; then all free memory goes back, and not
 * only once. */
#define NEAR_SHARE 8
#define CRITICAL_SHARE 32

/* Per cent of ten seconds in which somebody waited for memory. A page cache that turns over causes less than this, and those
 * who kill for it (systemd-oomd, by default at 60) begin far above. */
#define STALLED 10

/* With a limit in sight, the kernel is asked again when this share of what was left has gone, but not for less than LEAST. */
#define STEP_SHARE 4
#define STEP_LEAST ((int64_t)MIB)

/* Milliseconds until the next look, when less than half of the limit is left and when not; and until the process is
 * searched for in the cgroups again, where it is seldom moved. */
#define SOON 100
#define LATER 1000
#define SEARCH_AGAIN 10000

/* Milliseconds between two times that all is given back, unless the first was worth it: a process that simply needs its
 * memory should not spend its time so. */
#define PATIENCE 100

#define NO_LIMIT (INT64_MAX / 2)

struct pressure pressure = {
	.left = PRESSURE_FIRST_LOOK,
	.look_from = UINT64_MAX,
	.keep = SIZE_MAX,
	.caches = PRESSURE_CACHES,
};

static _Atomic int busy; /* somebody looks: the ID of his process, for children have not the threads of their parents. Owner of what
                            follows */
static struct {
	struct cgroup group;
	uint64_t search_from;   /* milliseconds */
	int64_t left_then;      /* pressure.left after the last look */
	uint64_t purged_at;     /* milliseconds: when all was given back last */
	bool worth_it;          /* and that was a good part of what it takes to get here again */
} state = { .left_then = PRESSURE_FIRST_LOOK };

enum level { ALL_IS_WELL, NEAR, CRITICAL };

static struct headroom headroom_now(uint64_t now) {
	const int64_t own = conf.memory_limit;
	if (own > 0) {
		size_t used = limits_resident("");
		return (struct headroom){ (size_t)own, (size_t)own - min_size(used, (size_t)own) };
	}
	if (now >= state.search_from) {
		limits_find_cgroup(&state.group, "");
		state.search_from = now + SEARCH_AGAIN;
	}
	return limits_headroom(&state.group);
}

/* Asks the kernel, and sets what the others go by. `pending`: bytes that may have been handed out, but not written to yet. Inside of the
 * gate. */
static enum level measure(uint64_t now, int64_t pending) {
	struct headroom h = { SIZE_MAX, SIZE_MAX };
	bool stalled = false;
	if (conf.memory_limit >= 0) {
		h = headroom_now(now);
		stalled = limits_stalled(&state.group, "") >= STALLED;
	}
	const bool limited = h.limit < (size_t)NO_LIMIT;
	const int64_t limit = limited ? (int64_t)h.limit : NO_LIMIT, left = limited ? (int64_t)h.left - pending : NO_LIMIT;
	const bool near = left < limit / NEAR_SHARE;
	size_t keep = SIZE_MAX;
	if (near) keep = max_size(left > 0 ? (size_t)left / 4 : 0, PRESSURE_KEEP_LEAST);
	if (stalled) keep = PRESSURE_KEEP_LEAST;
	const int64_t step = left / STEP_SHARE > STEP_LEAST ? left / STEP_SHARE : STEP_LEAST;
	state.left_then = left;
	atomic_store_explicit(&pressure.look_below, limited ? left - step : INT64_MIN, memory_order_relaxed);
	atomic_store_explicit(&pressure.left, left, memory_order_relaxed);
	atomic_store_explicit(&pressure.look_from, now + (left < limit / 2 ? SOON : LATER), memory_order_relaxed);
	atomic_store_explicit(&pressure.keep, keep, memory_order_relaxed);
	atomic_store_explicit(&pressure.caches, keep < SIZE_MAX ? PRESSURE_CACHES_LEAST : PRESSURE_CACHES, memory_order_relaxed);
	if (left < limit / CRITICAL_SHARE) return CRITICAL;
	return near || stalled ? NEAR : ALL_IS_WELL;
}

static void give_all_back(uint64_t now, int64_t pending) {
	int64_t purged = (int64_t)arena_purge_all((size_t)conf.top_pad);
	state.purged_at = now;
	/* While a fork is under way, and in its child, it goes by the last look. */
	if (!gate_try_enter()) return;
	int64_t before = state.left_then;
	measure(now, pending);
	gate_leave();
	state.worth_it = purged >= STEP_LEAST && state.left_then - before >= purged / 2;
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

COLD void pressure_look(void) {
	/* A fork waits for the look, but not for the purge that may follow. */
	if (!gate_try_enter()) return;
	if (!begin_look()) {
		gate_leave();
		return;
	}
	atomic_store(&pressure.due, false);
	const uint64_t now = os_milliseconds();
	const bool was_on = pressure_is_on();
	const int64_t pending = state.left_then - atomic_load_explicit(&pressure.left, memory_order_relaxed);
	enum level level = measure(now, pending);
	gate_leave();
	/* Once when it begins. Later, the bounds on what is kept do, until it becomes critical. */
	if ((level == CRITICAL || (level == NEAR && !was_on)) && (now - state.purged_at >= PATIENCE || state.worth_it))
		give_all_back(now, pending);
	atomic_store(&busy, 0);
}

COLD void pressure_count(size_t bytes) {
	int64_t left = atomic_fetch_sub_explicit(&pressure.left, (int64_t)bytes, memory_order_relaxed) - (int64_t)bytes;
	if (left < atomic_load_explicit(&pressure.look_below, memory_order_relaxed))
		atomic_store_explicit(&pressure.due, true, memory_order_relaxed);
}

void pressure_after_fork(void) { atomic_store(&busy, 0); }
