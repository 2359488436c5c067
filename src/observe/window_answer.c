/* What the window answers. */
#include <errno.h>
#include <string.h>

#include "arena/arena.h"
#include "arena/pressure.h"
#include "base/conf.h"
#include "cache/tcache.h"
#include "harden/harden.h"
#include "observe/profile.h"
#include "observe/profile_time.h"
#include "observe/stats.h"
#include "observe/trace.h"
#include "observe/window.h"

#define TABLE(page, member, length) \
	{ offsetof(struct window_page, member), sizeof *(page)->member, (uint32_t)(length), 0 }

/* The magic last: a client that waits for it finds the rest there. */
void window_describe(struct window_page *page) {
	const struct window_header header = {
		.magic = WINDOW_MAGIC,
		.version = WINDOW_VERSION,
		.size = WINDOW_SIZE,
		.pid = os_process_id(),
		.answer = offsetof(struct window_page, answer),
		.library = ARENAL_VERSION_STRING,
		.trace = offsetof(struct window_page, trace),
	};
	const size_t from = sizeof header.magic;
	uint64_t magic;
	memcpy(&magic, header.magic, sizeof magic);
	memcpy((char *)&page->header + from, (const char *)&header + from, sizeof header - from);
	atomic_store_explicit((_Atomic uint64_t *)page->header.magic, magic, memory_order_release);
}

static size_t fill_classes(struct window_class *out) {
	size_t cached[CLASS_COUNT], count = 0;
	tcache_blocks_get(cached);
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct class_stats s;
		stats_of_class(c, &s);
		if (s.refills == 0) continue;
		out[count++] = (struct window_class){
			.size = size_classes[c].size,
			.span_bytes = (uint32_t)(size_classes[c].slices * SLICE_SIZE),
			.span_blocks = size_classes[c].blocks,
			.spans = s.spans,
			.blocks_out = s.blocks_out,
			.refills = s.refills,
			.flushes = s.flushes,
			.blocks_cached = min_size(cached[c], s.blocks_out), /* the two were read at different moments */
		};
	}
	return count;
}
static_assert(CLASS_COUNT <= WINDOW_CLASSES, "all size classes have a place");

static size_t fill_arenas(struct window_arena *out) {
	struct arena_stats s;
	size_t count = 0;
	for (uint32_t place = 0; stats_next_arena(&place, &s); count++)
		out[count] = (struct window_arena){ s.kind, s.threads, s.spans, s.bytes, s.refills, s.flushes };
	return count;
}
static_assert(ARENAS_MAX <= WINDOW_ARENAS, "all arenas have a place");

static size_t fill_regions(struct window_region *out) {
	size_t count = 0;
	for (struct region *r = heap_regions(); r != NULL && count < WINDOW_REGIONS; r = r->next) {
		heap_lock();
		/* Not the record of one that is gone. */
		if (r->slices_total > 0 || r->kind == REGION_BRK)
			out[count++] =
			    (struct window_region){ r->base, r->kind, r->slices_total, r->slices_used, r->slices_dirty };
		heap_unlock();
	}
	return count;
}

static size_t fill_tunables(struct window_tunable *out) {
	size_t count = 0;
	for (const struct tunable *t = tunables; t->name != NULL && count < WINDOW_TUNABLES; t++) {
		struct window_tunable record = { .value = *t->value, .min = t->min, .max = t->max, .live = t->live };
		for (size_t i = 0; i < sizeof record.name - 1 && t->name[i] != 0; i++) record.name[i] = t->name[i];
		out[count++] = record;
	}
	return count;
}

/* Figures go to the page as they come: only what was counted here says how many there are. */
static void take_snapshot(struct window_page *page, struct window_answer *answer, int64_t flags) {
	struct arenal_stats stats;
	struct heap_stats heap;
	static_assert(sizeof stats <= sizeof page->stats, "the statistics have a place");
	answer->milliseconds = os_milliseconds();
	stats_get(&stats);
	heap_stats_get(&heap);
	memcpy(page->stats, &stats, sizeof stats);
	answer->brk_start = heap.brk_start;
	answer->brk_end = heap.brk_end;
	/* The two were read at different moments. */
	if ((flags & WINDOW_RESIDENT) != 0) answer->resident = min_size(stats_resident(), stats.mapped);
	answer->stats = (struct window_table){ offsetof(struct window_page, stats), sizeof stats, 1, 0 };
	answer->classes = (struct window_table)TABLE(page, classes, fill_classes(page->classes));
	answer->arenas = (struct window_table)TABLE(page, arenas, fill_arenas(page->arenas));
	answer->regions = (struct window_table)TABLE(page, regions, fill_regions(page->regions));
	answer->tunables = (struct window_table)TABLE(page, tunables, fill_tunables(page->tunables));
}

/* Not arenal_purge: that would make a cache for this thread, to empty it. */
static size_t purge(void) {
	tcache_drain(0);
	return harden_purge_all(0);
}

static int prepare_dump(int dump[2]) {
	if (profile_mean() == 0) return ENODATA;
	return os_pipe(dump) ? 0 : ENOMEM;
}

/* Of what anybody may write to at any moment. Owner: the window's thread. */
static int start_trace(const struct window_trace *in_page) {
	static char path[sizeof in_page->path];
	for (size_t i = 0; i < sizeof path; i++) path[i] = *(const volatile char *)&in_page->path[i];
	path[sizeof path - 1] = 0;
	if (path[0] != '/') return EINVAL;
	return trace_open(path, *(const volatile uint64_t *)&in_page->bytes,
	                  *(const volatile uint64_t *)&in_page->milliseconds);
}

static void put_trace(struct window_trace *out) {
	struct trace_state_now now;
	trace_state_get(&now);
	out->bytes = now.bytes;
	out->milliseconds = now.milliseconds;
	out->left = now.left;
	out->state = now.state;
	out->is_on = now.is_on;
	for (size_t i = 0; i < sizeof out->path; i++) {
		out->path[i] = i + 1 < sizeof out->path ? now.path[i] : 0;
		if (now.path[i] == 0) break;
	}
}

static int answer_trace(struct window_page *page, uint32_t kind) {
	const int error = kind == WINDOW_TRACE_START  ? start_trace(&page->trace)
	                  : kind == WINDOW_TRACE_STOP ? trace_close()
	                                              : 0;
	put_trace(&page->trace);
	return error;
}

void window_answer(struct window_page *page, const struct window_request *request, int dump[2]) {
	struct window_answer answer = { 0 };
	switch (request->kind) {
	case WINDOW_HELLO: break;
	case WINDOW_SNAPSHOT:
		/* The kernel is asked by mincore, which few filters know. */
		if ((request->value & WINDOW_RESIDENT) != 0 && conf.sandbox != 0 && os_is_filtered())
			answer.error = EPERM;
		else
			take_snapshot(page, &answer, request->value);
		break;
	case WINDOW_GET: answer.error = conf_get(request->name, &answer.value); break;
	case WINDOW_SET:
		answer.error = conf_set(request->name, request->value);
		pressure_look_again();
		profile_time_look();
		break;
	case WINDOW_PURGE: answer.value = (int64_t)purge(); break;
	case WINDOW_PROFILE_START:
		answer.error = request->value >= 0 ? profile_start((size_t)request->value) : EINVAL;
		break;
	case WINDOW_PROFILE_STOP: profile_stop(); break;
	case WINDOW_PROFILE_DUMP:
		answer.error = prepare_dump(dump);
		answer.value = dump[0];
		break;
	case WINDOW_TRACE_START:
	case WINDOW_TRACE_STOP:
	case WINDOW_TRACE_STATE: answer.error = answer_trace(page, request->kind); break;
	default: answer.error = ENOSYS;
	}
	/* All but the number, by which the client knows that the rest is there. */
	const size_t from = offsetof(struct window_answer, error);
	memcpy((char *)&page->answer + from, (char *)&answer + from, sizeof answer - from);
}
