#include "arena/wave.h"

_Atomic uint64_t allowance_since;
_Atomic size_t wave_highest = ALLOWANCE_LEAST;
void (*_Atomic wave_rises)(void);
_Atomic bool purged_in_background;
