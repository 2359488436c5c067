/* Holes: whole free pages inside partly used spans. They go back to the kernel when nothing came back to
 * their span for a while, or, in a process that nobody purges in the background, when many more blocks of a
 * bin are free than before.
 *
 * Invariant: what is purged has no block in use on it, from before madvise until it is done. For that, a span
 * that is being purged is out of its bin's list (span.away): no block of it is handed out meanwhile, so the
 * bin's lock is not held over madvise. Blocks may come back to it all the time. Whoever keeps data in a block
 * relies on it; stress.purges fails without. */
#ifndef ARENA_HOLES_H
#define ARENA_HOLES_H

#include <stdatomic.h>

#include "arena/arena.h"
#include "arena/policy.h"
#include "arena/wave.h"
#include "base/cap.h"

/* Purges the free pages of the bin's spans that no block came back to for `idle_ticks` ticks. Spans with
 * purged pages go to the end of the list; an empty one is freed. `now`: nothing lazily, what is not worth
 * breaking up a huge page as well, and once more what went lazily or was refused. Returns the bytes given
 * back, and sets *more_later when there are spans that are not idle yet. */
size_t holes_purge(struct bin *bin, unsigned class_, unsigned idle_ticks, bool now, bool *more_later);

/* Purges the holes of a bin for those who free, within their allowance. */
void holes_purge_now(struct bin *bin, unsigned class_, unsigned idle_ticks);

/* The pages that the bytes [from, to) of a span touch. */
uint64_t holes_pages_of(size_t from, size_t to);

/* The bytes [from, to) of the span are in use again. Called under bin->lock. */
void holes_fill(struct span *s, size_t from, size_t to);

/* Bytes in purged pages of spans that are in use, now. Of these, those that may still be in memory: holes of
 * spans from which any went lazily. Changed under the bin's lock. */
extern _Atomic size_t holes_bytes, holes_lazy_bytes;

static inline void holes_forget(const struct span *s, uint64_t purged) {
	if (likely(purged == 0)) return;
	const size_t bytes = (size_t)__builtin_popcountll(purged) * PURGE_PAGE;
	atomic_fetch_sub_explicit(&holes_bytes, bytes, memory_order_relaxed);
	if (s->lazy)
		atomic_fetch_sub_explicit(&holes_lazy_bytes, bytes, memory_order_relaxed);
	else
		cap_add(bytes);
}

/* Before blocks are taken from the span: does the cap let its holes be filled, for they may fill all? *bytes
 * were taken for that, to be given back afterwards, for those that are filled count then. Under bin->lock. */
static inline bool holes_reserve(const struct span *s, size_t *bytes) {
	*bytes = 0;
	if (likely(s->purged == 0) || s->lazy || conf.cap == 0) return true;
	*bytes = (size_t)__builtin_popcountll(s->purged) * PURGE_PAGE;
	return cap_take(*bytes);
}

/* The running tick, 1 to 255: its length is the caller's of holes_next_tick. */
extern _Atomic uint8_t holes_current_tick;
static inline uint8_t holes_tick(void) {
	return atomic_load_explicit(&holes_current_tick, memory_order_relaxed);
}
void holes_next_tick(void);

/* Under bin->lock. Each time that the blocks handed out have become fewer by an eighth, it is worth looking
 * for free pages. */
static inline bool holes_watch_give(struct bin *bin) {
	if (likely(bin->blocks_out >= bin->low_blocks)) return false;
	bin->low_blocks = bin->blocks_out / 8 * HOLES_LOW_EIGHTHS;
	return pressure_is_on() || (conf.decay >= 0 && !purge_later(os_milliseconds()));
}

/* Is an interval over, and nobody else purges? Then the next tick begins, and the caller has a look at some
 * bins: without a background thread, time goes by for those who free. */
bool holes_time_passed(void);

static inline bool holes_look_due(const struct bin *bin) {
	return unlikely(bin->flushes % FLUSHES_BETWEEN_LOOKS == 0) && wave_is_large() && holes_time_passed();
}

/* Under bin->lock. When the blocks handed out have reached a new high, the next mark is below it; but a bin
 * with few is not watched, and in a small process none is. */
static inline void holes_watch_take(struct bin *bin, unsigned class_) {
	if (likely(bin->blocks_out / 4 * HOLES_HIGH_QUARTERS <= bin->low_blocks)) return;
	if (bin->blocks_out * size_classes[class_].size >= HOLES_WATCH_MIN && wave_is_large())
		bin->low_blocks = bin->blocks_out / 8 * HOLES_LOW_EIGHTHS;
}

#endif
