/* Takes blocks out of magazines whose thread may use them at any moment, without the lock. It is the protocol
 * of a work-stealing deque (Frigo, Leiserson and Randall, 1998; Chase and Lev, 2005), whose owner takes from
 * the top.
 *
 * What it leans on is written at "pop and push" (magazine.h).
 *
 * malloc's way to the magazine is closed, and `empty` goes up to just below the top. After the barrier, every
 * call that starts sees that. One call may have read the old values before, and have been interrupted: it
 * takes the block below the top that is read now, or writes above it. So all blocks below that one are ours.
 *
 * The barrier is dear, and takes long where a CPU that runs a thread is away: so one serves many caches, and
 * nobody has their locks meanwhile (drain.c). A slow path that comes to a magazine then puts `empty` back
 * where it was, which is right at any moment before something is taken: the drain takes nothing there. The
 * way stays closed until the drain ends, so that such calls are slow, but wait for nobody.
 *
 * The owner may have filled some of these slots since then. Where a thread's stores may be seen in another
 * order, the top may be seen before them: a second barrier is between the two. tests/models/drain.pml shows
 * what goes wrong otherwise.
 *
 * Before the way is open again, the slot below the one block that is left holds magazine_no_block: what
 * malloc finds there leads it to the slow path, and that settles the magazine.
 *
 * Race detectors know no membarrier. Here ThreadSanitizer looks away, and there is no barrier under it
 * (os_thread.c): then nothing is taken. Helgrind is told what is handed over. */
#include <stdatomic.h>

#include "base/annotate.h"
#include "base/probe.h"
#include "cache/magazine.h"

/* malloc finds no way to these magazines any more, and takes its slow path. Aligned blocks of any class are
 * found by the mask. */
__attribute__((no_sanitize("thread"))) static void close_ways(struct tcache *tc, const bool *due) {
	for (size_t i = 0; i <= TABLE_MAX / MIN_ALIGN; i++)
		if (due[tcache_tags[i] >> TAG_SHIFT]) *(volatile uint16_t *)&tc->tag_of_size[i] = TAG_OF_CLASS(0);
	*(volatile uint16_t *)&tc->class_mask = 0;
}

__attribute__((no_sanitize("thread"))) static void begin(struct tcache *tc, const bool *due) {
	close_ways(tc, due);
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct magazine *m = &tc->magazines[c];
		void **top = *(void **volatile *)&m->top;
		if (!due[c] || top - m->empty <= 1) continue;
		tc->slots[c].begun = (uint16_t)(m->empty - magazine_first_slot(tc, c) + 1);
		*(void **volatile *)&m->empty = top - 1;
	}
}

/* Without ThreadSanitizer: it reads the two pointers while their thread may change them. The difference is
 * only a hint whether the magazine is idle; what is taken, the tops after the barrier decide. */
__attribute__((no_sanitize("thread"))) bool magazines_begin_drain(struct tcache *tc, unsigned looks,
                                                                  bool *more_later) {
	bool due[CLASS_COUNT] = { false }, any_due = false;
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct magazine *m = &tc->magazines[c];
		ptrdiff_t blocks = *(void **volatile *)&m->top - *(void **volatile *)&m->empty;
		if (blocks <= 1) continue;
		bool same = tc->idle_blocks[c] == (uint16_t)blocks;
		tc->idle_blocks[c] = (uint16_t)blocks;
		tc->idle_looks[c] = same ? tc->idle_looks[c] + 1 : 0;
		due[c] = tc->idle_looks[c] >= looks;
		if (due[c]) tc->idle_looks[c] = 0;
		any_due |= due[c];
		*more_later |= !due[c];
	}
	if (any_due) begin(tc, due);
	return any_due;
}

/* What may be taken lies below `empty` then. */
__attribute__((no_sanitize("thread"))) void magazines_look_after_barrier(struct tcache *tc) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct magazine *m = &tc->magazines[c];
		void **first = magazine_begun_at(tc, c), **end = *(void **volatile *)&m->top - 1;
		if (first == NULL) continue;
		if (end > m->empty) end = m->empty;
		if (end < first) end = first;
		*(void **volatile *)&m->empty = end;
	}
}

/* A way leads to each magazine again, if there is to be one. */
static void open_ways(struct tcache *tc) {
	atomic_thread_fence(memory_order_release);
	sample_lead_sizes(tc);
}

/* Nobody else writes to these slots: whoever moves blocks down there has the lock. */
__attribute__((no_sanitize("thread"))) bool magazines_end_drain(struct tcache *tc) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		void **first = magazine_begun_at(tc, c), **end = tc->magazines[c].empty;
		tc->slots[c].begun = 0;
		if (first == NULL || end == first) continue;
		PROBE(drain, size_classes[c].size, end - first);
		for (void **from = first; from < end;) {
			const size_t n = min_size((size_t)(end - from), BATCH_MAX);
			for (size_t i = 0; i < n; i++) annotate_found(from[i]);
			arena_give(c, from, n);
			from += n;
		}
		*(void *volatile *)&end[-1] = magazine_no_block;
	}
	open_ways(tc);
	return !tc->called_off;
}

__attribute__((no_sanitize("thread"))) void magazine_call_off_drain(struct tcache *tc, unsigned class_) {
	void **first = magazine_begun_at(tc, class_);
	if (first == NULL) return;
	*(void **volatile *)&tc->magazines[class_].empty = first;
	tc->slots[class_].begun = 0;
	tc->called_off = true;
}

void magazines_call_off_drain(struct tcache *tc) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) magazine_call_off_drain(tc, c);
	open_ways(tc);
}
