/* glibc's extras: malloc_trim, mallopt, mallinfo, malloc_info, malloc_stats. Structures and meanings are
 * those of glibc's <malloc.h>; what has no counterpart here is zero. musl's header has none of them: there,
 * malloc_trim and malloc_stats are for who looks for them. */
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

#include "api/api.h"
#include "base/conf.h"
#include "base/os.h"
#include "base/print.h"
#include "cache/tcache.h"
#include "harden/harden.h"
#include "observe/stats.h"

EXPORT int PUBLIC(malloc_trim)(size_t keep) {
	ensure_started();
	tcache_flush_all();
	return harden_purge_all(keep) > 0;
}

#ifdef __GLIBC__
EXPORT int PUBLIC(mallopt)(int option, int value) {
	ensure_started();
	switch (option) {
	case M_MMAP_THRESHOLD: return conf_set("mmap_threshold", value) == 0;
	case M_TRIM_THRESHOLD: return conf_set("trim_threshold", value) == 0;
	case M_TOP_PAD: return conf_set("top_pad", value) == 0;
	case M_ARENA_MAX:
		/* Arenas that are there stay; no more are made beyond the value. */
		if (value < 0) return 0;
		conf.arena_max = value;
		return 1;
	case M_MMAP_MAX:
		/* No direct mappings at all is the one value that has a meaning here. */
		if (value == 0) return conf_set("mmap_threshold", INT64_C(1) << 46) == 0;
		return value > 0;
	/* glibc's range; magazines adapt */
	case M_MXFAST: return value >= 0 && (size_t)value <= 80 * sizeof(size_t) / 4;
	case M_CHECK_ACTION:
	case M_PERTURB:
	case M_ARENA_TEST: return 1; /* known, and without effect here */
	default: return 0;
	}
}

#ifndef ARENAL_PREFIX
struct mallinfo2 mallinfo2(void) __attribute__((visibility("default")));
struct mallinfo mallinfo(void) __attribute__((visibility("default")));
int malloc_info(int options, FILE *file) __attribute__((visibility("default")));

struct mallinfo2 mallinfo2(void) {
	struct arenal_stats s;
	ensure_started();
	stats_get(&s);
	return (struct mallinfo2){
		.arena = s.mapped - s.huge_bytes,
		.hblks = s.huge_blocks,
		.hblkhd = s.huge_bytes,
		.fsmblks = s.cached,
		.uordblks = s.allocated - s.huge_bytes,
		.fordblks = s.mapped - s.allocated,
		.keepcost = s.dirty,
	};
}

static int clamp(size_t n) { return n > INT_MAX ? INT_MAX : (int)n; }

/* The old form counts in int; figures that do not fit stay at the largest. */
struct mallinfo mallinfo(void) {
	struct mallinfo2 m = mallinfo2();
	return (struct mallinfo){
		.arena = clamp(m.arena),
		.hblks = clamp(m.hblks),
		.hblkhd = clamp(m.hblkhd),
		.fsmblks = clamp(m.fsmblks),
		.uordblks = clamp(m.uordblks),
		.fordblks = clamp(m.fordblks),
		.keepcost = clamp(m.keepcost),
	};
}

/* The XML form of the statistics; the program's own FILE may be written through stdio, for no lock is
 * held. */
int malloc_info(int options, FILE *file) {
	if (options != 0) return EINVAL;
	struct arenal_stats s;
	ensure_started();
	stats_get(&s);
	fprintf(file, "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n");
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct class_stats class_stats;
		stats_of_class(c, &class_stats);
		size_t free_blocks = class_stats.spans * size_classes[c].blocks - class_stats.blocks_out;
		if (class_stats.spans > 0)
			fprintf(file, "<size from=\"%u\" to=\"%u\" total=\"%zu\" count=\"%zu\"/>\n",
			        size_classes[c - 1].size + 1, size_classes[c].size, free_blocks * size_classes[c].size,
			        free_blocks);
	}
	fprintf(file, "</sizes>\n</heap>\n");
	/* As glibc's: what is allocated is the system's memory less what is free, and mappings come on top of
	 * both. */
	const size_t system = s.mapped - s.huge_bytes, rest = s.mapped - s.allocated - s.cached;
	fprintf(file, "<total type=\"fast\" count=\"0\" size=\"%zu\"/>\n", s.cached);
	fprintf(file, "<total type=\"rest\" count=\"0\" size=\"%zu\"/>\n", rest);
	fprintf(file, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", s.huge_blocks, s.huge_bytes);
	fprintf(file, "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n", system,
	        system);
	fprintf(file,
	        "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n</malloc>\n",
	        system, system);
	return 0;
}
#endif
#endif

EXPORT void PUBLIC(malloc_stats)(void) {
	ensure_started();
	stats_print(2);
}
