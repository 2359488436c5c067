/* malloc and free: the two fast paths, and where they lead when the thread's magazine cannot serve. */
#include "api/api.h"
#include "arena/zero.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "observe/profile.h"

#include <string.h>

EXPORT void *PUBLIC(malloc)(size_t size) {
	return take_or_allocate(size, FAMILY_MALLOC);
}

EXPORT void PUBLIC(free)(void *block) {
	CLAIM(claim, "free", FAMILY_MALLOC);
	give_back(block, &claim);
}

static NOINLINE void *allocate_slowly(size_t size, enum family family) {
	void *block;
	ensure_started();
	const uint64_t sampled = unlikely(sample_is_on()) && size > 0 ? tcache_sample_count(size) : 0;
	if (unlikely(harden_is_on)) {
		block = harden_alloc(MIN_ALIGN, size, family);
	} else if (size > SMALL_MAX) {
		block = tcache_alloc_large(size, false);
	} else if (likely(size > 0) || (block = zero_alloc(FAMILY_MALLOC)) == NULL) {
		block = likely(sampled == 0) ? tcache_alloc(class_of_size(size), size) : tcache_alloc_sampled(class_of_size(size), size);
		/* What lies behind a guarded block is not ours to write to. */
		if (likely(block != NULL && !guard_owns(block))) mark_clear(block);
	}
	if (unlikely(block == NULL)) errno = ENOMEM;
	if (unlikely(sampled != 0) && block != NULL) profile_add(block, size, sampled);
	return block;
}

static inline __attribute__((always_inline)) void *take_of_class(struct tcache *tc, size_t size) {
	return likely(size <= SMALL_MAX) ? take_from(&tc->magazines[class_of_size(size)]) : NULL;
}

/* Sizes above TABLE_MAX come here too when their magazine has blocks: computing their class is most of the extra cost. And while
 * the heap profile is on, all do: those that are no samples are counted, and get their block as quickly as they can. */
NOINLINE void *allocate(size_t size, enum family family) {
	struct tcache *tc = tcache_current;
	void *block = NULL;
	if (sample_passes(&tc->sample, size)) {
		block = likely(size <= TABLE_MAX) ? take_from(magazine_at(tc, tcache_tags[(size + MIN_ALIGN - 1) / MIN_ALIGN]))
		                                  : take_of_class(tc, size);
		if (likely(block != NULL)) sample_pass(&tc->sample, size);
	} else if (size > TABLE_MAX && likely(!sample_is_on())) {
		block = take_of_class(tc, size);
	}
	return likely(block != NULL) ? block : allocate_slowly(size, family);
}

NOINLINE void *allocate_zeroed(size_t size) {
	ensure_started();
	void *block;
	if (size <= SMALL_MAX || unlikely(harden_is_on)) {
		block = allocate(size, FAMILY_MALLOC);
		/* Hardened blocks read as zero anyway. */
		if (block != NULL && likely(!harden_is_on)) memset(block, 0, size);
		return block;
	}
	block = profile_count(tcache_alloc_large(size, true), size);
	if (unlikely(block == NULL)) errno = ENOMEM;
	return block;
}

EXPORT void *PUBLIC(calloc)(size_t count, size_t size) {
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(count, size, &bytes))) {
		errno = ENOMEM;
		return NULL;
	}
	void *block = take_cached(bytes);
	return likely(block != NULL) ? memset(block, 0, bytes) : allocate_zeroed(bytes);
}
