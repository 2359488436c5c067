/* Free blocks without a mark (mark.h), by the page that they start on: those that nobody has freed since
 * their span was made, and those whose page went back to the kernel, where it reads as zero, or may at any
 * moment.
 *
 * Invariant: on a page that is not bare, each free block has its mark. On a bare one, all blocks that start
 * there are free, and have none; but one page at a time is begun: there, it is so from block span.marked_end
 * on (0: none is begun), and those before are as on any other page. Who takes a bare block writes its mark,
 * before anybody can find it in a magazine. malloc relies on it, which ends the program for a free block
 * without a mark.
 *
 * Marks are memory that is written to. So bare blocks are taken only when there are no others, and those of
 * one page in one go: it is about to be used, and no page is touched before its time. In a span whose pages
 * are all in memory, used before or part of a huge page, that is no matter.
 *
 * Most bare pages read as zero, as far as is known. A block there that does not was written to, or is in use:
 * it was freed once more when it was bare already. It gets no mark, and malloc finds it. */
#ifndef ARENA_BARE_H
#define ARENA_BARE_H

#include "arena/arena.h"
#include "arena/mark.h"

/* All under bin->lock. */

/* A new span: it is bare, or its blocks get marks. */
void bare_new(struct span *s, const struct size_class *c);

/* All of it is bare. */
static inline void bare_all(struct span *s) {
	for (size_t i = 0; i < s->slices; i++) s[i].bare = UINT16_MAX;
	s->marked_end = 0;
}

/* These pages, on which no block is in use, are about to lose what is written there. */
void bare_add(struct span *s, const struct size_class *c, uint64_t pages);

static inline uint64_t bare_pages(const struct span *s) {
	uint64_t pages = s->bare;
	for (size_t i = 1; i < s->slices; i++) pages |= (uint64_t)s[i].bare << i * SLICE_PAGES;
	return pages;
}

/* Not all free blocks have their mark, or some of them touch a purged page. */
static inline bool span_needs_care(const struct span *s) { return (s->purged | bare_pages(s)) != 0; }
size_t bare_take_with_care(struct span *s, const struct size_class *c, void **end, size_t count,
                           enum second_word *word);

/* Takes up to `count` free blocks of a span that has some: those that have their mark and touch no purged
 * page, lowest addresses first. When there are none, takes others, one at least, and *word is what each of
 * these has; those that are bare lie side by side, and only the first is told. `word` NULL: then it takes
 * none. They are told below `end`, the first one last: malloc takes them from there. */
static inline size_t bare_take(struct span *s, const struct size_class *c, void **end, size_t count,
                               enum second_word *word) {
	if (unlikely(span_needs_care(s))) return bare_take_with_care(s, c, end, count, word);
	const size_t wanted = min_size(count, s->free_count), size = c->size;
	size_t at = s->scan, missing = wanted;
	while (missing > 0) {
		uint64_t left = s->free_blocks[at];
		char *const start = s->start + at * 64 * size;
		for (; left != 0 && missing > 0; left &= left - 1) {
			void *block = start + (size_t)__builtin_ctzll(left) * size;
			/* malloc would wait for it: another CPU may have written there last. */
			prefetch_to_write(mark_place(block));
			*--end = block;
			missing--;
		}
		s->free_blocks[at] = left;
		if (left == 0) at++;
	}
	s->free_count = (uint16_t)(s->free_count - wanted);
	s->scan = (uint8_t)at;
	return wanted;
}

#endif
