#include "arena/brk.h"

#include "arena/layout.h"
#include "base/os.h"
#include "base/probe.h"

/* After a refusal, the break is not tried again before this many requests: a process at its RLIMIT_DATA would
 * make a system call for each span, and what was in the way may be gone later. */
#define REFUSALS_SKIPPED 64

static struct {
	uintptr_t first; /* start of our first slice, 0 before */
	uintptr_t end;   /* where we left the break */
	unsigned skip;
} brk_heap;

struct brk_range brk_grow(size_t bytes, size_t pad) {
	struct brk_range none = { 0, 0 };
	if (brk_heap.skip > 0) {
		brk_heap.skip--;
		return none;
	}
	/* The break may stand anywhere: at the start, and after somebody else's sbrk. What we take then starts at
	 * the next slice boundary. */
	uintptr_t now = (uintptr_t)os_brk();
	/* The first time, there is room for a page below it. */
	const size_t front = brk_heap.first == 0 ? os_page_size : 0;
	uintptr_t end = ALIGN_UP(ALIGN_UP(now, os_page_size) + front, SLICE_SIZE) + bytes;
	uintptr_t padded = end + pad;
	if (now == 0 || end < now || padded < end) goto refused;
	uintptr_t old = (uintptr_t)os_brk_move((intptr_t)(padded - now));
	if (old == 0) {
		padded = end;
		old = (uintptr_t)os_brk_move((intptr_t)(padded - now));
		if (old == 0) goto refused;
	}
	/* If another thread called sbrk between our two calls, ours lies behind its memory. */
	const uintptr_t lowest = ALIGN_UP(old, os_page_size);
	struct brk_range got = { ALIGN_UP(lowest + front, SLICE_SIZE),
		                     ALIGN_DOWN(old + (padded - now), SLICE_SIZE) };
	if (brk_heap.first == 0) {
		brk_heap.first = got.start;
		/* What runs over the lower edge of our first block must not go unnoticed into what the program keeps
		 * there. */
		os_guard((void *)lowest, got.start - lowest);
	}
	brk_heap.end = old + (padded - now);
	PROBE(brk_moved, old, brk_heap.end);
	arenal_layout.heap_start = brk_heap.first;
	arenal_layout.heap_end = brk_heap.end;
	return got;
refused:
	brk_heap.skip = REFUSALS_SKIPPED;
	return none;
}

void brk_forget_refusals(void) { brk_heap.skip = 0; }

bool brk_shrink(uintptr_t end) {
	if (brk_top() == 0 || end >= brk_heap.end) return false;
	if (os_brk_move(-(intptr_t)(brk_heap.end - end)) == NULL) return false;
	PROBE(brk_moved, brk_heap.end, end);
	brk_heap.end = end;
	arenal_layout.heap_end = end;
	return true;
}

uintptr_t brk_top(void) {
	if (brk_heap.end == 0 || (uintptr_t)os_brk() != brk_heap.end) return 0;
	return brk_heap.end;
}

struct brk_range brk_extent(void) {
	return (struct brk_range){ brk_heap.first, brk_heap.first == 0 ? 0 : brk_heap.end };
}
