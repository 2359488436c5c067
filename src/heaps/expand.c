/* arenal_expand and arenal_good_size (include/arenal/arenal.h). */
#include <errno.h>

#include "api/malloc.h"
#include "arenal/arenal.h"
#include "harden/guard.h"
#include "jemalloc/sizes.h"

size_t arenal_good_size(size_t size) {
	ensure_started();
	guard_round_sizes(); /* who asks uses more than he asks malloc for */
	return size > 0 ? good_size(size, MIN_ALIGN) : 0;
}

size_t arenal_expand(void *block, size_t size) {
	if (block == NULL) {
		errno = EINVAL;
		return 0;
	}
	ensure_started();
	const size_t usable = usable_size(block, "arenal_expand");
	const size_t good = good_size(max_size(size, SMALL_MAX + 1), MIN_ALIGN);
	if (good != 0 && good != usable) resize_in_place(block, usable, good, "arenal_expand");
	const size_t now = usable_size(block, "arenal_expand");
	if (now >= size) return now;
	errno = ENOMEM;
	return 0;
}
