#include "arena/bare.h"

#include <string.h>

#include "arena/holes.h"
#include "arena/mark.h"
#include "base/bitmap.h"
#include "base/os.h"

#define FEW_BLOCKS 16

static void set_bare_pages(struct span *s, uint64_t pages) {
	for (size_t i = 0; i < s->slices; i++) s[i].bare = (uint16_t)(pages >> i * SLICE_PAGES);
}

/* Bits of span.purged that stand for none. */
static uint64_t no_pages(const struct size_class *c) {
	return ~UINT64_C(0) << 1 << (c->slices * SLICE_PAGES - 1);
}

/* The page that the block starts on. */
static size_t page_of(const struct size_class *c, size_t number) { return number * c->size / PURGE_PAGE; }

/* The first block that starts on the page, or behind it. */
static size_t first_on(const struct size_class *c, size_t page) {
	return min_size(((uint32_t)(page * PURGE_PAGE) + c->size - 1) / c->size, c->blocks);
}

/* In memory that was used before, a few marks are no page faults, and less work than to know who lacks
 * one. */
void bare_new(struct span *s, const struct size_class *c) {
	const bool few = s->backed && !s->clean && c->blocks <= FEW_BLOCKS;
	for (size_t n = 0; few && n < c->blocks; n++) mark_set(s->start + n * c->size);
	for (size_t i = 0; i < c->slices; i++) s[i].bare = few ? 0 : UINT16_MAX;
	s->marked_end = 0;
}

void bare_add(struct span *s, const struct size_class *c, uint64_t pages) {
	set_bare_pages(s, bare_pages(s) | pages);
	if (pages >> page_of(c, s->marked_end) & 1) s->marked_end = 0;
}

/* ---- those with a mark ---- */

/* Those numbered from `from` on, below `end`. */
static size_t take_from_to(struct span *s, const struct size_class *c, size_t from, size_t end, void **blocks,
                           size_t count) {
	size_t taken = 0;
	for (size_t word = from / 64; word * 64 < end && taken < count; word++) {
		const uint64_t there = s->free_blocks[word] & bits_in_word(word, from, end - from);
		uint64_t left = there, spared = 0;
		while (left != 0 && taken < count) {
			const size_t number = word * 64 + (size_t)__builtin_ctzll(left), offset = number * c->size;
			if (unlikely(s->purged != 0) && (s->purged & holes_pages_of(offset, offset + c->size)) != 0)
				spared |= left & -left;
			else
				blocks[taken++] = s->start + offset;
			left &= left - 1;
		}
		s->free_blocks[word] ^= there & ~left & ~spared;
	}
	return taken;
}

/* Of the pages that are not bare, and what is marked of the begun one; `lowest` is the first block that is
 * free. */
static size_t take_between(struct span *s, const struct size_class *c, uint64_t bare, size_t lowest,
                           void **blocks, size_t count) {
	const size_t pages = c->slices * SLICE_PAGES,
	             begun = s->marked_end > 0 ? page_of(c, s->marked_end) : pages;
	const uint64_t others = ~bare | bits_in_word(0, begun, 1);
	size_t taken = 0;
	for (size_t page = bit_find(&others, page_of(c, lowest), pages, true); page < pages && taken < count;) {
		const size_t next = page == begun ? page + 1 : bit_find(&bare, page, pages, true);
		const size_t end = page == begun ? s->marked_end : first_on(c, next);
		taken += take_from_to(s, c, max_size(first_on(c, page), lowest), end, blocks + taken, count - taken);
		page = bit_find(&others, next, pages, true);
	}
	return taken;
}

/* ---- those without, and those whose end was purged ---- */

/* The page is bare, and not begun. */
static bool reads_zero(const struct span *s, size_t page) {
	return !s->lazy && (s->clean || s->purged >> page & 1);
}

/* Is the page, which is bare, in memory when the one before is? */
static bool is_backed_with(const struct span *s, size_t page) {
	return (page * PURGE_PAGE & (os_page_size - 1)) != 0 || (s->backed && (s->purged >> page & 1) == 0);
}

/* The end of the bare pages that are taken in one go, from the first one on: one of the kernel's pages; or,
 * of those that are in memory, up to `last`. */
static size_t end_of_go(const struct span *s, uint64_t bare, size_t first, size_t last, bool zero) {
	size_t page = first + 1;
	if (likely(s->purged == 0)) { /* then all are alike, but perhaps the first one */
		if (!s->backed) last = ALIGN_UP(page * PURGE_PAGE, os_page_size) / PURGE_PAGE;
		return reads_zero(s, page) == zero ? bit_find(&bare, page, last, false) : page;
	}
	while (page < last && bare >> page & 1 && is_backed_with(s, page) && reads_zero(s, page) == zero) page++;
	return page;
}

/* Up to `count`, and all of one page, unless that is too many: then it is begun. */
static size_t take_bare(struct span *s, const struct size_class *c, uint64_t bare, size_t first, bool zero,
                        size_t count) {
	const size_t pages = c->slices * SLICE_PAGES, from = page_of(c, first),
	             last = min_size(page_of(c, first + count - 1) + 1, pages);
	const size_t end = min_size(first + count, first_on(c, end_of_go(s, bare, from, last, zero))),
	             next = end < c->blocks ? page_of(c, end) : pages;
	bits_clear(s->free_blocks, first, end - first);
	if (unlikely(s->purged != 0)) holes_fill(s, first * c->size, end * c->size);
	set_bare_pages(s, bare & ~bits_in_word(0, from, next - from));
	s->marked_end = (uint16_t)(first_on(c, next) < end ? end : 0);
	s->begun_reads_zero = zero;
	return end - first;
}

/* There are no others. */
static size_t take_rest(struct span *s, const struct size_class *c, uint64_t bare, size_t lowest,
                        void **blocks, size_t count, enum second_word *word) {
	const bool begun = s->marked_end > 0;
	const size_t first = begun ? s->marked_end : lowest;
	blocks[0] = s->start + first * c->size;
	if (begun || bare >> page_of(c, lowest) & 1) {
		const bool zero = begun ? s->begun_reads_zero : reads_zero(s, page_of(c, lowest));
		*word = zero ? WORD_IS_ZERO : WORD_IS_ANY;
		return take_bare(s, c, bare, first, zero, count);
	}
	*word = WORD_IS_MARK;
	bit_clear(s->free_blocks, lowest);
	holes_fill(s, lowest * c->size, (lowest + 1) * c->size);
	return 1;
}

/* The lowest block, if it has its mark, and no page is purged. Where only one is wanted, it mostly is. */
static bool take_lowest(struct span *s, const struct size_class *c, uint64_t bare, size_t lowest,
                        void **blocks) {
	const size_t page = page_of(c, lowest);
	const bool has_mark =
	    (bare >> page & 1) == 0 || (lowest < s->marked_end && page == page_of(c, s->marked_end));
	if (!has_mark || s->purged != 0) return false;
	bit_clear(s->free_blocks, lowest);
	blocks[0] = s->start + lowest * c->size;
	return true;
}

/* They were told from the first place on. */
static void tell_below(void **end, void **blocks, size_t count, bool only_first) {
	if (only_first) {
		end[-1] = blocks[0];
		return;
	}
	for (size_t low = 0, high = count - 1; low < high; low++, high--) {
		void *block = blocks[low];
		blocks[low] = blocks[high];
		blocks[high] = block;
	}
	memmove(end - count, blocks, count * sizeof *blocks);
}

size_t bare_take_with_care(struct span *s, const struct size_class *c, void **end, size_t count,
                           enum second_word *word) {
	void **blocks = end - count;
	const uint64_t bare = bare_pages(s);
	const size_t lowest = bit_find(s->free_blocks, s->scan * (size_t)64, c->blocks, true);
	size_t taken = 0;
	bool only_first = false;
	if (count == 1 && take_lowest(s, c, bare, lowest, blocks))
		taken = 1;
	else if (lowest < s->marked_end || ~(bare | no_pages(c)) >> page_of(c, lowest) != 0)
		taken = take_between(s, c, bare, lowest, blocks, count);
	if (taken == 0 && word != NULL) {
		taken = take_rest(s, c, bare, lowest, blocks, count, word);
		only_first = *word != WORD_IS_MARK;
	}
	s->free_count = (uint16_t)(s->free_count - taken);
	if (taken == 0) return 0;
	s->scan = (uint8_t)(lowest / 64);
	tell_below(end, blocks, taken, only_first);
	return taken;
}

/* ---- the marks ---- */

/* The first one in a way that writes in any case: a page that is only read at first costs a fault more. What
 * reads as zero lies on one page, or on pages that come with the first. */
void arena_mark_bare(const struct bare_blocks *bare) {
	const uint64_t mark = mark_number();
	char *block = bare->first;
	uint64_t zero = 0;
	if (bare->word == WORD_IS_ZERO)
		__atomic_compare_exchange_n(mark_place(block), &zero, mark, false, __ATOMIC_RELAXED,
		                            __ATOMIC_RELAXED);
	else
		*mark_place(block) = mark;
	if (bare->word == WORD_IS_ANY)
		for (size_t i = 1; i < bare->count; i++) *mark_place(block += bare->size) = mark;
	else
		for (size_t i = 1; i < bare->count; i++)
			if (*mark_place(block += bare->size) == 0) *mark_place(block) = mark;
}
