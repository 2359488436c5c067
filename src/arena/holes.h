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

/* Purges the free pages of spans, of all bins, that no block came back to for `idle_ticks` ticks: those that
 * something came back to since the last look, without a look at all others. Spans with purged pages go to the
 * end of their bin's list; an empty one is freed. Returns the bytes given back, and sets *more_later when
 * there are spans that are not idle yet. Without any lock, as all that purge here. */
size_t holes_purge_touched(unsigned idle_ticks, bool *more_later);

/* Purges all spans of the bin now: nothing lazily, what is not worth breaking up a huge page as well, and
 * once more what went lazily or was refused. */
size_t holes_purge_bin(struct bin *bin);

/* For those who free, where nobody purges in the background: pieces, of HOLES_PIECE_SPANS or a little more
 * than HOLES_PIECE_BYTES. The next spans of a bin; or of those that something came back to (IDLE_TICKS). */
size_t holes_purge_piece(struct bin *bin);
size_t holes_purge_some(void);

/* Of which bin so many more blocks are free than before that the thread which gave the last of them is to
 * look for holes there, when it holds no lock any more: holes_purge_due. NULL: of none. */
extern __thread struct bin *holes_bin_due __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Something waits for holes_purge_due, of this thread or of any. That does a piece of it, or as many of a bin
 * as batches came back to that, within the allowance. */
extern _Atomic bool holes_are_due __attribute__((visibility("hidden")));
void holes_purge_due(void);

/* The pages that the bytes [from, to) of a span touch. */
uint64_t holes_pages_of(size_t from, size_t to);

/* The bytes [from, to) of the span are in use again. Called under bin->lock. */
void holes_fill(struct span *s, size_t from, size_t to);

/* Bytes in purged pages of spans that are in use, now. Of these, those that may still be in memory: holes of
 * spans from which any went lazily. Changed under the bin's lock. */
extern _Atomic size_t holes_bytes, holes_lazy_bytes;

/* So many bytes of the span's holes are none any more. */
static inline void holes_unnote(const struct span *s, size_t bytes) {
	atomic_fetch_sub_explicit(&holes_bytes, bytes, memory_order_relaxed);
	if (s->lazy) atomic_fetch_sub_explicit(&holes_lazy_bytes, bytes, memory_order_relaxed);
}

/* The same for pages, which count for the cap from now on. */
static inline void holes_forget(const struct span *s, uint64_t purged) {
	if (likely(purged == 0)) return;
	const size_t bytes = (size_t)__builtin_popcountll(purged) * PURGE_PAGE;
	holes_unnote(s, bytes);
	if (!s->lazy) cap_add(bytes);
}

/* Of a span that is about to be free memory, with holes. They would be a part of that, which whoever takes it
 * does not ask the cap for: so they count from now on. Where the cap has no room for them, the rest of the
 * span is purged as well, and false is returned: the span is clean. That is a system call, maybe under the
 * lock of a cache. */
bool holes_return(struct span *s);

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

/* What bin->low_blocks is while who frees has not come to the end of the bin's list yet. */
#define HOLES_GO_ON UINT64_MAX

/* Under bin->lock. Each time that the blocks handed out have become fewer by an eighth, it is worth looking
 * for free pages: piece by piece, with each batch that comes back. */
COLD void holes_watch_given(struct bin *bin);
static inline void holes_watch_give(struct bin *bin) {
	if (unlikely(bin->blocks_out < bin->low_blocks)) holes_watch_given(bin);
}

/* Is an interval over, and nobody else purges? Then the next tick begins, and a part of all spans is due:
 * without a background thread, time goes by for those who free. */
void holes_count_time(void);

static inline void holes_watch_time(const struct bin *bin) {
	if (unlikely(bin->flushes % FLUSHES_BETWEEN_LOOKS == 0) && wave_is_large()) holes_count_time();
}

/* Under bin->lock. When the blocks handed out have reached a new high, the next mark is below it; but a bin
 * with few is not watched, and in a small process none is. */
static inline void holes_watch_take(struct bin *bin, unsigned class_) {
	if (likely(bin->blocks_out / 4 * HOLES_HIGH_QUARTERS <= bin->low_blocks)) return;
	if (bin->blocks_out * size_classes[class_].size >= HOLES_WATCH_MIN && wave_is_large())
		bin->low_blocks = bin->blocks_out / 8 * HOLES_LOW_EIGHTHS;
}

#endif
