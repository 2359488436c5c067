/* What the statistics of all layers are in jemalloc's terms. */
#ifndef JEMALLOC_FIGURES_H
#define JEMALLOC_FIGURES_H

#include "base/base.h"

/* Of the process, in bytes. Whole pages, but for `allocated`. */
struct total_figures {
	size_t allocated, active, resident, mapped; /* each at least the one before */
	size_t dirty, muzzy;                        /* parts of `resident` */
	size_t metadata, cached;
	size_t purged; /* since the start */
};
void total_figures_get(struct total_figures *out);

/* Of one arena, or of all. Slices and large blocks belong to no arena: the first one's figures are what the
 * others leave of the whole. Batches that depots served belong to none either, and count as the first
 * one's. */
struct arena_figures {
	struct total_figures memory;
	size_t threads;
	size_t small, large; /* bytes in blocks, those in caches included */
	uint64_t refills, flushes;
};

/* False: there is no such arena. */
bool arena_figures_get(size_t number, struct arena_figures *out);

/* Of one size class of it, or of all arenas. */
struct bin_figures {
	size_t spans, blocks;
	uint64_t refills, flushes;
};
bool bin_figures_get(size_t number, unsigned class_, struct bin_figures *out);

#endif
