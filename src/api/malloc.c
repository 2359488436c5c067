/* malloc and free: the two fast paths, and where they lead when the thread's magazine cannot serve. */
#include "api/api.h"
#include "arena/zero.h"
#include "base/conf.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "observe/profile.h"
#include "observe/trace.h"

#include <string.h>

EXPORT void *PUBLIC(malloc)(size_t size) {
	return take_or_allocate(size, FAMILY_MALLOC);
}
LIBC_NAME(__libc_malloc, malloc);

EXPORT void PUBLIC(free)(void *block) {
	CLAIM(claim, "free", FAMILY_MALLOC);
	give_back(block, &claim);
}
LIBC_NAME(__libc_free, free);

/* False: it is to be served as without a mode. */
static NOINLINE bool allocate_in_mode(size_t size, enum family family, void **block) {
	struct trace_call call;
	if (modes & MODE_HARDEN) {
		*block = profile_count(harden_alloc(MIN_ALIGN, size, family), size);
		if (unlikely(*block == NULL)) errno = ENOMEM;
	} else if (trace_enter(&call)) {
		*block = take_or_allocate(size, family);
		trace_leave(&call);
		trace_allocated(&call, TRACE_MALLOC, *block, size, 0, family);
	} else {
		return false;
	}
	return true;
}

static inline __attribute__((always_inline)) void *allocate_once(size_t size, bool sampled) {
	void *block;
	if (size > SMALL_MAX) {
		block = tcache_alloc_large(size, false);
	} else if (likely(size > 0) || (block = zero_alloc(FAMILY_MALLOC)) == NULL) {
		block = sampled ? tcache_alloc_sampled(class_of_size(size), size) : tcache_alloc(class_of_size(size), size);
		/* What lies behind a guarded block is not ours to write to. */
		if (likely(block != NULL && !guard_owns(block))) mark_clear(block);
	}
	return block;
}

static COLD void *allocate_again(size_t size, bool sampled) {
	void *block = harden_reclaim(size) ? allocate_once(size, sampled) : NULL;
	if (block == NULL) errno = ENOMEM;
	return block;
}

static inline __attribute__((always_inline)) void *allocate_any(size_t size, bool sampled) {
	void *block = allocate_once(size, sampled);
	return likely(block != NULL) ? block : allocate_again(size, sampled);
}

static COLD void *allocate_sampled(size_t size, uint64_t mean) {
	void *block = allocate_any(size, true);
	if (block != NULL) profile_add(block, size, mean);
	return block;
}

static NOINLINE void *allocate_slowly(size_t size, enum family family) {
	void *block;
	ensure_started();
	if (unlikely(modes != 0) && allocate_in_mode(size, family, &block)) return block;
	if (unlikely(sample_is_on()) && size > 0) {
		const uint64_t mean = tcache_sample_count(size);
		if (unlikely(mean != 0)) return allocate_sampled(size, mean);
	}
	return allocate_any(size, false);
}

/* While the heap profile is on: a block that is no sample is counted. */
static inline __attribute__((always_inline)) void *take_counted(struct tcache *tc, struct magazine *m, size_t size) {
	void *block = magazine_take(m);
	if (likely(block != NULL)) sample_pass(&tc->sample, size);
	return block;
}

/* Sizes above TABLE_MAX come here too when their magazine has blocks: computing their class is most of the extra cost.
 * While the heap profile is on, all do: those that are no samples get their block as quickly as they can. */
NOINLINE void *allocate(size_t size, enum family family) {
	struct tcache *tc = tcache_current;
	void *block = NULL;
	if (size <= TABLE_MAX) {
		if (sample_passes(&tc->sample, size))
			block = take_counted(tc, magazine_at(tc, tcache_tags[(size + MIN_ALIGN - 1) / MIN_ALIGN]), size);
	} else if (likely(size <= SMALL_MAX)) {
		const unsigned class_ = class_of_size(size);
		block = magazine_take(&tc->magazines[class_ & tc->class_mask]);
		if (unlikely(block == NULL) && sample_passes(&tc->sample, size)) block = take_counted(tc, &tc->magazines[class_], size);
	}
	return likely(block != NULL) ? block : allocate_slowly(size, family);
}

static NOINLINE bool allocate_zeroed_in_mode(size_t size, void **block) {
	struct trace_call call;
	if (modes & MODE_HARDEN) {
		*block = allocate(size, FAMILY_MALLOC); /* hardened blocks read as zero anyway */
	} else if (trace_enter(&call)) {
		*block = PUBLIC(calloc)(1, size);
		trace_leave(&call);
		trace_allocated(&call, TRACE_CALLOC, *block, size, 0, FAMILY_MALLOC);
	} else {
		return false;
	}
	return true;
}

NOINLINE void *allocate_zeroed(size_t size) {
	ensure_started();
	void *block;
	if (unlikely(modes != 0) && allocate_zeroed_in_mode(size, &block)) return block;
	if (size <= SMALL_MAX) {
		block = allocate(size, FAMILY_MALLOC);
		if (block != NULL) memset(block, 0, size);
		return block;
	}
	block = tcache_alloc_large(size, true);
	if (unlikely(block == NULL) && harden_reclaim(size)) block = tcache_alloc_large(size, true);
	if (unlikely(block == NULL)) errno = ENOMEM;
	return profile_count(block, size);
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
LIBC_NAME(__libc_calloc, calloc);
