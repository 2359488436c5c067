#include "arena/layout.h"

struct arenal_layout arenal_layout = {
	.magic = "ARENAL",
	.version = 1,
	.slice_shift = SLICE_SHIFT,
	.region_shift = REGION_SHIFT,
};
