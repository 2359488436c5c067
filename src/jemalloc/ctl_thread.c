/* The nodes thread.* and tcache.*. */
#include "base/bitmap.h"
#include "cache/tcache.h"
#include "jemalloc/ctl.h"
#include "jemalloc/made_arenas.h"
#include "jemalloc/thread.h"

enum {
	ARENA,
	CACHE_ENABLED,
	CACHE_FLUSH,
	COUNTED, /* from here on, the thread counts its bytes */
	ALLOCATED,
	ALLOCATED_PLACE,
	DEALLOCATED,
	DEALLOCATED_PLACE,
	PEAK,
	PEAK_RESET,
	COUNTED_END,
	MADE_CREATE,
	MADE_FLUSH,
	MADE_DESTROY,
};

static bool is_counted(int32_t detail) { return detail > COUNTED && detail < COUNTED_END; }

/* ---- caches that the program made ----
 *
 * They are numbers: blocks that it asks for with one of them come from the thread's own cache, or, of arenas
 * that it made, from no cache. So there is nothing in them. */

#define CACHES 4093 /* the flags have room for so many */

static uint64_t caches_in_use[(CACHES + 63) / 64]; /* bit i: number i. Owner: the threads lock */

static int make_cache(const struct ctl_at *at, bool is_given, uint64_t *value) {
	(void)at;
	int error = EAGAIN;
	if (is_given) return EPERM;
	tcache_lock();
	const size_t i = bit_find(caches_in_use, 0, CACHES, false);
	if (i < CACHES) {
		bit_set(caches_in_use, i);
		*value = i;
		error = 0;
	}
	tcache_unlock();
	return error;
}

static int use_cache(uint64_t number, bool ends) {
	if (number >= CACHES) return EFAULT;
	tcache_lock();
	const bool known = bit_get(caches_in_use, number);
	if (known && ends) bit_clear(caches_in_use, number);
	tcache_unlock();
	return known ? 0 : EFAULT;
}

/* ---- the thread's own ---- */

static int flush(void) {
	tcache_flush();
	return 0;
}

/* What is in it goes back; what comes into it later does by itself when nobody needs it. */
static int enable_cache(bool on) {
	thread_counts.no_cache_asked = !on;
	if (!on) tcache_flush();
	return 0;
}

static int reset_peak(void) {
	thread_counts.base = thread_counts.allocated - thread_counts.deallocated;
	thread_counts.peak = 0;
	return 0;
}

static int get(const struct ctl_at *at, uint64_t *value) {
	const struct thread_counts *t = &thread_counts;
	if (is_counted(at->node->detail) && !thread_counts_begin()) return EAGAIN;
	switch (at->node->detail) {
	case ARENA: *value = arena_of_thread(); return 0;
	case CACHE_ENABLED: *value = !t->no_cache_asked; return 0;
	case ALLOCATED: *value = t->allocated; return 0;
	case ALLOCATED_PLACE: *value = (uintptr_t)&t->allocated; return 0;
	case DEALLOCATED: *value = t->deallocated; return 0;
	case DEALLOCATED_PLACE: *value = (uintptr_t)&t->deallocated; return 0;
	default: *value = t->peak; return 0;
	}
}

static int set(const struct ctl_at *at, uint64_t value) {
	if (is_counted(at->node->detail) && !thread_counts_begin()) return EAGAIN;
	switch (at->node->detail) {
	case ARENA: return value == arena_of_thread() ? 0 : arena_choose_for_thread((uint32_t)value);
	case CACHE_ENABLED: return enable_cache(value);
	case CACHE_FLUSH: return flush();
	case MADE_FLUSH: return use_cache(value, false);
	case MADE_DESTROY: return use_cache(value, true);
	default: return reset_peak();
	}
}

static const struct ctl_node nodes[] = {
	{ .name = "thread.arena", CTL_UNSIGNED, CTL_OWN, ARENA, .sets = true },
	{ .name = "thread.allocated", CTL_UINT64, CTL_OWN, ALLOCATED },
	{ .name = "thread.allocatedp", CTL_POINTER, CTL_OWN, ALLOCATED_PLACE },
	{ .name = "thread.deallocated", CTL_UINT64, CTL_OWN, DEALLOCATED },
	{ .name = "thread.deallocatedp", CTL_POINTER, CTL_OWN, DEALLOCATED_PLACE },
	{ .name = "thread.peak.read", CTL_UINT64, CTL_OWN, PEAK },
	{ .name = "thread.peak.reset", CTL_VOID, .detail = PEAK_RESET },
	{ .name = "thread.tcache.enabled", CTL_BOOL, CTL_OWN, CACHE_ENABLED, .sets = true },
	{ .name = "thread.tcache.flush", CTL_VOID, .detail = CACHE_FLUSH },
	{ .name = "thread.idle", CTL_VOID, .detail = CACHE_FLUSH },
	{ .name = "tcache.create", CTL_UNSIGNED, .detail = MADE_CREATE, .asks = true, .asked = CTL_UNSIGNED },
	{ .name = "tcache.flush", CTL_UNSIGNED, .detail = MADE_FLUSH, .sets = true },
	{ .name = "tcache.destroy", CTL_UNSIGNED, .detail = MADE_DESTROY, .sets = true },
};
const struct ctl_subject ctl_thread = { nodes, sizeof nodes / sizeof *nodes, get, set, make_cache };
