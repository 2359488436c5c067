#include "base/cap.h"

_Atomic size_t cap_bytes;
