/* The traced front: plain serves each call, with the thread's cache in its place, fast paths included, and
 * the call is recorded. What is asked for meanwhile, by realloc or by the thread's first use of its cache, is
 * a part of the call, and is not.
 *
 * When recording stops, this stays the front. But a thread brings its cache to light for good with its next
 * call, and comes here from slow paths only from then on.
 *
 * In a process that runs (trace_start.c), this becomes the front before anything is recorded, and threads
 * that have not hidden their caches yet do it in `enter`. */
#include "cache/front.h"
#include "cache/tcache.h"
#include "observe/trace.h"
#include "observe/trace_clock.h"

static const struct front *plain; /* written once, by trace_start */

/* A call that is recorded. Owner: its thread. */
struct call {
	struct tcache *hidden;       /* what hides the thread's cache otherwise */
	struct trace_writer *writer; /* NULL: a thread without a cache */
};

/* Brings the thread's cache to light until `leave`. False: the call is part of another one, or recording has
 * stopped: it is to be served, not recorded. */
static inline bool enter(struct call *call) {
	call->hidden = tcache_reveal();
	const bool stopped = unlikely(atomic_load_explicit(&trace_stopped, memory_order_acquire));
	if (unlikely(stopped)) trace_lead_again();
	if (call->hidden == NULL) return false;
	if (stopped) {
		if (call->hidden != &tcache_hiding)
			tcache_conceal(call->hidden);
		else
			tcache_unhide();
		return false;
	}
	const bool has_cache = likely(call->hidden == &tcache_hiding);
	if (unlikely(has_cache && tcache_current->led_away)) tcache_lead_own();
	call->writer = has_cache ? tcache_current->attached : NULL;
	if (unlikely(call->writer == NULL && has_cache))
		call->writer = tcache_current->attached = trace_thread_begin();
	return true;
}

static inline void leave(const struct call *call) { tcache_conceal(call->hidden); }

static void *traced_allocate(size_t size, enum family family) {
	struct call call;
	if (unlikely(!enter(&call))) return plain->allocate(size, family);
	void *block = plain->allocate(size, family);
	leave(&call);
	trace_allocated(call.writer, TRACE_MALLOC, block, size, 0, family);
	return block;
}

static void *traced_allocate_zeroed(size_t size) {
	struct call call;
	if (unlikely(!enter(&call))) return plain->allocate_zeroed(size);
	void *block = plain->allocate_zeroed(size);
	leave(&call);
	trace_allocated(call.writer, TRACE_CALLOC, block, size, 0, FAMILY_MALLOC);
	return block;
}

static void *traced_allocate_aligned(size_t align, size_t size, enum family family) {
	struct call call;
	if (unlikely(!enter(&call))) return plain->allocate_aligned(align, size, family);
	void *block = plain->allocate_aligned(align, size, family);
	leave(&call);
	trace_allocated(call.writer, TRACE_ALIGNED, block, size, align, family);
	return block;
}

static void *traced_resize(void *block, size_t size) {
	struct call call;
	if (unlikely(!enter(&call))) return plain->resize(block, size);
	trace_moves(call.writer, block);
	void *moved = plain->resize(block, size);
	const size_t has = likely(moved != NULL) ? 0 : plain->usable_size(block, "realloc");
	leave(&call);
	if (likely(moved != NULL))
		trace_allocated(call.writer, TRACE_REALLOC, moved, size, 0, FAMILY_MALLOC);
	else
		trace_stayed(call.writer, block, has, size);
	return moved;
}

static void traced_release(void *block, const struct claim *claim) {
	struct call call;
	if (unlikely(!enter(&call))) {
		plain->release(block, claim);
		return;
	}
	trace_freed(call.writer, block, claim->family);
	plain->release(block, claim);
	leave(&call);
}

/* Not recorded, but redis asks for every block: with the cache in its place, the answer is quick. */
static size_t traced_usable_size(void *block, const char *function) {
	struct tcache *hidden = tcache_reveal();
	const size_t size = plain->usable_size(block, function);
	if (likely(hidden != NULL)) tcache_conceal(hidden);
	return size;
}

static const struct front traced = {
	traced_allocate, traced_allocate_zeroed, traced_allocate_aligned,
	traced_resize,   traced_release,         traced_usable_size,
};

const struct front *trace_start(const struct front *behind) {
	if (!trace_begin()) return NULL;
	plain = behind;
	tcache_hide();
	return &traced;
}

/* ---- in a process that runs ---- */

static const struct front *offered;
static const struct front *_Atomic *chosen;

void trace_offer(const struct front *behind, const struct front *_Atomic *place) {
	offered = behind;
	chosen = place;
}

bool trace_take_front(void) {
	if (chosen == NULL) return false;
	const struct front *now = atomic_load(chosen);
	if (now != NULL) return now == &traced;
	plain = offered;
	front_serve(chosen, &traced);
	return true;
}
