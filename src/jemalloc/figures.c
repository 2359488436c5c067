#include "jemalloc/figures.h"

#include "arena/arena.h"
#include "arena/depot.h"
#include "cache/tcache.h"
#include "jemalloc/ctl.h"
#include "jemalloc/made_arenas.h"
#include "observe/stats.h"

static size_t in_pages(size_t bytes) { return ALIGN_UP(bytes, os_page_size); }

void total_figures_get(struct total_figures *out) {
	struct arenal_stats s;
	stats_get(&s);
	out->allocated = s.allocated;
	out->active = in_pages(s.active);
	out->resident = max_size(in_pages(s.resident), out->active);
	out->mapped = max_size(in_pages(s.mapped), out->resident);
	out->dirty = in_pages(s.dirty);
	out->muzzy = in_pages(s.resident - s.active - s.dirty);
	out->metadata = s.metadata;
	out->cached = s.cached;
	out->purged = s.purged_total;
}

/* ---- bins ---- */

static void add_bin(struct arena *arena, unsigned class_, struct bin_figures *sum) {
	struct bin *bin = &arena->bins[class_];
	lock_take(&bin->lock, RANK_BIN);
	sum->spans += bin->spans;
	sum->blocks += bin->blocks_out;
	sum->refills += bin->refills;
	sum->flushes += bin->flushes;
	lock_drop(&bin->lock, RANK_BIN);
}

bool bin_figures_get(size_t number, unsigned class_, struct bin_figures *out) {
	*out = (struct bin_figures){ 0 };
	struct arena *arena = arena_by_number(number);
	if (arena != NULL) add_bin(arena, class_, out);
	if (arena == NULL && !ctl_is_all(number)) return false;
	for (size_t i = 0; arena == NULL && i < ctl_arena_count(); i++) add_bin(arena_list[i], class_, out);
	if (arena == NULL || number == 0) depot_add_batches(class_, &out->refills, &out->flushes);
	return true;
}

/* ---- arenas ---- */

/* Its bins, and what is written down for it. Its memory: the spans, and those blocks. */
static void get_one(uint32_t number, struct arena_figures *out) {
	*out = (struct arena_figures){ 0 };
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct bin_figures bin;
		bin_figures_get(number, c, &bin);
		out->small += bin.blocks * size_classes[c].size;
		out->refills += bin.refills;
		out->flushes += bin.flushes;
		out->memory.active += bin.spans * size_classes[c].slices * SLICE_SIZE;
	}
	out->large = made_figures(number).bytes;
	out->memory.allocated = out->small + out->large;
	out->memory.active += in_pages(out->large);
	out->memory.resident = out->memory.mapped = out->memory.active;
	tcache_lock();
	out->threads = arena_threads(arena_list[number]);
	tcache_unlock();
}

static void get_all(struct arena_figures *out) {
	*out = (struct arena_figures){ 0 };
	for (uint32_t i = 0; i < ctl_arena_count(); i++) {
		struct arena_figures one;
		get_one(i, &one);
		out->threads += one.threads;
		out->small += one.small;
		out->refills += one.refills;
		out->flushes += one.flushes;
	}
	total_figures_get(&out->memory);
	const size_t blocks = out->memory.allocated + out->memory.cached;
	out->large = blocks - min_size(blocks, out->small);
}

/* Figures of different moments: no difference is negative. */
static void leave(size_t *whole, size_t part) { *whole -= min_size(*whole, part); }

static void get_first(struct arena_figures *out) {
	struct arena_figures first;
	get_all(out);
	get_one(0, &first);
	out->threads = first.threads;
	out->small = first.small;
	out->refills = first.refills;
	out->flushes = first.flushes;
	for (uint32_t i = 1; i < ctl_arena_count(); i++) {
		struct arena_figures other;
		get_one(i, &other);
		leave(&out->large, other.large);
		leave(&out->memory.allocated, other.memory.allocated);
		leave(&out->memory.active, other.memory.active);
		leave(&out->memory.resident, other.memory.resident);
		leave(&out->memory.mapped, other.memory.mapped);
	}
}

bool arena_figures_get(size_t number, struct arena_figures *out) {
	if (ctl_is_all(number))
		get_all(out);
	else if (arena_by_number(number) == NULL)
		return false;
	else if (number == 0)
		get_first(out);
	else
		get_one((uint32_t)number, out);
	return true;
}
