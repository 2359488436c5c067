/* The list of a bin's partly used spans. All under bin->lock. */
#ifndef ARENA_BIN_H
#define ARENA_BIN_H

#include "arena/hard_span.h"
#include "arena/holes.h"
#include "arena/page_map.h"
#include "base/meta.h"
#include "base/probe.h"

static inline void bin_link_first(struct bin *bin, struct span *s) {
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

/* Takes an empty span out of the bin, so that it has none, and adds it to a list, whose spans are freed when the bin's lock is dropped: freeing
 * may purge, and nobody should wait for that. */
static inline void bin_retire(struct bin *bin, struct span *s, struct span **retired) {
	bin_unlink(bin, s);
	bin->spans--;
	s->bin = NULL;
	s->next = *retired;
	*retired = s;
}

/* The same without the lock, afterwards. */
static inline void bin_free_retired(struct span *s) {
	while (s != NULL) {
		struct span *next = s->next;
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
		s = next;
	}
}

#endif
