/* malloc and free, their stages in the order in which a call meets them. Most calls end in the first one.
 *
 *          fast (malloc.h: inlined)    medium                    slow
 *
 * malloc   up to 1 KiB: a table        up to 32 KiB: the class   the process starts; another front serves;
 *          leads to the thread's       is computed; up to        the heap profile counts; then from below the
 *          magazine                    1 MiB: a kept run         thread's cache: a refill, a run, a mapping
 *
 * free     the address's tag leads     NULL; another front       by the kind of its span: the magazine, where
 *          to the thread's magazine    serves; a run is kept     it has no tag; a flush; runs and mappings;
 *                                                                what is no block ends the program
 */
#include "api/malloc.h"

#include "arena/huge.h"
#include "arena/pressure.h"
#include "arena/report.h"
#include "arena/zero.h"
#include "cache/purger.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "harden/misuse.h"
#include "observe/profile.h"

/* ---- malloc ---- */

static NOINLINE void *malloc_computed(size_t size);

EXPORT void *PUBLIC(malloc)(size_t size) {
	if (unlikely(size > TABLE_MAX)) return malloc_computed(size);
	void *block = malloc_fast(size, TABLE_MAX + 1);
	return likely(block != NULL) ? block : malloc_medium(size, FAMILY_MALLOC);
}
LIBC_NAME(__libc_malloc, malloc);

/* ---- malloc, medium ---- */

/* While the heap profile is on: a block that is no sample is counted. */
static inline __attribute__((always_inline)) void *take_counted(struct tcache *tc, uint16_t tag,
                                                                size_t size) {
	void *block = magazine_take_off_the_way(tc, tag);
	if (likely(block != NULL)) sample_pass(&tc->sample, size);
	return block;
}

/* Sizes above TABLE_MAX: computing their class is most of the extra cost, when their magazine has blocks. */
static inline __attribute__((always_inline)) void *take_computed(size_t size) {
	if (unlikely(size > SMALL_MAX)) return take_run(size);
	struct tcache *tc = tcache_current;
	const unsigned class_ = class_of_size(size);
	void *block = magazine_take(tc, TAG_OF_CLASS(class_ & tc->class_mask));
	if (unlikely(block == NULL) && sample_passes(&tc->sample, size))
		block = take_counted(tc, TAG_OF_CLASS(class_), size);
	return block;
}

/* The others come here when their magazine has no blocks. While the heap profile is on, all do: those that
 * are no samples get their block as quickly as they can. */
static inline __attribute__((always_inline)) void *take(size_t size) {
	struct tcache *tc = tcache_current;
	if (size > TABLE_MAX) return take_computed(size);
	if (likely(!sample_passes(&tc->sample, size))) return NULL;
	return take_counted(tc, tcache_tags[(size + MIN_ALIGN - 1) / MIN_ALIGN], size);
}

static NOINLINE void *malloc_slow(size_t size, enum family family);

/* For malloc, whose fast stage has seen that the table does not have the size. */
static NOINLINE void *malloc_computed(size_t size) {
	void *block = take_computed(size);
	return likely(block != NULL) ? block : malloc_slow(size, FAMILY_MALLOC);
}

NOINLINE void *malloc_medium(size_t size, enum family family) {
	void *block = take(size);
	return likely(block != NULL) ? block : malloc_slow(size, family);
}

/* ---- malloc, slow ---- */

/* A block of a small span, or a guarded one: what lies behind that is not ours to look at. One without its
 * mark is left alone, whoever has it, unless the kernel took the mark. */
static inline __attribute__((always_inline)) void *fetch_small(size_t size, bool sampled) {
	const unsigned class_ = class_of_size(size);
	for (;;) {
		void *block = sampled ? tcache_alloc_sampled(class_, size) : tcache_alloc(class_, size);
		if (block == NULL || guard_owns(block) || likely(mark_take(block))) return block;
		if (mark_was_wiped(block)) return block;
		misuse_lost_mark("malloc", block);
	}
}

/* From below the thread's cache, which may be refilled for it. */
static inline __attribute__((always_inline)) void *fetch(size_t size, bool sampled) {
	if (size > SMALL_MAX) return tcache_alloc_large(size, MIN_ALIGN, false);
	void *block = likely(size > 0) ? NULL : zero_alloc(FAMILY_MALLOC);
	return block != NULL ? block : fetch_small(size, sampled);
}

/* When there was no memory. */
static COLD void *fetch_again(size_t size, bool sampled) {
	void *block = harden_reclaim(size) ? fetch(size, sampled) : NULL;
	if (block != NULL) return block;
	pressure_failed();
	errno = ENOMEM;
	return NULL;
}

static COLD void *fetch_sample(size_t size, uint64_t mean) {
	void *block = fetch(size, true);
	if (unlikely(block == NULL)) block = fetch_again(size, true);
	if (block != NULL) profile_add(block, size, mean);
	return block;
}

static NOINLINE void *fetch_or_sample(size_t size) {
	if (unlikely(sample_is_on()) && size > 0) {
		const uint64_t mean = tcache_sample_count(size);
		if (unlikely(mean != 0)) return fetch_sample(size, mean);
	}
	void *block = fetch(size, false);
	return likely(block != NULL) ? block : fetch_again(size, false);
}

static NOINLINE void *malloc_slow(size_t size, enum family family) {
	ensure_started();
	const struct front *instead = front_instead();
	return unlikely(instead != NULL) ? instead->allocate(size, family) : fetch_or_sample(size);
}

void *plain_allocate(size_t size, enum family family) {
	(void)family;
	void *block = malloc_fast(size, TABLE_MAX + 1);
	if (unlikely(block == NULL)) block = take(size);
	return likely(block != NULL) ? block : fetch_or_sample(size);
}

/* ---- free ---- */

EXPORT void PUBLIC(free)(void *block) {
	CLAIM(claim, "free", FAMILY_MALLOC);
	release(block, &claim);
}
LIBC_NAME(__libc_free, free);

EXPORT void PUBLIC(cfree)(void *block) {
	CLAIM(claim, "cfree", FAMILY_MALLOC);
	release(block, &claim);
}

/* ---- free, medium ---- */

/* `s`: the record of the slice where it lies, NULL when that is in no region. */
static NOINLINE void free_slow(void *block, const struct claim *claim, struct span *s);

/* Large blocks of up to 1 MiB go to what the thread keeps of them. */
static inline __attribute__((always_inline)) void free_by_span(void *block, const struct claim *claim) {
	struct span *s = slice_record(block);
	if (unlikely(s == NULL)) {
		free_slow(block, claim, NULL);
		return;
	}
	KEEP_IN_REGISTER(s);
	if (unlikely(s->kind != SPAN_RUN || s->start != block || s->altered) ||
	    unlikely(!run_keep(&tcache_current->run_cache, s)))
		free_slow(block, claim, s);
}

/* The same where the heap profile may have to hear of it. */
static void free_told(void *block, const struct claim *claim) {
	if (unlikely(sample_is_told()))
		free_slow(block, claim, slice_record(block));
	else
		free_by_span(block, claim);
}

static NOINLINE void free_seen(void *block, const struct claim *claim) {
	const struct front *instead = front_instead();
	instead != NULL ? instead->release(block, claim) : free_told(block, claim);
}

NOINLINE void free_medium(void *block, const struct claim *claim) {
	if (block == NULL) return;
	if (unlikely(frees_are_seen()))
		free_seen(block, claim);
	else
		free_by_span(block, claim);
}

void plain_release(void *block, const struct claim *claim) {
	if (!free_fast(block, &page_map.length)) free_told(block, claim);
}

/* ---- free, slow ---- */

/* The block is not looked at, see mark.h. */
void check_small(const struct span *s, const void *block, const char *function) {
	if (unlikely(!span_has_block_at(s, block))) report_pointer(function, block, NULL);
	if (unlikely(magazine_has_on_top(&tcache_current->magazines[s->class_], block)))
		report_pointer(function, block, ", and is in the cache of this thread");
}

static COLD void give_sampled(unsigned class_, void *block) {
	sample_freed(block);
	const uint64_t begin = slow_call_begins();
	arena_give_alone(class_, block);
	slow_call_ends(SLOW_FREE_SMALL, begin);
}

/* False: it is neither. */
static bool free_huge_or_guarded(void *block) {
	const uint64_t begin = slow_call_begins();
	const bool huge = huge_free(block), known = huge || guard_free(block);
	if (likely(known)) slow_call_ends(huge ? SLOW_FREE_LARGE : SLOW_FREE_SMALL, begin);
	return known;
}

/* What kind of block it is, and whether it is one at all. */
static NOINLINE void free_slow(void *block, const struct claim *claim, struct span *s) {
	if (likely(s != NULL)) s = span_of_slice(s);
	if (likely(s != NULL && s->kind == SPAN_SMALL)) {
		check_small(s, block, claim->function);
		/* Spans of several slices are not for the fast path, see block_starts_at. */
		struct magazine *m = &tcache_current->magazines[s->class_];
		if (likely(!s->sampled && !magazine_is_full(m))) {
			magazine_put_on(m, m->top, block);
			return;
		}
		mark_set(block);
		annotate_freed(block);
		if (unlikely(s->sampled))
			give_sampled(s->class_, block);
		else
			tcache_free(s->class_, block);
	} else if (s != NULL && s->kind == SPAN_RUN && s->start == block) {
		sample_freed(block);
		tcache_free_run(s);
	} else if (s == NULL && zero_owns(block)) {
		zero_free(block, claim->function);
	} else {
		sample_freed(block);
		if (unlikely(s != NULL || !free_huge_or_guarded(block))) report_pointer(claim->function, block, NULL);
	}
	purger_poke();
}
