/* The nodes epoch and stats.*, but for those of single arenas. What was true when the epoch was last written
 * is what all of these tell, so that they fit each other:
 *     allocated <= active <= resident <= mapped */
#include "cache/purger.h"
#include "jemalloc/ctl.h"
#include "jemalloc/figures.h"

enum { ALLOCATED, ACTIVE, METADATA, RESIDENT, MAPPED, FIGURES, EPOCH, BACKGROUND_THREADS };

/* Taken together, read one by one, by any thread. */
static struct {
	_Atomic uint64_t epoch; /* 0: never taken */
	_Atomic size_t figures[FIGURES];
} taken;

static void take(void) {
	struct total_figures now;
	total_figures_get(&now);
	const size_t figures[FIGURES] = {
		[ALLOCATED] = now.allocated, [ACTIVE] = now.active, [METADATA] = now.metadata,
		[RESIDENT] = now.resident,   [MAPPED] = now.mapped,
	};
	for (size_t i = 0; i < FIGURES; i++)
		atomic_store_explicit(&taken.figures[i], figures[i], memory_order_relaxed);
	atomic_fetch_add_explicit(&taken.epoch, 1, memory_order_release);
}

static int get(const struct ctl_at *at, uint64_t *value) {
	const int32_t detail = at->node->detail;
	*value = atomic_load_explicit(&taken.epoch, memory_order_acquire);
	if (detail == EPOCH) return 0;
	if (*value == 0) take();
	if (detail == BACKGROUND_THREADS)
		*value = atomic_load_explicit(&purger_state, memory_order_relaxed) != PURGER_OFF;
	else
		*value = atomic_load_explicit(&taken.figures[detail], memory_order_relaxed);
	return 0;
}

static int set_epoch(const struct ctl_at *at, uint64_t value) {
	(void)at, (void)value;
	take();
	return 0;
}

static const struct ctl_node nodes[] = {
	{ .name = "epoch", CTL_UINT64, CTL_OWN, EPOCH, .sets = true, .sets_first = true },
	{ .name = "stats.allocated", CTL_SIZE, CTL_OWN, ALLOCATED },
	{ .name = "stats.active", CTL_SIZE, CTL_OWN, ACTIVE },
	{ .name = "stats.metadata", CTL_SIZE, CTL_OWN, METADATA },
	{ .name = "stats.metadata_thp", CTL_SIZE, CTL_CONSTANT, 0 },
	{ .name = "stats.resident", CTL_SIZE, CTL_OWN, RESIDENT },
	{ .name = "stats.mapped", CTL_SIZE, CTL_OWN, MAPPED },
	{ .name = "stats.retained", CTL_SIZE, CTL_CONSTANT, 0 }, /* all address space that is held is mapped */
	{ .name = "stats.background_thread.num_threads", CTL_SIZE, CTL_OWN, BACKGROUND_THREADS },
};
const struct ctl_subject ctl_stats = { nodes, sizeof nodes / sizeof *nodes, get, set_epoch, NULL };
