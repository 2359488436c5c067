/* What an arena does for thread caches: blocks are taken from a bin's spans, and given back to the bin that
 * owns their span. */
#include "arena/bin.h"

#include <string.h>

#include "arena/arena.h"
#include "arena/bare.h"
#include "arena/batch.h"
#include "arena/hard_span.h"
#include "arena/holes.h"
#include "arena/page_map.h"
#include "arena/report.h"
#include "arena/thp.h"
#include "base/bitmap.h"
#include "base/gate.h"
#include "base/probe.h"

/* ---- spans of a bin; all under bin->lock ---- */

/* The slices of a new span, and its bitmap. */
static struct span *span_slices(const struct size_class *c, enum region_kind kind) {
	struct stale stale;
	struct span *s = heap_alloc(c->slices, 1, kind, SPAN_SMALL, &stale);
	if (s == NULL) return NULL;
	struct region *r = page_map_region((uintptr_t)s->start);
	const size_t slice = slice_number((uintptr_t)s->start);
	s->free_blocks = region_bitmap(r, slice, c->blocks);
	s->backed = stale.slices == c->slices || thp_covers(r, slice);
	s->clean = stale.slices == 0;
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
	s->backed = false;
	struct random random = { os_random() };
	struct hard_span_secret *secret = hard_span_secret(s);
	for (size_t i = 0; i < sizeof secret->key / sizeof *secret->key; i++)
		secret->key[i] = random_next(&random);
	secret->generation = hard_span_generation;
	return s;
}

static struct span *create_span(struct bin *bin, unsigned class_) {
	const struct size_class *c = &size_classes[class_];
	const enum region_kind kind = (enum region_kind)bin->arena->kind;
	struct span *s = kind == REGION_GUARDED ? hard_span_slices(c) : span_slices(c, kind);
	if (s == NULL) return NULL;
	for (size_t w = 0; w * 64 < c->blocks; w++) s->free_blocks[w] = bits_in_word(w, 0, c->blocks);
	span_set_bin(s, bin);
	s->class_ = (uint8_t)class_;
	s->free_count = c->blocks;
	s->scan = 0;
	for (uint16_t i = 1; i < c->slices; i++) {
		s[i].head = i;
		s[i].kind = SPAN_CONTINUED;
	}
	s->sampled = bin->arena->apart;
	if (!s->hard && !s->sampled) page_map_set_tags((uintptr_t)s->start, c->slices, TAG_OF_CLASS(class_));
	s->purged = 0;
	s->lazy = false;
	s->away = false;
	s->awaited = false;
	bare_new(s, c);
	s->touched = 0;
	span_touch(page_map_region((uintptr_t)s->start), s, holes_tick());
	bin_link_first(bin, s);
	bin->spans++;
	PROBE(span_made, s->start, c->slices * SLICE_SIZE, c->size);
	return s;
}

void bin_free_span(struct span *s) {
	PROBE(span_freed, s->start, s->slices * SLICE_SIZE, size_classes[s->class_].size);
	if (!s->hard) page_map_set_tags((uintptr_t)s->start, s->slices, TAG_OF_CLASS(0));
	for (uint16_t i = 1; i < s->slices; i++) s[i].kind = SPAN_NONE;
	if (s->hard) {
		holes_forget(s, s->purged);
		meta_free(hard_span_metadata_of(s), hard_span_metadata(&size_classes[s->class_]));
		s->hard = false;
		heap_free_guarded(s);
	} else if (likely(s->purged == 0) || holes_return(s)) {
		heap_free(s);
	} else {
		heap_free_clean(s);
	}
}

/* ---- taking and giving ---- */

static size_t take_random(struct span *s, const struct size_class *c, void **end, size_t count) {
	size_t taken = 0;
	for (; taken < count && s->free_count > 0; taken++) {
		const size_t from = random_below(&s->bin->arena->random[s->class_], c->blocks);
		size_t number = bit_find(s->free_blocks, from, c->blocks, true);
		if (number == c->blocks) number = bit_find(s->free_blocks, 0, from, true);
		bit_clear(s->free_blocks, number);
		s->free_count--;
		if (unlikely(s->purged != 0)) holes_fill(s, number * c->size, (number + 1) * c->size);
		*--end = s->start + number * c->size;
	}
	return taken;
}

/* Blocks of a span that has some, as bare_take gives them, or batch_take where there is a batch, or of a
 * hardened one by chance. None as well when its holes are not to be filled: that would pass the cap. */
static inline size_t take_from(struct span *s, const struct size_class *c, void **end, size_t count,
                               enum second_word *word, struct batch *batch) {
	size_t holes;
	if (unlikely(!holes_reserve(s, &holes))) return 0;
	const size_t taken = unlikely(s->hard) ? take_random(s, c, end, count)
	                     : batch != NULL   ? batch_take(batch, s, c, end, count, word)
	                                       : bare_take(s, c, end, count, word);
	cap_give(holes);
	return taken;
}

/* Drops the bin's lock. The word is that of bare blocks, if these were taken. */
static inline size_t end_refill(struct bin *bin, unsigned class_, void **end, size_t taken,
                                enum second_word word, struct bare_blocks *bare, const struct batch *batch) {
	const struct size_class *c = &size_classes[class_];
	bin->blocks_out += taken;
	bin->refills++;
	holes_watch_take(bin, class_);
	lock_drop(&bin->lock, RANK_BIN);
	if (batch != NULL) batch_tell(batch, c->size);
	PROBE(refill, c->size, taken);
	pressure_poke();
	bare->count = 0;
	if (taken > 0 && word != WORD_IS_MARK) *bare = (struct bare_blocks){ end[-1], taken, c->size, word };
	return taken;
}

size_t arena_take_run(struct arena *arena, unsigned class_, void **end, size_t few, size_t most,
                      struct bare_blocks *bare) {
	struct bin *bin = &arena->bins[class_];
	const struct size_class *c = &size_classes[class_];
	size_t taken = 0;
	enum second_word word = WORD_IS_MARK;
	lock_take(&bin->lock, RANK_BIN);
	struct span *s = bin->partial != NULL ? bin->partial : create_span(bin, class_);
	if (s != NULL) {
		taken = take_from(s, c, end, few, NULL, NULL);
		if (taken == 0) taken = take_from(s, c, end, most, &word, NULL);
		if (s->free_count == 0) bin_unlink_full(bin, s);
	}
	return end_refill(bin, class_, end, taken, word, bare, NULL);
}

static inline __attribute__((always_inline)) size_t refill(struct arena *arena, unsigned class_, void **end,
                                                           size_t count, struct bare_blocks *bare,
                                                           struct batch *batch) {
	struct bin *bin = &arena->bins[class_];
	const struct size_class *c = &size_classes[class_];
	size_t taken = 0;
	enum second_word word = WORD_IS_MARK;
	lock_take(&bin->lock, RANK_BIN);
	while (taken < count) {
		/* A new span, or bare blocks, for the first block only: what the batch has got by then is enough. */
		if (bin->partial == NULL && (taken > 0 || create_span(bin, class_) == NULL)) break;
		struct span *s = bin->partial;
		taken += take_from(s, c, end - taken, count - taken, taken == 0 ? &word : NULL, batch);
		if (s->free_count == 0) bin_unlink_full(bin, s);
		if (s->free_count > 0 || word != WORD_IS_MARK) break;
	}
	return end_refill(bin, class_, end, taken, word, bare, batch);
}

static NOINLINE size_t refill_long(struct arena *arena, unsigned class_, void **end, size_t count,
                                   struct bare_blocks *bare) {
	struct batch batch;
	batch.words = 0;
	return refill(arena, class_, end, count, bare, &batch);
}

size_t arena_take_bare(struct arena *arena, unsigned class_, void **end, size_t count,
                       struct bare_blocks *bare) {
	if (count >= BATCH_LONG) return refill_long(arena, class_, end, count, bare);
	return refill(arena, class_, end, count, bare, NULL);
}

/* Empty spans go back, but for the last one. Of hardened ones more stay, until they are purged as idle. */
static bool has_enough(const struct bin *bin, const struct span *s, const struct size_class *c) {
	if (unlikely(bin->arena->inherited)) return true;
	if (bin->partial == NULL || (bin->partial == s && s->next == NULL)) return false;
	if (likely(!s->hard)) return true;
	const size_t room = (size_t)bin->spans * c->blocks,
	             free_blocks = room > bin->blocks_out ? room - bin->blocks_out : 0;
	return free_blocks > bin->blocks_out + HARD_SPANS_KEPT / c->size + c->blocks;
}

/* The span is empty, or has its first free block. */
static NOINLINE void relink(struct bin *bin, struct span *s, const struct size_class *c,
                            struct span **retired) {
	if (unlikely(s->away)) return;
	if (!s->listed) bin_link_again(bin, s);
	if (s->free_count == c->blocks && has_enough(bin, s, c)) bin_retire(bin, s, retired);
}

/* Gives the blocks at the front of a batch that lie in this span of the bin, for mostly several do. Returns
 * how many. The span was looked up without the lock; that it is still the same is sure for a block that the
 * program or a cache held, and checked for all others. */
static inline __attribute__((always_inline)) size_t give_front(struct span *s, const struct size_class *c,
                                                               void **blocks, size_t count) {
	const char *start = s->start;
	size_t given = 0, lowest = s->scan, offset = (size_t)((char *)blocks[0] - start);
	do {
		const size_t number = block_number(c, offset);
		if (unlikely(number * c->size != offset || number >= c->blocks))
			report_pointer("free", blocks[given], NULL);
		uint64_t *word = &s->free_blocks[number / 64], bit = UINT64_C(1) << (number % 64);
		if (unlikely(*word & bit)) report_pointer("free", blocks[given], ", and is back in its arena");
		*word |= bit;
		lowest = min_size(lowest, number / 64);
		if (++given == count) break;
		offset = (size_t)((char *)blocks[given] - start);
	} while (offset < c->slices * SLICE_SIZE);
	s->free_count = (uint16_t)(s->free_count + given);
	s->scan = (uint8_t)lowest;
	return given;
}

/* The block's span. *region is the one that was looked at last: the blocks of a batch mostly lie in the same
 * one. */
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

void arena_give(unsigned class_, void **blocks, size_t count) {
	struct region *region = NULL;
	const struct size_class *c = &size_classes[class_];
	const uint8_t tick = holes_tick();
	while (count > 0) {
		struct bin *bin = owned_span(blocks[0], class_, &region)->bin;
		/* With all others of its span. */
		if (unlikely(bin == NULL)) report_pointer("free", blocks[0], ", and is back in its arena");
		struct span *retired = NULL;
		size_t others = 0, given = 0;
		lock_take(&bin->lock, RANK_BIN);
		for (size_t i = 0; i < count;) {
			struct span *s = owned_span(blocks[i], class_, &region);
			if (s->bin == bin) {
				const size_t n = give_front(s, c, blocks + i, count - i);
				given += n;
				i += n;
				span_touch(region, s, tick);
				if (unlikely(!s->listed || s->free_count == c->blocks)) relink(bin, s, c, &retired);
			} else {
				blocks[others++] = blocks[i++];
			}
		}
		bin->blocks_out -= given;
		bin->flushes++;
		holes_watch_give(bin);
		holes_watch_time(bin);
		lock_drop(&bin->lock, RANK_BIN);
		PROBE(flush, size_classes[class_].size, given);
		bin_free_retired(retired);
		count = others;
	}
}

bool arena_has_free(const struct span *s, const void *block) {
	struct bin *bin = span_bin(s);
	if (bin == NULL) return true; /* with all others of its span */
	lock_take(&bin->lock, RANK_BIN);
	const size_t number = block_number(&size_classes[s->class_], (size_t)((const char *)block - s->start));
	const bool is_free = bit_get(s->free_blocks, number);
	lock_drop(&bin->lock, RANK_BIN);
	return is_free;
}

void bin_pass(const struct bin *bin, struct span *s) {
	struct bin_walk *walk = bin_walk(bin);
	if (walk->next == s) bin_go_on(&walk->next, s->next);
	if (walk->next_piece == s) bin_go_on(&walk->next_piece, s->next);
	s->awaited = false;
}

void bin_retire_empty(struct bin *bin, unsigned class_) {
	struct bin_walk *walk = bin_walk(bin);
	size_t left = SIZE_MAX;
	while (left > 0 && gate_try_enter()) { /* no fork comes while they are retired */
		struct span *retired = NULL;
		lock_take(&bin->lock, RANK_BIN);
		if (left == SIZE_MAX) {
			left = bin_is_purged(bin) ? 0 : bin->spans;
			bin_walk_begins(bin);
		}
		struct span *s = walk->next, *next;
		for (size_t most = min_size(left, BIN_LOOK); s != NULL && most > 0; most--, left--, s = next) {
			next = s->next;
			if (s->free_count == size_classes[class_].blocks) bin_retire(bin, s, &retired);
		}
		bin_go_on(&walk->next, s);
		if (s == NULL) left = 0;
		lock_drop(&bin->lock, RANK_BIN);
		bin_free_retired(retired);
		gate_leave();
	}
}
