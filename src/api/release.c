/* Blocks that come back, but for the fast path of free: what kind they are, and whether they are blocks at all. */
#include <string.h>

#include "api/api.h"
#include "arena/huge.h"
#include "arena/report.h"
#include "arena/zero.h"
#include "base/conf.h"
#include "cache/purger.h"
#include "harden/guard.h"
#include "harden/misuse.h"
#include "observe/profile.h"
#include "observe/trace.h"

/* Ends the program unless this is a small block in use, which is only looked at: it may be live, and have any bytes in it, the
 * mark's too, where the program copied from a block that it had freed. Returns its mark. */
static uint64_t check_small(const struct span *s, void *block, const char *function) {
	if (unlikely(!span_has_block_at(s, block))) report_pointer(function, block, NULL);
	const uint64_t mark = mark_of(block, s->class_);
	if (likely(!mark_is(block, mark))) return mark;
	const char *place = tcache_where_free(s, block);
	if (place != NULL) report_pointer(function, block, place);
	return mark;
}

static COLD void release_sampled(unsigned class_, void *block) {
	profile_freed(block);
	arena_give_alone(class_, block);
}

static NOINLINE void release_plain(void *block, const struct claim *claim) {
	struct span *s = span_of(block);
	if (likely(s != NULL && s->kind == SPAN_SMALL)) {
		mark_set(block, check_small(s, block, claim->function));
		annotate_freed(block);
		if (unlikely(s->sampled)) {
			release_sampled(s->class_, block);
			return;
		}
		/* Spans of several slices are not for the fast path, see block_starts_at. */
		struct magazine *m = &tcache_current->magazines[s->class_];
		if (likely(!magazine_is_full(m))) {
			magazine_push(m, block);
			return;
		}
		tcache_free(s->class_, block);
	} else if (s != NULL && s->kind == SPAN_RUN && s->start == block) {
		profile_freed(block);
		tcache_free_run(s);
	} else if (s == NULL && zero_owns(block)) {
		zero_free(block, claim->function);
	} else {
		profile_freed(block);
		if (s != NULL || !(huge_free(block) || guard_free(block))) report_pointer(claim->function, block, NULL);
	}
	purger_poke();
}

static NOINLINE bool release_in_mode(void *block, const struct claim *claim) {
	if (modes & MODE_HARDEN) {
		profile_freed(block);
		return harden_free(block, claim);
	}
	struct trace_call call;
	if (!trace_enter(&call)) return false;
	trace_freed(&call, block, claim->family);
	give_back(block, claim);
	trace_leave(&call);
	return true;
}

NOINLINE void release(void *block, const struct claim *claim) {
	if (block == NULL || (unlikely(modes != 0) && release_in_mode(block, claim))) return;
	release_plain(block, claim);
}

static NOINLINE bool usable_size_in_mode(void *block, const char *function, size_t *size) {
	if (modes & MODE_HARDEN) return harden_size(block, function, size);
	/* Not recorded, but redis asks for every block: with the cache in its place, the answer is quick. */
	struct tcache *hidden = tcache_reveal();
	if (hidden == NULL) return false;
	*size = usable_size(block, function);
	tcache_conceal(hidden);
	return true;
}

NOINLINE size_t usable_size_slowly(void *block, const char *function) {
	size_t exact;
	if (unlikely(modes != 0) && usable_size_in_mode(block, function, &exact)) return exact;
	const struct span *s = span_of(block);
	if (s == NULL && zero_owns(block)) {
		zero_family(block, function);
		return 0;
	}
	if (s == NULL) {
		size_t size = huge_size(block);
		if (size == 0) size = guard_size(block);
		if (unlikely(size == GUARD_NONE)) report_pointer(function, block, NULL);
		return size;
	}
	if (s->kind == SPAN_SMALL) {
		check_small(s, block, function);
		return size_classes[s->class_].size;
	}
	if (unlikely(s->start != block || s->kind != SPAN_RUN)) report_pointer(function, block, NULL);
	return s->slices * SLICE_SIZE;
}

/* The bytes that a block would have that is asked for with this size and alignment, and is not guarded. */
static size_t ordinary_size(size_t align, size_t size) {
	const size_t rounded = align <= MIN_ALIGN ? size : ALIGN_UP(max_size(size, 1), align);
	if (rounded > SMALL_MAX) return ALIGN_UP(max_size(size, SMALL_MAX + 1), SLICE_SIZE);
	return rounded == 0 ? 0 : size_classes[class_of_aligned(max_size(align, MIN_ALIGN), rounded)].size;
}

/* Can new, or aligned_alloc with this alignment, have returned a block of `usable` bytes for this size? Another size of the same class
 * cannot be told from the right one, and is not when a sampled block, which knows its size, happens to come by. */
static bool may_be_size(const void *block, size_t align, size_t size, size_t usable) {
	if (size > PTRDIFF_MAX || align > PTRDIFF_MAX) return false;
	if (guard_owns(block)) return ordinary_size(align, size) == ordinary_size(align, usable);
	const size_t expected = ordinary_size(align, size), large = max_size(size, SMALL_MAX + 1);
	/* malloc(0) gives one of the smallest when there is no block of no bytes. */
	if (usable == 0 || expected == 0) return expected == 0 && usable <= MIN_ALIGN;
	/* Whole slices, or a kept mapping, which may be longer by a sixteenth. */
	return expected <= SMALL_MAX ? usable == expected : usable >= large && usable - large < large / 16 + SLICE_SIZE;
}

NOINLINE void release_sized(void *block, size_t align, size_t size, const struct claim *claim) {
	if (block == NULL) return;
	if (unlikely((modes & MODE_HARDEN) != 0)) {
		release(block, &(struct claim){ claim->function, claim->family, size });
		return;
	}
	if (unlikely(misuse_of_size() != MISUSE_IGNORE)) {
		const size_t usable = usable_size(block, claim->function);
		if (!may_be_size(block, align, size, usable)) misuse_size(claim->function, block, size, usable);
	}
	give_back(block, claim);
}

EXPORT void PUBLIC(free_aligned_sized)(void *block, size_t align, size_t size) {
	CLAIM(claim, "free_aligned_sized", FAMILY_MALLOC);
	release_sized(block, align, size, &claim);
}

EXPORT void PUBLIC(cfree)(void *block) {
	CLAIM(claim, "cfree", FAMILY_MALLOC);
	give_back(block, &claim);
}
