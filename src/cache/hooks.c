#include "cache/hooks.h"

struct cache_hooks cache_hooks;
