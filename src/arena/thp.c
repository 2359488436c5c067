#include "arena/thp.h"

#include "arena/brk.h"
#include "base/bitmap.h"
#include "base/os.h"

#define PAGES (REGION_SIZE / HUGE_PAGE)

static bool given_unasked; /* huge pages, where nobody says anything about a piece of memory. Written once, at
                              the start */

void thp_start(void) { given_unasked = os_thp_always(); }

void thp_decline(uintptr_t start, size_t size) {
	if (given_unasked) os_advise_huge((void *)start, size, false);
}

void thp_decline_brk(uintptr_t start, uintptr_t end) {
	/* What was not declined yet. Owner: heap lock. */
	static struct brk_range rest;
	static bool begun;
	rest.start = start > rest.end ? start : min_size(rest.start, start);
	rest.end = end;
	if (!begun && ALIGN_UP(rest.start, HUGE_PAGE) + HUGE_PAGE > end) return;
	thp_decline(rest.start, end - rest.start);
	begun = true;
	rest.start = end;
}

/* Are the slices of huge page `page` free, and all of them clean? */
static bool is_clean(const struct region *r, size_t page) {
	const size_t first = page * HUGE_PAGE_SLICES;
	return bits_count(r->free, first, HUGE_PAGE_SLICES) == HUGE_PAGE_SLICES &&
	       bits_count(r->dirty, first, HUGE_PAGE_SLICES) == 0;
}

void thp_ask(struct region *r, size_t first) {
	const size_t page = first / HUGE_PAGE_SLICES;
	if (r->huge_asked && thp_covers(r, first)) return;
	if (!is_clean(r, page)) return;
	size_t low = page, high = page + 1;
	while (low > 0 && is_clean(r, low - 1)) low--;
	while (high < PAGES && is_clean(r, high)) high++;
	if ((high - low) * HUGE_PAGE < THP_STRETCH) return;
	if (!os_advise_huge((char *)r->base + low * HUGE_PAGE, (high - low) * HUGE_PAGE, true)) return;
	atomic_fetch_or_explicit(&r->huge_pages, (uint32_t)bits_in_word(0, low, high - low),
	                         memory_order_relaxed);
	r->huge_asked = true;
}

/* The slices of [first, end) in the huge page of slice `at`, when these are a part of it that is not worth
 * breaking it up. */
static bool is_scrap(const struct region *r, size_t at, size_t first, size_t end) {
	size_t start = ALIGN_DOWN(at, HUGE_PAGE_SLICES);
	size_t part = min_size(end, start + HUGE_PAGE_SLICES) - max_size(first, start);
	return part < HUGE_PAGE_SLICES / THP_SHARE && thp_covers(r, at);
}

size_t thp_spare(const struct region *r, size_t *first, size_t count) {
	size_t end = *first + count;
	if (is_scrap(r, *first, *first, end)) *first = min_size(end, ALIGN_UP(*first + 1, HUGE_PAGE_SLICES));
	if (*first < end && is_scrap(r, end - 1, *first, end))
		end = max_size(*first, ALIGN_DOWN(end - 1, HUGE_PAGE_SLICES));
	return end - *first;
}

void thp_forget(struct region *r, size_t first, size_t count) {
	const size_t low = first / HUGE_PAGE_SLICES, high = (first + count - 1) / HUGE_PAGE_SLICES;
	atomic_fetch_and_explicit(&r->huge_pages, ~(uint32_t)bits_in_word(0, low, high - low + 1),
	                          memory_order_relaxed);
}

uint32_t thp_break(struct region *r, size_t first, size_t count) {
	const size_t end = first + count;
	uint32_t broken = 0;
	if (first % HUGE_PAGE_SLICES != 0 || count < HUGE_PAGE_SLICES)
		broken |= UINT32_C(1) << (first / HUGE_PAGE_SLICES);
	if (end % HUGE_PAGE_SLICES != 0) broken |= UINT32_C(1) << (end / HUGE_PAGE_SLICES);
	const uint64_t pages = atomic_fetch_and_explicit(&r->huge_pages, ~broken, memory_order_relaxed);
	broken &= (uint32_t)pages;
	if (broken == 0 || !atomic_exchange_explicit(&r->huge_asked, false, memory_order_relaxed)) return broken;
	/* All that were asked for: those that are huge now stay so. */
	for (size_t low = bit_find(&pages, 0, PAGES, true); low < PAGES;) {
		size_t high = bit_find(&pages, low, PAGES, false);
		os_advise_huge((char *)r->base + low * HUGE_PAGE, (high - low) * HUGE_PAGE, false);
		low = bit_find(&pages, high, PAGES, true);
	}
	return broken;
}
