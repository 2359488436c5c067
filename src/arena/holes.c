#include "arena/holes.h"

#include "arena/bare.h"
#include "arena/bin.h"
#include "arena/thp.h"
#include "base/bitmap.h"
#include "base/gate.h"

static_assert(SPAN_SLICES_MAX * SLICE_SIZE / PURGE_PAGE <= 64,
              "span.purged has a bit for each page of a span");

/* Spans that are purged in one go, inside of the gate: a fork waits for one. */
#define GO 32

_Atomic size_t holes_bytes, holes_lazy_bytes;
_Atomic uint8_t holes_current_tick = 1;

void holes_next_tick(void) {
	uint8_t tick = holes_tick();
	atomic_store_explicit(&holes_current_tick, (uint8_t)(tick == UINT8_MAX ? 1 : tick + 1),
	                      memory_order_relaxed);
}

__thread struct bin *holes_bin_due;

/* Pieces of it: one for each batch that came back, so that they keep up where one call gives many. */
#define PIECES_MOST 8
static_assert(PIECES_MOST * BATCH_MAX >= MAGAZINE_SHARED_SLOTS / 2, "the batches of one flush");
static __thread __attribute__((tls_model("initial-exec"))) unsigned pieces_due;

/* Words of regions' `touched` that those who free are to look at, in this interval. */
static _Atomic intptr_t words_due;

_Atomic bool holes_are_due;

void holes_count_time(void) {
	static _Atomic uint64_t start; /* milliseconds, of the running tick */
	const uint64_t now = os_milliseconds();
	uint64_t then = atomic_load_explicit(&start, memory_order_relaxed);
	if (conf.decay <= 0 || now - then < decay_interval() || purge_later(now)) return;
	if (!atomic_compare_exchange_strong_explicit(&start, &then, now, memory_order_relaxed,
	                                             memory_order_relaxed))
		return;
	holes_next_tick();
	size_t words = 0;
	for (const struct region *r = heap_regions(); r != NULL; r = r->next) words += REGION_SLICES / 64;
	atomic_store_explicit(&words_due, (intptr_t)(words / HOLES_SHARE + 1), memory_order_relaxed);
	atomic_store_explicit(&holes_are_due, true, memory_order_relaxed);
}

void holes_purge_due(void) {
	struct bin *bin = holes_bin_due;
	atomic_store_explicit(&holes_are_due, false, memory_order_relaxed);
	holes_bin_due = NULL;
	size_t total = 0;
	for (; bin != NULL && pieces_due > 0; pieces_due--) total += holes_purge_piece(bin);
	if (atomic_load_explicit(&words_due, memory_order_relaxed) > 0 && !purge_later(os_milliseconds()))
		total += holes_purge_some();
	if (atomic_load_explicit(&words_due, memory_order_relaxed) > 0)
		atomic_store_explicit(&holes_are_due, true, memory_order_relaxed);
	allowance_charge(total);
}

uint64_t holes_pages_of(size_t from, size_t to) {
	size_t first = ALIGN_DOWN(from, os_page_size) / PURGE_PAGE;
	return bits_in_word(0, first, ALIGN_UP(to, os_page_size) / PURGE_PAGE - first);
}

/* Are blocks [first, stop) of the bitmap free? They are few. */
static bool are_free(const uint64_t *map, size_t first, size_t stop) {
	for (size_t w = first / 64; w * 64 < stop; w++)
		if (~map[w] & bits_in_word(w, first, stop - first)) return false;
	return true;
}

/* The pages that hold only free blocks, and nothing. What lies behind the last block goes with it. */
static uint64_t free_pages(const struct span *s, const struct size_class *c) {
	const size_t end = s->slices * SLICE_SIZE, used = c->blocks - s->free_count;
	uint64_t pages = 0;
	if (end - used * c->size < os_page_size) return 0; /* wherever these lie */
	for (size_t at = 0; at < end; at += os_page_size) {
		const size_t first = min_size(block_number(c, at), c->blocks - 1u),
		             last = min_size(block_number(c, at + os_page_size - 1), c->blocks - 1u);
		if (are_free(s->free_blocks, first, last + 1)) pages |= holes_pages_of(at, at + os_page_size);
	}
	return pages;
}

/* Is that too little to break up a huge page? */
static bool is_scrap(const struct span *s, uint64_t pages) {
	const struct region *r = page_map_region((uintptr_t)s->start);
	return (size_t)__builtin_popcountll(pages) * PURGE_PAGE < s->slices * SLICE_SIZE / THP_SHARE &&
	       thp_covers(r, slice_number((uintptr_t)s->start));
}

/* The free pages that are to go; scraps stay, unless it is `now`. */
static uint64_t pages_to_purge(const struct span *s, const struct size_class *c, bool now) {
	const uint64_t found = free_pages(s, c) & ~s->purged;
	if (now || found == 0 || !is_scrap(s, found)) return found;
	bin_changed(s->bin);
	return 0;
}

/* What is purged in one go: spans that are away, of any bins, and what has become empty. */
struct go {
	size_t count;
	struct span *spans[GO], *retired;
	uint64_t pages[GO];
};

/* Takes the span, which is in its bin's list, out of it, if it has free pages or is empty. Under the bin's
 * lock. */
static void take_away(struct go *go, struct bin *bin, struct span *s, bool now) {
	const struct size_class *c = &size_classes[s->class_];
	if (s->free_count == c->blocks) {
		bin_retire(bin, s, &go->retired);
		return;
	}
	span_leave_alone(s);
	const uint64_t found = pages_to_purge(s, c, now);
	if (found == 0) return;
	bin_unlink(bin, s);
	s->away = true;
	bare_add(s, c, found); /* whatever the kernel says of it */
	go->pages[go->count] = found;
	go->spans[go->count++] = s;
}

/* Purges pages of a span that is away. Returns those for which it worked, and sets *lazily when some of them
 * went so. */
static uint64_t purge_pages(struct span *s, uint64_t pages, bool *lazily) {
	const bool ask_lazily = *lazily;
	*lazily = false;
	uint64_t done = 0;
	struct region *r = page_map_region((uintptr_t)s->start);
	heap_break_huge(r, slice_number((uintptr_t)s->start), s->slices);
	for (size_t first = bit_find(&pages, 0, 64, true); first < 64;) {
		size_t stop = bit_find(&pages, first, 64, false);
		enum purge how = os_purge(s->start + first * PURGE_PAGE, (stop - first) * PURGE_PAGE, ask_lazily);
		if (how != PURGE_REFUSED) done |= bits_in_word(0, first, stop - first);
		if (how == PURGED_LAZILY) *lazily = true;
		first = bit_find(&pages, stop, 64, true);
	}
	return done;
}

static size_t size_of_pages(uint64_t pages) { return (size_t)__builtin_popcountll(pages) * PURGE_PAGE; }

static void note_purged(struct span *s, uint64_t purged, bool lazily) {
	const uint64_t newly_lazy = s->lazy ? purged : lazily ? purged | s->purged : 0;
	s->lazy |= lazily;
	s->purged |= purged;
	cap_add(size_of_pages(newly_lazy)); /* first: less must not be counted than there is */
	cap_give(size_of_pages(purged));
	atomic_fetch_add_explicit(&holes_bytes, size_of_pages(purged), memory_order_relaxed);
	atomic_fetch_add_explicit(&holes_lazy_bytes, size_of_pages(newly_lazy), memory_order_relaxed);
}

static void bring_back(struct span *s, uint64_t purged, bool whole, bool lazily, struct span **retired) {
	struct bin *bin = s->bin;
	lock_take(&bin->lock, RANK_BIN);
	if (!whole || lazily || s->touched != 0) bin_changed(bin);
	s->away = false;
	s->clean &= whole;
	note_purged(s, purged, lazily);
	bin_link_last(bin, s);
	if (s->free_count == size_classes[s->class_].blocks) bin_retire(bin, s, retired);
	lock_drop(&bin->lock, RANK_BIN);
}

/* Purges what was taken away, without a lock, and brings it back. Returns the bytes. */
static size_t purge(struct go *go, bool now) {
	size_t bytes = 0;
	for (size_t i = 0; i < go->count; i++) {
		bool lazily = !now && conf.lazy_purge;
		const uint64_t done = purge_pages(go->spans[i], go->pages[i], &lazily);
		bytes += size_of_pages(done);
		bring_back(go->spans[i], done, done == go->pages[i], lazily, &go->retired);
	}
	bin_free_retired(go->retired);
	if (bytes > 0) heap_count_purged(bytes);
	go->count = 0;
	go->retired = NULL;
	return bytes;
}

bool holes_return(struct span *s) {
	const size_t holes = size_of_pages(s->purged), size = s->slices * SLICE_SIZE;
	holes_unnote(s, holes);
	if (s->lazy || cap_take(holes)) return true;
	heap_break_huge(page_map_region((uintptr_t)s->start), slice_number((uintptr_t)s->start), s->slices);
	if (os_purge(s->start, size, false) == PURGE_REFUSED) {
		cap_add(holes);
		return true;
	}
	cap_give(size - holes);
	heap_count_purged(size - holes);
	return false;
}

/* ---- spans that something came back to, of all bins ---- */

/* The span, if it is one still, and idle for so long. */
static void look_at(struct go *go, struct span *s, unsigned idle_ticks, bool *more_later) {
	struct bin *bin = span_bin(s);
	if (bin == NULL) return; /* about to be freed */
	lock_take(&bin->lock, RANK_BIN);
	if (s->bin != bin || s->touched == 0) { /* another one by now; or somebody was here */
	} else if (s->away || (uint8_t)(holes_tick() - s->touched) < idle_ticks) {
		*more_later = true;
	} else if (s->listed) {
		take_away(go, bin, s, false);
	} else {
		span_leave_alone(s);
	}
	lock_drop(&bin->lock, RANK_BIN);
}

/* Of 64 slices: the spans that begin there. */
static size_t purge_word(struct region *r, size_t word, unsigned idle_ticks, bool *more_later) {
	struct go go = { .count = 0 };
	size_t total = 0;
	uint64_t bits = atomic_load_explicit(&r->touched[word], memory_order_relaxed);
	while (bits != 0) {
		/* In this way no fork comes while spans are away or retired. What is left will be found again. */
		if (!gate_try_enter()) {
			*more_later = true;
			break;
		}
		for (; bits != 0 && go.count < GO; bits &= bits - 1)
			look_at(&go, &r->spans[word * 64 + (size_t)__builtin_ctzll(bits)], idle_ticks, more_later);
		total += purge(&go, false);
		gate_leave();
	}
	return total;
}

size_t holes_purge_touched(unsigned idle_ticks, bool *more_later) {
	size_t total = 0;
	*more_later = false;
	for (struct region *r = heap_regions(); r != NULL; r = r->next)
		for (size_t word = 0; word < REGION_SLICES / 64; word++)
			total += purge_word(r, word, idle_ticks, more_later);
	return total;
}

size_t holes_purge_some(void) {
	/* Where the last piece ended; records of regions stay. Threads that come at once look twice. */
	static struct region *_Atomic region;
	static _Atomic size_t next_word;
	struct region *r = atomic_load_explicit(&region, memory_order_relaxed);
	size_t total = 0, looked = 0, word = atomic_load_explicit(&next_word, memory_order_relaxed);
	bool more_later;
	while (looked < HOLES_PIECE_SPANS && total < HOLES_PIECE_BYTES &&
	       atomic_load_explicit(&words_due, memory_order_relaxed) > 0) {
		if (r == NULL && (r = heap_regions()) == NULL) break;
		atomic_fetch_sub_explicit(&words_due, 1, memory_order_relaxed);
		looked += 1 + (size_t)__builtin_popcountll(r->touched[word]);
		total += purge_word(r, word, IDLE_TICKS, &more_later);
		if (++word < REGION_SLICES / 64) continue;
		r = r->next;
		word = 0;
	}
	atomic_store_explicit(&region, r, memory_order_relaxed);
	atomic_store_explicit(&next_word, word, memory_order_relaxed);
	return total;
}

/* ---- all spans of a bin ---- */

/* What went lazily counts as there again. Under the bin's lock. */
static void recall(struct span *s) {
	if (likely(!s->lazy)) return;
	holes_forget(s, s->purged);
	s->purged = 0;
	s->lazy = s->clean = false;
}

/* Looks at the next spans, `most` of them, from `*at` on, which comes to NULL behind the last one. Returns
 * how many. Under the bin's lock. */
static size_t look_at_next(struct go *go, struct bin *bin, struct span **at, size_t most, bool now) {
	size_t looked = 0;
	struct span *s = *at, *next;
	for (; s != NULL && looked < min_size(most, BIN_LOOK) && go->count < GO; looked++, s = next) {
		next = s->next;
		if (now) recall(s);
		if (now || s->touched != 0) take_away(go, bin, s, now);
	}
	bin_go_on(at, s);
	return looked;
}

static void set_low_mark(struct bin *bin) { bin->low_blocks = bin->blocks_out / 8 * HOLES_LOW_EIGHTHS; }

void holes_watch_given(struct bin *bin) {
	if (!pressure_is_on() && (conf.decay < 0 || purge_later(os_milliseconds()))) {
		set_low_mark(bin);
		return;
	}
	if (bin->low_blocks != HOLES_GO_ON) bin_go_on(&bin_walk(bin)->next_piece, bin->partial);
	bin->low_blocks = HOLES_GO_ON;
	pieces_due = holes_bin_due == bin ? (unsigned)min_size(pieces_due + 1, PIECES_MOST) : 1;
	holes_bin_due = bin;
	atomic_store_explicit(&holes_are_due, true, memory_order_relaxed);
}

/* What was purged comes back at the end of the list, behind all that was there at the start: `left` ends it,
 * also where the kernel refuses everything. What could not be purged, or was away, is a change when it comes
 * back. */
size_t holes_purge_bin(struct bin *bin) {
	struct bin_purged *purged = bin_purged(bin);
	size_t total = 0, left = SIZE_MAX;
	struct bin_walk *walk = bin_walk(bin);
	uint64_t begun = 0;
	while (left > 0 && gate_try_enter()) {
		struct go go = { .count = 0 };
		lock_take(&bin->lock, RANK_BIN);
		const bool first = left == SIZE_MAX, is_purged = first && bin_is_purged(bin);
		if (first) left = is_purged ? 0 : bin->spans;
		if (first && !is_purged) {
			purged->begun = bin->flushes;
			begun = bin_walk_begins(bin);
		}
		left -= look_at_next(&go, bin, &walk->next, left, true);
		if (walk->next == NULL) left = 0;
		/* Unless somebody began once more meanwhile, who sees to what this one has passed. */
		if (left == 0 && walk->begun == begun) purged->done = purged->begun;
		lock_drop(&bin->lock, RANK_BIN);
		total += purge(&go, true);
		gate_leave();
	}
	return total;
}

size_t holes_purge_piece(struct bin *bin) {
	struct bin_walk *walk = bin_walk(bin);
	size_t total = 0, looked = 0;
	for (bool more = true;
	     more && looked < HOLES_PIECE_SPANS && total < HOLES_PIECE_BYTES && gate_try_enter();) {
		struct go go = { .count = 0 };
		lock_take(&bin->lock, RANK_BIN);
		looked += look_at_next(&go, bin, &walk->next_piece, SIZE_MAX, false);
		more = walk->next_piece != NULL;
		if (!more) set_low_mark(bin);
		lock_drop(&bin->lock, RANK_BIN);
		total += purge(&go, false);
		gate_leave();
	}
	return total;
}

void holes_fill(struct span *s, size_t from, size_t to) {
	const uint64_t back = s->purged & holes_pages_of(from, to);
	s->purged &= ~back;
	holes_forget(s, back);
}
