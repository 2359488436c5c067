#include "arena/arena.h"

#include "arena/bin.h"
#include "arena/hard_span.h"
#include "arena/holes.h"
#include "arena/huge.h"
#include "arena/page_map.h"
#include "arena/pressure.h"
#include "arena/report.h"
#include "arena/thp.h"
#include "base/bitmap.h"
#include "base/conf.h"
#include "base/cpus.h"
#include "base/gate.h"
#include "base/meta.h"
#include "base/probe.h"

#include <string.h>

struct arena *arena_list[ARENAS_MAX];
_Atomic uint32_t arena_count;

static struct arena main_arena;
struct arena *_Atomic arena_of_samples;

uint64_t hard_span_generation;

/* What arenas are made of: regions, or guarded ones in hardened mode. */
static enum region_kind kind_of_arenas = REGION_MAPPED;

static void seed(struct arena *a) {
	struct random seeds = { os_random() };
	for (unsigned c = 0; c < CLASS_COUNT; c++) {
		lock_take(&a->bins[c].lock, RANK_BIN);
		a->random[c].state = random_next(&seeds);
		lock_drop(&a->bins[c].lock, RANK_BIN);
	}
}

void arena_reseed(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	for (uint32_t i = 0; i < count; i++)
		if (arena_list[i]->kind == REGION_GUARDED) seed(arena_list[i]);
}

static void setup(struct arena *a, enum region_kind kind, bool of_samples) {
	a->of_samples = of_samples;
	a->kind = kind;
	for (unsigned c = 0; c < CLASS_COUNT; c++) a->bins[c].arena = a;
	if (kind == REGION_GUARDED) seed(a);
}

void arena_init(void) {
	thp_start();
	setup(&main_arena, REGION_BRK, false);
	arena_list[0] = &main_arena;
	atomic_store_explicit(&arena_count, 1, memory_order_release);
}

/* Those that threads may use. */
static uint32_t count_in_use(uint32_t count) {
	uint32_t in_use = 0;
	for (uint32_t i = 0; i < count; i++) in_use += !arena_list[i]->of_samples && !arena_list[i]->inherited;
	return in_use;
}

static struct arena *add_arena(enum region_kind kind, bool of_samples) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	if (count >= ARENAS_MAX) return NULL;
	struct arena *a = meta_alloc(sizeof *a);
	if (a == NULL) return NULL;
	setup(a, kind, of_samples);
	arena_list[count] = a;
	atomic_store_explicit(&arena_count, count + 1, memory_order_release);
	return a;
}

struct arena *arena_create(void) {
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	uint32_t limit = conf.arena_max > 0 ? (uint32_t)conf.arena_max : cpus_count();
	if (count_in_use(count) >= limit) return NULL;
	return add_arena(kind_of_arenas, false);
}

bool arena_for_samples(void) {
	/* The break first: a program with one thread needs no region for it. */
	if (arena_of_samples == NULL) arena_of_samples = add_arena(REGION_BRK, true);
	return arena_of_samples != NULL;
}

bool arena_harden(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	struct arena *first = count < ARENAS_MAX ? meta_alloc(sizeof *first) : NULL;
	if (first == NULL) return false;
	kind_of_arenas = REGION_GUARDED;
	setup(first, REGION_GUARDED, false);
	/* The others stay at the end, for the blocks that came from there. */
	arena_list[count] = arena_list[0];
	arena_list[0] = first;
	atomic_store_explicit(&arena_count, count + 1, memory_order_release);
	return true;
}

bool arena_harden_anew(void) {
	if (!arena_harden()) return false;
	hard_span_generation++;
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_relaxed);
	for (uint32_t i = 1; i < count; i++) arena_list[i]->inherited = arena_list[i]->kind == REGION_GUARDED;
	return true;
}

/* ---- spans of a bin; all under bin->lock ---- */

/* The slices of a new span, and its bitmap. */
static struct span *span_slices(const struct size_class *c, enum region_kind kind) {
	struct span *s = heap_alloc(c->slices, 1, kind, SPAN_SMALL, NULL);
	if (s == NULL) return NULL;
	struct region *r = page_map_region((uintptr_t)s->start);
	s->free_blocks = r->free_blocks[slice_number((uintptr_t)s->start)];
	s->hard = false;
	return s;
}

static struct span *hard_span_slices(const struct size_class *c) {
	char *metadata = meta_alloc(hard_span_metadata(c));
	if (metadata == NULL) return NULL;
	struct stale stale;
	struct span *s = heap_alloc_guarded(c->slices, SPAN_SMALL, &stale);
	if (s == NULL) {
		meta_free(metadata, hard_span_metadata(c));
		return NULL;
	}
	if (stale.slices > 0) memset(s->start, 0, c->slices * SLICE_SIZE);
	s->free_blocks = (uint64_t *)(metadata + hard_span_metadata(c)) - bitmap_words(c);
	s->hard = true;
	struct random random = { os_random() };
	struct hard_span_secret *secret = hard_span_secret(s);
	for (size_t i = 0; i < sizeof secret->key / sizeof *secret->key; i++) secret->key[i] = random_next(&random);
	secret->generation = hard_span_generation;
	return s;
}

static struct span *create_span(struct bin *bin, unsigned class_) {
	const struct size_class *c = &size_classes[class_];
	const enum region_kind kind = (enum region_kind)bin->arena->kind;
	struct span *s = kind == REGION_GUARDED ? hard_span_slices(c) : span_slices(c, kind);
	if (s == NULL) return NULL;
	for (size_t w = 0; w * 64 < c->blocks; w++) s->free_blocks[w] = bits_in_word(w, 0, c->blocks);
	s->bin = bin;
	s->class_ = (uint8_t)class_;
	s->free_count = c->blocks;
	s->scan = 0;
	for (uint16_t i = 1; i < c->slices; i++) {
		s[i].head = i;
		s[i].kind = SPAN_CONTINUED;
	}
	s->sampled = bin->arena->of_samples;
	if (!s->hard && !s->sampled) page_map_set_tags((uintptr_t)s->start, c->slices, TAG_OF_CLASS(class_));
	s->purged = 0;
	s->lazy = false;
	s->away = false;
	s->touched = holes_tick();
	bin_link_first(bin, s);
	bin->spans++;
	PROBE(span_made, s->start, c->slices * SLICE_SIZE, c->size);
	return s;
}

void bin_free_span(struct span *s) {
	PROBE(span_freed, s->start, s->slices * SLICE_SIZE, size_classes[s->class_].size);
	if (!s->hard) page_map_set_tags((uintptr_t)s->start, s->slices, TAG_OF_CLASS(0));
	for (uint16_t i = 1; i < s->slices; i++) s[i].kind = SPAN_NONE;
	holes_forget(s, s->purged);
	if (s->hard) {
		meta_free(hard_span_metadata_of(s), hard_span_metadata(&size_classes[s->class_]));
		s->hard = false;
		heap_free_guarded(s);
	} else {
		heap_free(s);
	}
}

/* ---- taking and giving ---- */

static size_t take_any(struct span *s, const struct size_class *c, void **blocks, size_t count) {
	size_t taken = 0, word = s->scan;
	while (taken < count && s->free_count > 0) {
		uint64_t bits = s->free_blocks[word];
		uint64_t left = bits;
		while (left != 0 && taken < count) {
			size_t number = word * 64 + (size_t)__builtin_ctzll(left);
			left &= left - 1;
			blocks[taken++] = s->start + number * c->size;
			s->free_count--;
		}
		s->free_blocks[word] = left;
		if (left == 0) word++;
	}
	s->scan = (uint16_t)word;
	return taken;
}

static size_t take_random(struct span *s, const struct size_class *c, void **blocks, size_t count) {
	size_t taken = 0;
	for (; taken < count && s->free_count > 0; taken++) {
		const size_t from = random_below(&s->bin->arena->random[s->class_], c->blocks);
		size_t number = bit_find(s->free_blocks, from, c->blocks, true);
		if (number == c->blocks) number = bit_find(s->free_blocks, 0, from, true);
		bit_clear(s->free_blocks, number);
		s->free_count--;
		if (unlikely(s->purged != 0)) holes_fill(s, number * c->size, (number + 1) * c->size);
		blocks[taken] = s->start + number * c->size;
	}
	return taken;
}

static size_t take_from_span(struct span *s, const struct size_class *c, void **blocks, size_t count) {
	if (unlikely(s->hard)) return take_random(s, c, blocks, count);
	size_t taken = s->purged != 0 ? holes_take(s, c, blocks, count) : 0;
	return taken > 0 ? taken : take_any(s, c, blocks, count);
}

size_t arena_take(struct arena *arena, unsigned class_, void **blocks, size_t count) {
	struct bin *bin = &arena->bins[class_];
	size_t taken = 0;
	lock_take(&bin->lock, RANK_BIN);
	while (taken < count) {
		struct span *s = bin->partial;
		/* A new span for the first block only: what the batch has got by then is enough. */
		if (s == NULL && (taken > 0 || (s = create_span(bin, class_)) == NULL)) break;
		taken += take_from_span(s, &size_classes[class_], blocks + taken, count - taken);
		if (s->free_count == 0) bin_unlink(bin, s);
	}
	bin->blocks_out += taken;
	bin->refills++;
	holes_watch_take(bin, class_);
	lock_drop(&bin->lock, RANK_BIN);
	PROBE(refill, size_classes[class_].size, taken);
	pressure_poke();
	return taken;
}

/* Empty spans go back, but for the last one. Of hardened ones more stay, until they are purged as idle: as much as is in use,
 * and this many bytes. To close a span and to open another takes two calls of the kernel and all of its page faults. */
#define HARD_KEPT (128 * KIB)

static bool has_enough(const struct bin *bin, const struct span *s, const struct size_class *c) {
	if (unlikely(bin->arena->inherited)) return true;
	if (bin->partial == NULL || (bin->partial == s && s->next == NULL)) return false;
	if (likely(!s->hard)) return true;
	const size_t room = (size_t)bin->spans * c->blocks, free_blocks = room > bin->blocks_out ? room - bin->blocks_out : 0;
	return free_blocks > bin->blocks_out + HARD_KEPT / c->size + c->blocks;
}

/* One block of the bin. The span was looked up without the lock; that it is still the same is sure for a block that the
 * program or a cache held, and checked for all others. */
static void give_block(struct bin *bin, struct span *s, unsigned class_, void *block, uint8_t tick, struct span **retired) {
	const struct size_class *c = &size_classes[class_];
	if (unlikely(!span_has_block_at(s, block))) report_pointer("free", block, NULL);
	size_t number = block_number(c, (size_t)((char *)block - s->start));
	uint64_t *word = &s->free_blocks[number / 64], bit = UINT64_C(1) << (number % 64);
	if (unlikely(*word & bit)) report_pointer("free", block, NULL);
	*word |= bit;
	s->free_count++;
	if (number / 64 < s->scan) s->scan = (uint16_t)(number / 64);
	s->touched = tick;
	if (unlikely(s->away)) return;
	if (s->free_count == c->blocks && has_enough(bin, s, c)) {
		if (!s->listed) bin_link_first(bin, s);
		bin_retire(bin, s, retired);
	} else if (!s->listed) {
		bin_link_first(bin, s);
	}
}

/* The block's span. *region is the one that was looked at last: the blocks of a batch mostly lie in the same one. */
static inline struct span *owned_span(void *block, unsigned class_, struct region **region) {
	uintptr_t address = (uintptr_t)block;
	uintptr_t offset = *region != NULL ? address - (*region)->base : REGION_SIZE;
	if (unlikely(offset >= REGION_SIZE)) {
		*region = page_map_region(address);
		if (unlikely(*region == NULL)) report_pointer("free", block, NULL);
		offset = address % REGION_SIZE;
	}
	struct span *s = &(*region)->spans[offset >> SLICE_SHIFT];
	if (s->kind == SPAN_CONTINUED) s -= s->head;
	if (unlikely(s->kind != SPAN_SMALL || s->class_ != class_)) report_pointer("free", block, NULL);
	return s;
}

/* One bin in eight, the next ones each time: all spans of a large heap are too many for one call of free. */
static void look_at_some(void) {
	static _Atomic uint32_t turn;
	const uint32_t bins = atomic_load_explicit(&arena_count, memory_order_acquire) * (CLASS_COUNT - 1);
	for (uint32_t n = bins / 8; n > 0; n--) {
		const uint32_t i = atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % bins;
		const unsigned class_ = 1 + i % (CLASS_COUNT - 1);
		holes_purge_now(&arena_list[i / (CLASS_COUNT - 1)]->bins[class_], class_, IDLE_TICKS);
	}
}

void arena_give(unsigned class_, void **blocks, size_t count) {
	struct region *region = NULL;
	const uint8_t tick = holes_tick();
	while (count > 0) {
		struct bin *bin = owned_span(blocks[0], class_, &region)->bin;
		if (unlikely(bin == NULL)) report_pointer("free", blocks[0], NULL); /* with all others of its span */
		struct span *retired = NULL;
		size_t others = 0, given = 0;
		lock_take(&bin->lock, RANK_BIN);
		for (size_t i = 0; i < count; i++) {
			struct span *s = owned_span(blocks[i], class_, &region);
			if (s->bin == bin) {
				give_block(bin, s, class_, blocks[i], tick, &retired);
				given++;
			} else {
				blocks[others++] = blocks[i];
			}
		}
		bin->blocks_out -= given;
		bin->flushes++;
		const bool many_free = holes_watch_give(bin), look = holes_look_due(bin);
		lock_drop(&bin->lock, RANK_BIN);
		PROBE(flush, size_classes[class_].size, given);
		bin_free_retired(retired);
		if (unlikely(many_free)) holes_purge_now(bin, class_, 0);
		if (unlikely(look)) look_at_some();
		count = others;
	}
}

bool arena_has_free(const struct span *s, const void *block) {
	struct bin *bin = *(struct bin *const volatile *)&s->bin;
	if (bin == NULL) return true; /* with all others of its span */
	lock_take(&bin->lock, RANK_BIN);
	const size_t number = block_number(&size_classes[s->class_], (size_t)((const char *)block - s->start));
	const bool is_free = bit_get(s->free_blocks, number);
	lock_drop(&bin->lock, RANK_BIN);
	return is_free;
}

size_t arena_purge_holes(unsigned idle_ticks, bool now, bool *more_later) {
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	size_t purged = 0;
	*more_later = false;
	for (uint32_t a = 0; a < count; a++)
		for (unsigned c = 1; c < CLASS_COUNT; c++)
			purged += holes_purge(&arena_list[a]->bins[c], c, idle_ticks, now, more_later);
	return purged;
}

/* Empty spans go back to the page heap: the last ones, too, that a bin keeps. */
static void retire_empty(struct bin *bin, unsigned class_) {
	struct span *retired = NULL;
	if (!gate_try_enter()) return; /* no fork comes while they are retired */
	lock_take(&bin->lock, RANK_BIN);
	for (struct span *s = bin->partial, *next; s != NULL; s = next) {
		next = s->next;
		if (s->free_count == size_classes[class_].blocks) bin_retire(bin, s, &retired);
	}
	lock_drop(&bin->lock, RANK_BIN);
	bin_free_retired(retired);
	gate_leave();
}

void arena_release_all(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	for (uint32_t a = 0; a < count; a++)
		for (unsigned c = 1; c < CLASS_COUNT; c++) retire_empty(&arena_list[a]->bins[c], c);
	huge_purge();
	heap_release();
}

size_t arena_purge_all(size_t keep_top) {
	bool more_later;
	size_t purged = arena_purge_holes(0, true, &more_later) + heap_trim(keep_top) + huge_purge();
	return purged + heap_purge();
}

void arena_lock_all(void) {
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	for (uint32_t a = 0; a < count; a++)
		for (unsigned c = 1; c < CLASS_COUNT; c++) lock_take(&arena_list[a]->bins[c].lock, RANK_BIN);
	heap_lock();
}

void arena_unlock_all(void) {
	heap_unlock();
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	for (uint32_t a = count; a-- > 0;)
		for (unsigned c = CLASS_COUNT; c-- > 1;) lock_drop(&arena_list[a]->bins[c].lock, RANK_BIN);
}
