#include "arena/layout.h"

struct arenal_layout arenal_layout = {
	.magic = "ARENAL",
	.version = 3,
	.slice_shift = SLICE_SHIFT,
	.region_shift = REGION_SHIFT,
	.kept_table = (uintptr_t)huge_cache_entries,
	.kept_capacity = HUGE_CACHE_ENTRIES,
};
