/* What a request gets, and another size where the block lies. */
#ifndef JEMALLOC_SIZES_H
#define JEMALLOC_SIZES_H

#include "base/base.h"

/* Usable bytes of the block that a request gets, at least; 0: none can be had. In hardened mode, what was
 * asked for. */
size_t good_size(size_t size, size_t align);

/* The block, of `usable` bytes, is as long as `size` where it lies, if both are more than SMALL_MAX and there
 * is room. False: it is as it was. Never where another front than plain serves, which has its own ideas of
 * sizes. */
bool resize_in_place(void *block, size_t usable, size_t size, const char *function);

#endif
