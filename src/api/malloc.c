/* malloc and free: the two fast paths, and where they lead when the thread's magazine cannot serve. */
#include "api/api.h"
#include "arena/zero.h"
#include "harden/guard.h"
#include "harden/harden.h"

#include <string.h>

EXPORT void *PUBLIC(malloc)(size_t size) {
	if (likely(size <= TABLE_MAX)) {
		struct tcache *tc = tcache_current;
		struct magazine *m = magazine_at(tc, tc->tag_of_size[(size + MIN_ALIGN - 1) / MIN_ALIGN]);
		void **top = m->top;
		if (likely(top > m->empty)) {
			USE_IN_MEMORY(m->top);
			m->top--;
			mark_clear(top[-1]);
			return top[-1];
		}
	}
	return allocate(size);
}

EXPORT void PUBLIC(free)(void *block) {
	CLAIM(claim, "free", FAMILY_MALLOC);
	give_back(block, &claim);
}

static NOINLINE void *allocate_slowly(size_t size) {
	void *block;
	ensure_started();
	if (unlikely(harden_is_on)) {
		block = harden_alloc(MIN_ALIGN, size, FAMILY_MALLOC);
	} else if (size <= SMALL_MAX) {
		if (likely(size > 0) || (block = zero_alloc(FAMILY_MALLOC)) == NULL) {
			block = tcache_alloc(class_of_size(size), size);
			/* What lies behind a guarded block is not ours to write to. */
			if (likely(block != NULL && !guard_owns(block))) mark_clear(block);
		}
	} else {
		block = tcache_alloc_large(size, false);
	}
	if (unlikely(block == NULL)) errno = ENOMEM;
	return block;
}

/* Sizes above TABLE_MAX come here too when their magazine has blocks: computing their class is most of the extra cost. */
NOINLINE void *allocate(size_t size) {
	if (size > TABLE_MAX && likely(size <= SMALL_MAX)) {
		struct magazine *m = &tcache_current->magazines[class_of_size(size)];
		void **top = m->top;
		if (likely(top > m->empty)) {
			m->top = top - 1;
			mark_clear(top[-1]);
			return top[-1];
		}
	}
	return allocate_slowly(size);
}

void *allocate_zeroed(size_t size) {
	if (unlikely(harden_is_on)) return allocate(size); /* all of its blocks read as zero */
	if (size <= SMALL_MAX) {
		void *block = PUBLIC(malloc)(size);
		return block != NULL ? memset(block, 0, size) : NULL;
	}
	ensure_started();
	if (unlikely(harden_is_on)) return allocate(size);
	void *block = tcache_alloc_large(size, true);
	if (unlikely(block == NULL)) errno = ENOMEM;
	return block;
}

EXPORT void *PUBLIC(calloc)(size_t count, size_t size) {
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(count, size, &bytes))) {
		errno = ENOMEM;
		return NULL;
	}
	return allocate_zeroed(bytes);
}
