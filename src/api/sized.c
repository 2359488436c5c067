/* Blocks that come back with the size that was asked for: can that be right? free_sized, free_aligned_sized,
 * and what operator delete with a size leaves over. In hardened mode blocks know what they were asked for
 * with: the front compares. */
#include "api/sized.h"

#include "api/malloc.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "harden/misuse.h"

/* Is it for us to look at sizes? */
static inline bool are_checked(void) { return unlikely(!harden_is_on && misuse_of_size() != MISUSE_IGNORE); }

/* The bytes that a block would have that is asked for with this size and alignment, and is not guarded. */
static size_t ordinary_size(size_t align, size_t size) {
	const size_t rounded = align <= MIN_ALIGN ? size : ALIGN_UP(max_size(size, 1), align);
	if (rounded > SMALL_MAX) return ALIGN_UP(max_size(size, SMALL_MAX + 1), SLICE_SIZE);
	return rounded == 0 ? 0 : size_classes[class_of_aligned(max_size(align, MIN_ALIGN), rounded)].size;
}

/* Can new, or aligned_alloc with this alignment, have returned a block of `usable` bytes for this size?
 * Another size of the same class cannot be told from the right one, and is not when a sampled block, which
 * knows its size, happens to come by. */
static bool may_be_size(const void *block, size_t align, size_t size, size_t usable) {
	if (size > PTRDIFF_MAX || align > PTRDIFF_MAX) return false;
	if (guard_owns(block)) return ordinary_size(align, size) == ordinary_size(align, usable);
	const size_t expected = ordinary_size(align, size), large = max_size(size, SMALL_MAX + 1);
	/* malloc(0) gives one of the smallest when there is no block of no bytes. */
	if (usable == 0 || expected == 0) return expected == 0 && usable <= MIN_ALIGN;
	if (expected <= SMALL_MAX) return usable == expected;
	/* Whole slices, or a kept mapping, which may be longer by a sixteenth. */
	return usable >= large && usable - large < large / 16 + SLICE_SIZE;
}

/* realloc may have left the block longer than its size needs. */
static bool may_be_left_by_realloc(size_t size, size_t usable) {
	return size <= usable && (still_fits(size, usable) || misuse_sizes_tell_less());
}

static void check(void *block, size_t align, size_t size, const char *function) {
	const size_t usable = usable_size(block, function);
	if (!may_be_size(block, align, size, usable)) misuse_size(function, block, size, usable);
}

NOINLINE void release_sized(void *block, size_t align, size_t size, const struct claim *claim) {
	if (block == NULL) return;
	if (are_checked()) check(block, align, size, claim->function);
	if (unlikely(harden_is_on))
		free_medium(block, &(struct claim){ claim->function, claim->family, size });
	else
		release(block, claim);
}

void release_resized(void *block, size_t align, size_t size, const struct claim *claim) {
	if (block == NULL) return;
	if (are_checked() && may_be_left_by_realloc(size, usable_size(block, claim->function)))
		release(block, claim);
	else
		release_sized(block, align, size, claim);
}

/* C23: free with the size that was asked for, of malloc or of realloc. */
EXPORT void PUBLIC(free_sized)(void *block, size_t size) {
	CLAIM(claim, "free_sized", FAMILY_MALLOC);
	release_resized(block, MIN_ALIGN, size, &claim);
}

EXPORT void PUBLIC(free_aligned_sized)(void *block, size_t align, size_t size) {
	CLAIM(claim, "free_aligned_sized", FAMILY_MALLOC);
	release_sized(block, align, size, &claim);
}
