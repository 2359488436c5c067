#include "harden/harden.h"

#include <errno.h>

#include "arena/pressure.h"
#include "arena/report.h"
#include "arena/zero.h"
#include "base/cap.h"
#include "base/conf.h"
#include "base/gate.h"
#include "base/print.h"
#include "base/process.h"
#include "cache/tcache.h"
#include "harden/block.h"
#include "harden/hard_large.h"
#include "harden/misuse.h"

bool harden_is_on;

/* For blocks that were handed out before. Written once, by harden_start. */
static const struct front *plain;

static const char *const sources[FAMILY_COUNT] = {
	"malloc",
	"operator new",
	"operator new[]",
	"operator new with an alignment",
	"operator new[] with an alignment",
};

/* A C++ library of its own inside of a library, or of a program, gets its memory from malloc. What it made
 * the rest of the program may delete, and the other way round: that is right where malloc stands for new
 * without [] on one side, and said once where it stands for new with []. Two functions of C++ that do not
 * belong together are a mistake for certain. */
static void check_family(const void *block, enum family family, const struct claim *claim) {
	const enum family other = family == FAMILY_MALLOC ? claim->family : family;
	const bool has_malloc = family == FAMILY_MALLOC || claim->family == FAMILY_MALLOC;
	if (family == claim->family) return;
	if (has_malloc && (other == FAMILY_NEW || other == FAMILY_NEW_ALIGNED)) return;
	misuse_family(claim->function, block, sources[family], has_malloc ? MISUSE_REPORT : MISUSE_END);
}

COLD void harden_doubt_claim(const void *block, size_t size, enum family family, const struct claim *claim) {
	check_family(block, family, claim);
	if (claim->size == SIZE_UNKNOWN || claim->size == size) return;
	if (claim->size > size || !misuse_sizes_tell_less())
		misuse_size(claim->function, block, claim->size, size);
}

/* Tags lead free to magazines, where blocks from before would meet hardened ones. */
static void forget_tags(void) {
	for (struct region *r = heap_regions(); r != NULL; r = r->next)
		for (const struct span *s = r->spans; s < r->spans + REGION_SLICES; s++)
			if (s->kind == SPAN_SMALL && !s->hard)
				page_map_set_tags((uintptr_t)s->start, s->slices, TAG_OF_CLASS(0));
}

/* In a child: said first, for what is to be done may come back here. */
static COLD void draw_secrets(void) {
	process_set_secrets(true);
	tcache_harden_anew();
	large_hard_draw_key();
}

static NOINLINE void *alloc_other(size_t align, size_t size, enum family family) {
	if (size == 0 && align <= MIN_ALIGN) {
		void *block = zero_alloc(family);
		if (block != NULL) return block;
	}
	if (likely(size <= HARD_SMALL_MAX && align <= SMALL_MAX))
		return small_alloc(small_class(align, size), size, family);
	return large_hard_alloc(align, size, family);
}

static inline void *alloc_once(size_t align, size_t size, enum family family) {
	if (unlikely(size - 1 >= HARD_SMALL_MAX || align > MIN_ALIGN)) return alloc_other(align, size, family);
	return small_alloc(class_of_size(size + CANARY_SIZE), size, family);
}

static COLD void *alloc_again(size_t align, size_t size, enum family family) {
	void *block = harden_reclaim(size) ? alloc_once(align, size, family) : NULL;
	if (block == NULL) pressure_failed();
	return block;
}

static inline __attribute__((always_inline)) void *alloc(size_t align, size_t size, enum family family) {
	if (unlikely(!process_has_secrets())) draw_secrets();
	void *block = alloc_once(align, size, family);
	return likely(block != NULL) ? block : alloc_again(align, size, family);
}

static NOINLINE void *hardened_allocate(size_t size, enum family family) {
	void *block = sample_allocated(alloc(MIN_ALIGN, size, family), size);
	if (unlikely(block == NULL)) errno = ENOMEM;
	return block;
}

/* Every block does. */
static void *hardened_allocate_zeroed(size_t size) { return hardened_allocate(size, FAMILY_MALLOC); }

static void *hardened_allocate_aligned(size_t align, size_t size, enum family family) {
	return sample_allocated(alloc(align, size, family), size);
}

/* The span of a hardened small block. */
static struct span *hard_span_of(const void *block) {
	struct span *s = span_of(block);
	return s != NULL && s->hard ? s : NULL;
}

/* False: it is not a hardened block. */
static NOINLINE bool free_other(struct span *s, void *block, const struct claim *claim) {
	if (s != NULL) {
		/* From before, when blocks were not hardened. Its like must not come into the magazines. */
		if (s->kind != SPAN_SMALL) return false;
		if (!span_has_block_at(s, block)) report_pointer(claim->function, block, NULL);
		arena_give_alone(s->class_, block);
	} else if (zero_owns(block)) {
		harden_check_claim(block, 0, (enum family)zero_family(block, claim->function), claim);
		zero_free(block, claim->function);
	} else {
		return large_hard_free(block, claim);
	}
	return true;
}

bool harden_reclaim(size_t size) {
	if (size >> ADDRESS_BITS != 0 || (conf.cap > 0 && size > (size_t)conf.cap)) return false;
	tcache_flush_all();
	large_hard_release();
	/* Inside of the gate: while a fork is under way, nobody would free or purge anything otherwise, and the
	 * program would be told that there is no memory. */
	gate_enter();
	arena_release_all(size);
	if (conf.cap != 0) harden_purge_all(0); /* only memory counts for the cap */
	gate_leave();
	return true;
}

size_t harden_purge_all(size_t keep_top) { return arena_purge_all(keep_top) + large_hard_purge(); }

static void hardened_release(void *block, const struct claim *claim) {
	sample_freed(block);
	struct span *s = span_of(block);
	if (likely(s != NULL && s->hard))
		small_free(s, block, claim);
	else if (!free_other(s, block, claim))
		plain->release(block, claim);
}

/* The bytes that were asked for. False: it is not a hardened block. */
static bool find(const void *block, const char *function, size_t *size, enum family *family) {
	const struct span *s = span_of(block);
	if (s != NULL) {
		if (!s->hard) return false;
		*size = small_size(s, block, function, family);
		return true;
	}
	if (!zero_owns(block)) return large_hard_size(block, size, family);
	*size = 0;
	*family = (enum family)zero_family(block, function);
	return true;
}

static size_t hardened_usable_size(void *block, const char *function) {
	size_t size;
	enum family family;
	return likely(find(block, function, &size, &family)) ? size : plain->usable_size(block, function);
}

/* Nobody else can free the block, or resize it, until it is let go, resized or freed: blocks of no size are
 * theirs who frees them first. */
static bool hold(void *block, size_t *size, enum family *family) {
	struct span *s = hard_span_of(block);
	if (s == NULL && span_of(block) == NULL && !zero_owns(block)) return large_hard_hold(block, size, family);
	if (s == NULL) return find(block, "realloc", size, family);
	*size = small_hold(s, block, family);
	return true;
}

static void let_go(struct span *s, void *block) {
	if (s != NULL)
		small_let_go(s, block);
	else if (!zero_owns(block))
		large_hard_let_go(block);
}

static void free_held(struct span *s, void *block) {
	if (s != NULL)
		small_free_held(s, block);
	else if (zero_owns(block))
		zero_free(block, "realloc");
	else
		large_hard_free_held(block);
}

/* At the cap, once more: to grow needs less than another block. */
static void *resize_hard_large(void *block, size_t old, size_t size) {
	void *moved = large_hard_resize(block, size);
	const bool again = moved == NULL && size > old && conf.cap > 0 && harden_reclaim(size);
	if (unlikely(again)) moved = large_hard_resize(block, size);
	return moved;
}

/* False: it has to move to another block. */
static bool resize_held(struct span *s, void *block, size_t old, size_t size, void **moved) {
	*moved = block;
	if (s != NULL && size <= HARD_SMALL_MAX && small_class(MIN_ALIGN, size) == s->class_)
		small_resize(s, block, size);
	else if (s == NULL && old > 0 && size > HARD_SMALL_MAX)
		return (*moved = resize_hard_large(block, old, size)) != NULL;
	else
		return false;
	return true;
}

static void *move_held(struct span *s, void *block, size_t old, size_t size) {
	void *moved = alloc(MIN_ALIGN, size, FAMILY_MALLOC);
	if (moved != NULL) {
		memcpy(moved, block, min_size(old, size));
		free_held(s, block);
		return moved;
	}
	let_go(s, block);
	if (size > old) return NULL;
	/* Programs do not expect that a block cannot be made smaller: it stays as long as it is. */
	misuse_trust_sizes_less();
	return block;
}

static void *hardened_resize(void *block, size_t size) {
	const struct claim claim = { "realloc", FAMILY_MALLOC, SIZE_UNKNOWN };
	size_t old;
	enum family family;
	sample_freed(block);
	if (!hold(block, &old, &family)) return plain->resize(block, size);
	struct span *s = hard_span_of(block);
	harden_check_claim(block, old, family, &claim);
	void *moved;
	if (!resize_held(s, block, old, size, &moved)) moved = move_held(s, block, old, size);
	sample_allocated(moved, size);
	if (unlikely(moved == NULL)) errno = ENOMEM;
	return moved;
}

/* ---- the front ---- */

static const struct front hardened = {
	hardened_allocate, hardened_allocate_zeroed, hardened_allocate_aligned,
	hardened_resize,   hardened_release,         hardened_usable_size,
};

const struct front *harden_start(const struct front *behind) {
	process_watch(); /* children are to have other keys */
	if (!tcache_harden()) {
		print_fd(2, "arenal: no memory for hardened mode; the program ends here\n");
		os_abort();
	}
	large_hard_start();
	forget_tags();
	plain = behind;
	harden_is_on = true;
	return &hardened;
}
