/* The nodes stats.arenas.<i>.*: of one arena, or of all (MALLCTL_ARENAS_ALL). How often blocks of an arena
 * were handed out nobody counts: malloc and free do not, on their fast paths. So there is no nmalloc, no
 * ndalloc and no nrequests. */
#include "arena/size_class.h"
#include "base/os.h"
#include "jemalloc/ctl.h"
#include "jemalloc/figures.h"

/* `detail`: how far the figure is from the start of all of them; in pages where this is added. */
#define IN_PAGES 0x1000
#define OF_BIN 0x2000
#define FIGURE(member) (int32_t) offsetof(struct arena_figures, member)
#define PAGES(member) IN_PAGES + FIGURE(member)
#define BIN(member) OF_BIN + (int32_t)offsetof(struct bin_figures, member)
enum { NONE = 0x4000, DIRTY_DECAY, MUZZY_DECAY };

static uint64_t figure_at(const void *figures, int32_t detail) {
	return *(const uint64_t *)((const char *)figures + (detail & (IN_PAGES - 1)));
}

static int get_bin_figure(const struct ctl_at *at, uint64_t *value) {
	struct bin_figures figures;
	if (at->numbers[1] >= CLASS_COUNT - 1) return ENOENT;
	if (!bin_figures_get(at->numbers[0], (unsigned)at->numbers[1] + 1, &figures)) return ENOENT;
	*value = figure_at(&figures, at->node->detail);
	return 0;
}

static int get(const struct ctl_at *at, uint64_t *value) {
	struct arena_figures figures;
	const int32_t detail = at->node->detail;
	if (!ctl_is_arena(at->numbers[0])) return ENOENT;
	if (detail & OF_BIN) return get_bin_figure(at, value);
	*value = detail == DIRTY_DECAY ? (uint64_t)conf.decay : detail == MUZZY_DECAY ? ctl_muzzy_decay() : 0;
	if (detail >= NONE) return 0;
	if (!arena_figures_get(at->numbers[0], &figures)) return ENOENT;
	*value = figure_at(&figures, detail) / (detail & IN_PAGES ? os_page_size : 1);
	return 0;
}

static const struct ctl_node nodes[] = {
	{ .name = "stats.arenas.*.dirty_decay_ms", CTL_SIGNED, CTL_OWN, DIRTY_DECAY },
	{ .name = "stats.arenas.*.muzzy_decay_ms", CTL_SIGNED, CTL_OWN, MUZZY_DECAY },
	{ .name = "stats.arenas.*.nthreads", CTL_UNSIGNED, CTL_OWN, FIGURE(threads) },
	{ .name = "stats.arenas.*.pactive", CTL_SIZE, CTL_OWN, PAGES(memory.active) },
	{ .name = "stats.arenas.*.pdirty", CTL_SIZE, CTL_OWN, PAGES(memory.dirty) },
	{ .name = "stats.arenas.*.pmuzzy", CTL_SIZE, CTL_OWN, PAGES(memory.muzzy) },
	{ .name = "stats.arenas.*.mapped", CTL_SIZE, CTL_OWN, FIGURE(memory.mapped) },
	{ .name = "stats.arenas.*.retained", CTL_SIZE, CTL_OWN, NONE },
	{ .name = "stats.arenas.*.base", CTL_SIZE, CTL_OWN, FIGURE(memory.metadata) },
	{ .name = "stats.arenas.*.internal", CTL_SIZE, CTL_OWN, NONE },
	{ .name = "stats.arenas.*.metadata_thp", CTL_SIZE, CTL_OWN, NONE },
	{ .name = "stats.arenas.*.tcache_bytes", CTL_SIZE, CTL_OWN, FIGURE(memory.cached) },
	{ .name = "stats.arenas.*.resident", CTL_SIZE, CTL_OWN, FIGURE(memory.resident) },
	{ .name = "stats.arenas.*.dirty_purged", CTL_UINT64, CTL_OWN, PAGES(memory.purged) },
	{ .name = "stats.arenas.*.small.allocated", CTL_SIZE, CTL_OWN, FIGURE(small) },
	{ .name = "stats.arenas.*.small.nfills", CTL_UINT64, CTL_OWN, FIGURE(refills) },
	{ .name = "stats.arenas.*.small.nflushes", CTL_UINT64, CTL_OWN, FIGURE(flushes) },
	{ .name = "stats.arenas.*.large.allocated", CTL_SIZE, CTL_OWN, FIGURE(large) },
	{ .name = "stats.arenas.*.bins.*.curregs", CTL_SIZE, CTL_OWN, BIN(blocks) },
	{ .name = "stats.arenas.*.bins.*.curslabs", CTL_SIZE, CTL_OWN, BIN(spans) },
	{ .name = "stats.arenas.*.bins.*.nfills", CTL_UINT64, CTL_OWN, BIN(refills) },
	{ .name = "stats.arenas.*.bins.*.nflushes", CTL_UINT64, CTL_OWN, BIN(flushes) },
};
const struct ctl_subject ctl_arena_stats = { nodes, sizeof nodes / sizeof *nodes, get, NULL, NULL };
