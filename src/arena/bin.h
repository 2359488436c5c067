/* The list of a bin's partly used spans. All under bin->lock, but where it says otherwise. */
#ifndef ARENA_BIN_H
#define ARENA_BIN_H

#include "arena/hard_span.h"
#include "arena/holes.h"
#include "arena/page_map.h"
#include "base/meta.h"

static inline struct bin_purged *bin_purged(const struct bin *bin) {
	return &bin->arena->purged[bin - bin->arena->bins];
}

/* Spans of a bin's list that are looked at in one hold of its lock: 5 to 20 us. */
#define BIN_LOOK 64

/* Something may go back that was not there, or stayed, when all was purged; other than by arena_give, which
 * counts its batches. */
static inline void bin_changed(const struct bin *bin) {
	*bin_purged(bin) = (struct bin_purged){ BIN_CHANGED, BIN_CHANGED };
}

/* Nothing of the bin can go back. */
static inline bool bin_is_purged(const struct bin *bin) { return bin_purged(bin)->done == bin->flushes; }

static inline struct bin_walk *bin_walk(const struct bin *bin) {
	return &bin->arena->walks[bin - bin->arena->bins];
}

/* A walk goes on with this span, `*next` of the bin_walk, when the lock is taken again. NULL: with none. */
static inline void bin_go_on(struct span **next, struct span *s) {
	*next = s;
	if (s != NULL) s->awaited = true;
}

/* Somebody begins to go over all of the bin's list. Others who do go on from there, too. */
static inline uint64_t bin_walk_begins(const struct bin *bin) {
	bin_go_on(&bin_walk(bin)->next, bin->partial);
	return ++bin_walk(bin)->begun;
}

/* The span, with which a walk may go on, is about to leave the list. */
COLD void bin_pass(const struct bin *bin, struct span *s);

static inline void bin_link_first(struct bin *bin, struct span *s) {
	bin_changed(bin);
	s->prev = NULL;
	s->next = bin->partial;
	if (s->next != NULL)
		s->next->prev = s;
	else
		bin->last = s;
	bin->partial = s;
	s->listed = true;
}

static inline void bin_link_last(struct bin *bin, struct span *s) {
	s->next = NULL;
	s->prev = bin->last;
	if (s->prev != NULL)
		s->prev->next = s;
	else
		bin->partial = s;
	bin->last = s;
	s->listed = true;
}

static inline void bin_unlink(struct bin *bin, struct span *s) {
	if (unlikely(s->awaited)) bin_pass(bin, s);
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		bin->partial = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	else
		bin->last = s->prev;
	s->listed = false;
}

/* Out of the list of partly used spans: it has no free block any more. Those of an arena apart have a list of
 * their own, for arena_reset. */
static inline void bin_unlink_full(struct bin *bin, struct span *s) {
	bin_unlink(bin, s);
	if (likely(!s->sampled)) return;
	struct span **full = &bin->arena->full[s->class_];
	s->prev = NULL;
	s->next = *full;
	if (s->next != NULL) s->next->prev = s;
	*full = s;
}

/* It had none, and has one again. */
static inline void bin_link_again(struct bin *bin, struct span *s) {
	if (unlikely(s->sampled)) {
		struct span **full = &bin->arena->full[s->class_];
		if (s->prev != NULL)
			s->prev->next = s->next;
		else
			*full = s->next;
		if (s->next != NULL) s->next->prev = s->prev;
	}
	bin_link_first(bin, s);
}

/* Takes an empty span out of the bin, so that it has none, and adds it to a list, whose spans are freed when
 * the bin's lock is dropped: freeing may purge, and nobody should wait for that. */
static inline void bin_retire(struct bin *bin, struct span *s, struct span **retired) {
	bin_unlink(bin, s);
	span_leave_alone(s);
	bin->spans--;
	span_set_bin(s, NULL);
	s->next = *retired;
	*retired = s;
}

/* Empty spans go back to the page heap: the last ones, too, that a bin keeps. Takes the lock. */
void bin_retire_empty(struct bin *bin, unsigned class_);

/* Frees what was retired, once the bin's lock is dropped. */
void bin_free_span(struct span *s);
static inline void bin_free_retired(struct span *s) {
	while (s != NULL) {
		struct span *next = s->next;
		bin_free_span(s);
		s = next;
	}
}

#endif
