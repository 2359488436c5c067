#include "arena/holes.h"

#include "arena/bare.h"
#include "arena/bin.h"
#include "arena/thp.h"
#include "base/bitmap.h"
#include "base/gate.h"

static_assert(SPAN_SLICES_MAX * SLICE_SIZE / PURGE_PAGE <= 64,
              "span.purged has a bit for each page of a span");

/* Spans that are purged in one go, between two holds of the lock. */
#define GO 32

_Atomic size_t holes_bytes, holes_lazy_bytes;
_Atomic uint8_t holes_current_tick = 1;

void holes_next_tick(void) {
	uint8_t tick = holes_tick();
	atomic_store_explicit(&holes_current_tick, (uint8_t)(tick == UINT8_MAX ? 1 : tick + 1),
	                      memory_order_relaxed);
}

bool holes_time_passed(void) {
	static _Atomic uint64_t start; /* milliseconds, of the running tick */
	const uint64_t now = os_milliseconds();
	uint64_t then = atomic_load_explicit(&start, memory_order_relaxed);
	if (conf.decay <= 0 || now - then < decay_interval() || purge_later(now)) return false;
	if (!atomic_compare_exchange_strong_explicit(&start, &then, now, memory_order_relaxed,
	                                             memory_order_relaxed))
		return false;
	holes_next_tick();
	return true;
}

uint64_t holes_pages_of(size_t from, size_t to) {
	size_t first = ALIGN_DOWN(from, os_page_size) / PURGE_PAGE;
	return bits_in_word(0, first, ALIGN_UP(to, os_page_size) / PURGE_PAGE - first);
}

/* The pages that hold only free blocks, and nothing. */
static uint64_t free_pages(const struct span *s, const struct size_class *c) {
	uint64_t pages = 0;
	const size_t end = c->blocks;
	for (size_t first = bit_find(s->free_blocks, 0, end, true); first < end;) {
		size_t stop = bit_find(s->free_blocks, first, end, false);
		size_t from = ALIGN_UP(first * c->size, os_page_size);
		size_t to = stop == end ? s->slices * SLICE_SIZE : ALIGN_DOWN(stop * c->size, os_page_size);
		if (from < to) pages |= holes_pages_of(from, to);
		first = bit_find(s->free_blocks, stop, end, true);
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

/* Takes spans with free pages out of the list: up to GO of them. Returns how many. Who purges all of it,
 * `now`, has come to the end when the list has: what could not be purged, or was away, is a change when it
 * comes back. */
static size_t take_away(struct bin *bin, unsigned class_, unsigned idle_ticks, bool now, struct span **spans,
                        uint64_t *pages, struct span **retired, bool *more_later) {
	const struct size_class *c = &size_classes[class_];
	size_t count = 0;
	struct span *s = bin->partial, *next;
	for (; s != NULL && count < GO; s = next) {
		next = s->next;
		if (s->touched == 0) continue;
		if ((uint8_t)(holes_tick() - s->touched) < idle_ticks) {
			*more_later = true;
			continue;
		}
		if (s->free_count == c->blocks) {
			bin_retire(bin, s, retired);
			continue;
		}
		s->touched = 0;
		const uint64_t found = pages_to_purge(s, c, now);
		if (found == 0) continue;
		bin_unlink(bin, s);
		s->away = true;
		bare_add(s, c, found); /* whatever the kernel says of it */
		pages[count] = found;
		spans[count++] = s;
	}
	if (now && s == NULL) bin_purged(bin)->done = bin_purged(bin)->begun;
	return count;
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

static void bring_back(struct bin *bin, unsigned class_, struct span *s, uint64_t purged, bool whole,
                       bool lazily, struct span **retired) {
	if (!whole || lazily || s->touched != 0) bin_changed(bin);
	s->away = false;
	s->clean &= whole;
	note_purged(s, purged, lazily);
	bin_link_last(bin, s);
	if (s->free_count == size_classes[class_].blocks) bin_retire(bin, s, retired);
}

/* All spans are worth a look again, and what was purged lazily counts as there. False: nothing of the bin can
 * go back. */
static bool recall(struct bin *bin) {
	lock_take(&bin->lock, RANK_BIN);
	if (bin_is_purged(bin)) {
		lock_drop(&bin->lock, RANK_BIN);
		return false;
	}
	bin_purged(bin)->begun = bin->flushes;
	for (struct span *s = bin->partial; s != NULL; s = s->next) {
		s->touched = holes_tick();
		if (!s->lazy) continue;
		holes_forget(s, s->purged);
		s->purged = 0;
		s->lazy = s->clean = false;
	}
	lock_drop(&bin->lock, RANK_BIN);
	return true;
}

size_t holes_purge(struct bin *bin, unsigned class_, unsigned idle_ticks, bool now, bool *more_later) {
	struct span *spans[GO];
	uint64_t pages[GO];
	bool lazily[GO], whole[GO];
	size_t total = 0, count;
	if (now && !recall(bin)) return 0;
	do {
		/* In this way no fork comes while spans are away or retired. What is left now will be found again. */
		if (!gate_try_enter()) {
			*more_later = true;
			break;
		}
		struct span *retired = NULL;
		lock_take(&bin->lock, RANK_BIN);
		count = take_away(bin, class_, idle_ticks, now, spans, pages, &retired, more_later);
		lock_drop(&bin->lock, RANK_BIN);
		bin_free_retired(retired);
		size_t bytes = 0;
		for (size_t i = 0; i < count; i++) {
			lazily[i] = !now && conf.lazy_purge;
			const uint64_t tried = pages[i];
			pages[i] = purge_pages(spans[i], tried, &lazily[i]);
			whole[i] = pages[i] == tried;
			bytes += size_of_pages(pages[i]);
		}
		retired = NULL;
		lock_take(&bin->lock, RANK_BIN);
		for (size_t i = 0; i < count; i++)
			bring_back(bin, class_, spans[i], pages[i], whole[i], lazily[i], &retired);
		lock_drop(&bin->lock, RANK_BIN);
		bin_free_retired(retired);
		if (bytes > 0) heap_count_purged(bytes);
		gate_leave();
		total += bytes;
	} while (count == GO);
	return total;
}

void holes_purge_now(struct bin *bin, unsigned class_, unsigned idle_ticks) {
	bool more_later;
	allowance_charge(holes_purge(bin, class_, idle_ticks, false, &more_later));
}

void holes_fill(struct span *s, size_t from, size_t to) {
	const uint64_t back = s->purged & holes_pages_of(from, to);
	s->purged &= ~back;
	holes_forget(s, back);
}
