#include "observe/stats.h"

#include "arena/arena.h"
#include "arena/depot.h"
#include "arena/holes.h"
#include "arena/huge.h"
#include "arena/pressure.h"
#include "arena/shelf.h"
#include "base/cap.h"
#include "base/lock.h"
#include "base/lock_holds.h"
#include "base/meta.h"
#include "base/os.h"
#include "base/print.h"
#include "cache/sample.h"
#include "cache/tcache.h"
#include "harden/guard.h"
#include "harden/harden.h"

void stats_of_class(unsigned class_, struct class_stats *out) {
	*out = (struct class_stats){ 0 };
	uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	for (uint32_t a = 0; a < count; a++) {
		struct bin *bin = &arena_list[a]->bins[class_];
		lock_take(&bin->lock, RANK_BIN);
		out->spans += bin->spans;
		out->blocks_out += bin->blocks_out;
		out->refills += bin->refills;
		out->flushes += bin->flushes;
		lock_drop(&bin->lock, RANK_BIN);
	}
	depot_add_batches(class_, &out->refills, &out->flushes);
}

static void add_arena(struct arena *arena, struct arena_stats *sum) {
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct bin *bin = &arena->bins[c];
		lock_take(&bin->lock, RANK_BIN);
		sum->spans += bin->spans;
		sum->bytes += bin->blocks_out * size_classes[c].size;
		sum->refills += bin->refills;
		sum->flushes += bin->flushes;
		lock_drop(&bin->lock, RANK_BIN);
	}
	tcache_lock();
	sum->threads += arena_threads(arena);
	tcache_unlock();
}

bool stats_next_arena(uint32_t *place, struct arena_stats *out) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	uint32_t first = 0;
	while (first < count && !arena_list[first]->inherited) first++;
	while (*place<count && * place> first && arena_list[*place]->inherited) ++*place;
	if (*place >= count) return false;
	*out = (struct arena_stats){ .kind = arena_list[*place]->kind, .name = arena_list[*place]->name };
	for (uint32_t a = *place; a < (*place == first ? count : *place + 1); a++)
		if (arena_list[a]->inherited == (*place == first)) add_arena(arena_list[a], out);
	++*place;
	return true;
}

static size_t arenas_in_use(void) {
	const uint32_t count = atomic_load_explicit(&arena_count, memory_order_acquire);
	size_t in_use = 0;
	for (uint32_t a = 0; a < count; a++) in_use += !arena_list[a]->inherited;
	return in_use;
}

void stats_get(struct arenal_stats *out) {
	struct heap_stats heap;
	struct huge_stats huge;
	struct guard_stats guard;
	size_t magazines, kept_runs, threads, small = 0;
	uint64_t refills = 0, flushes = 0;
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct class_stats class_stats;
		stats_of_class(c, &class_stats);
		small += class_stats.blocks_out * size_classes[c].size;
		refills += class_stats.refills;
		flushes += class_stats.flushes;
	}
	tcache_stats_get(&magazines, &kept_runs, &threads);
	kept_runs += shelves_bytes();
	heap_stats_get(&heap);
	huge_stats_get(&huge);
	guard_stats_get(&guard);
	size_t hard_bytes, hard_blocks, hard_kept;
	harden_large_stats(&hard_bytes, &hard_blocks, &hard_kept);
	huge.bytes += hard_bytes;
	huge.blocks += hard_blocks;
	huge.cached += hard_kept;
	const size_t runs = heap.used - heap.spans - heap.purging;
	/* Figures of different layers were read at different moments: each is bounded by what it is a part of, so
	 * that none of these differences is negative. */
	const size_t cached = min_size(magazines, small) + min_size(kept_runs, runs);
	const size_t allocated = small + runs - cached + huge.bytes + guard.bytes;
	/* in spans, beside the blocks that are out */
	const size_t room = heap.spans - min_size(small, heap.spans);
	const size_t holes = min_size(atomic_load_explicit(&holes_bytes, memory_order_relaxed), room);
	const size_t lazy_holes = min_size(atomic_load_explicit(&holes_lazy_bytes, memory_order_relaxed), holes);
	const size_t dirty = heap.dirty + heap.purging + huge.cached;
	const size_t clean = heap.mapped - heap.used - heap.dirty - heap.unsure;
	const size_t active = allocated + cached + (room - holes) + (guard.pages - guard.bytes);
	const size_t resident = active + dirty + heap.unsure + lazy_holes;
	*out = (struct arenal_stats){
		.allocated = allocated,
		.cached = cached,
		.active = active,
		.dirty = dirty,
		.mapped = resident + clean + (holes - lazy_holes),
		.metadata = meta_mapped() + heap.metadata,
		.brk_bytes = heap.brk_bytes,
		.huge_bytes = huge.bytes,
		.huge_blocks = huge.blocks,
		.regions = heap.regions,
		.arenas = arenas_in_use(),
		.threads = threads,
		.purged_total = heap.purged_total,
		.refills = refills,
		.flushes = flushes,
		.guarded = guard.blocks,
		.guarded_total = guard.total,
		.resident = resident,
		.failures_total = atomic_load_explicit(&pressure.failures, memory_order_relaxed),
		.purges_total = atomic_load_explicit(&os_purges.count, memory_order_relaxed),
		.purge_nanoseconds_total = atomic_load_explicit(&os_purges.times.nanoseconds, memory_order_relaxed),
		.pressure = atomic_load_explicit(&pressure.level, memory_order_relaxed),
		.lock_waits_total = atomic_load_explicit(&lock_waits.count, memory_order_relaxed),
		.lock_wait_nanoseconds_total =
		    atomic_load_explicit(&lock_waits.times.nanoseconds, memory_order_relaxed),
		.sampling = atomic_load_explicit(&sample_mean, memory_order_relaxed),
		.cap = (uint64_t)conf.cap,
		.cap_used = atomic_load_explicit(&cap_bytes, memory_order_relaxed),
	};
	stats_times_add(out);
}

/* ---- the table ---- */

struct writer {
	int fd, error;
	void (*write)(void *opaque, const char *text); /* NULL: to fd */
	void *opaque;
};

static void line(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line(struct writer *w, const char *format, ...) {
	char text[256];
	va_list args;
	va_start(args, format);
	size_t length = print_text_args(text, sizeof text - 1, format, args);
	va_end(args);
	text[length++] = '\n';
	text[length] = 0;
	if (w->write != NULL)
		w->write(w->opaque, text);
	else if (w->error == 0)
		w->error = os_write(w->fd, text, length);
}

/* "12.3 MiB" */
struct human {
	char text[24];
};
static struct human human(size_t bytes) {
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	struct human h;
	unsigned unit = 0;
	size_t tenths = bytes * 10;
	if (bytes > SIZE_MAX / 16) tenths = bytes;
	while (tenths >= 10240 && unit < 4) {
		tenths /= 1024;
		unit++;
	}
	if (unit == 0)
		print_text(h.text, sizeof h.text, "%zu B", bytes);
	else
		print_text(h.text, sizeof h.text, "%zu.%zu %s", tenths / 10, tenths % 10, units[unit]);
	return h;
}

static void memory_line(struct writer *w, const char *name, size_t bytes, const char *meaning) {
	line(w, "  %-10s %12s %16zu  %s", name, human(bytes).text, bytes, meaning);
}

static void print_memory(struct writer *w, const struct arenal_stats *s, const struct heap_stats *heap) {
	memory_line(w, "allocated", s->allocated, "in blocks that the program holds");
	memory_line(w, "cached", s->cached, "free, in caches");
	memory_line(w, "active", s->active, "in spans, runs and huge blocks, without their holes");
	memory_line(w, "dirty", s->dirty, "free, kept for reuse");
	memory_line(w, "resident", s->resident, "backed by memory, as far as Arenal knows: at most");
	memory_line(w, "mapped", s->mapped, "address space for blocks");
	memory_line(w, "metadata", s->metadata, "address space for Arenal's own records");
	memory_line(w, "purged", s->purged_total, "given back to the kernel since the start");
	if (s->cap > 0) {
		memory_line(w, "cap", s->cap, "allocations beyond it fail");
		memory_line(w, "cap used", s->cap_used, "counts for it");
	}
	line(w, "  %-10s %12s %16zu  at %p, break at %p", "brk heap", human(s->brk_bytes).text, s->brk_bytes,
	     (void *)heap->brk_start, (void *)heap->brk_end);
	line(w, "  %-10s %12s %16zu  in %zu direct mappings", "huge", human(s->huge_bytes).text, s->huge_bytes,
	     s->huge_blocks);
	line(w, "  %-10s %12zu %16s  of 64 MiB", "regions", s->regions, "");
	line(w, "  %-10s %12zu %16s  with a cache", "threads", s->threads, "");
	line(w, "  %-10s %12zu %16s  blocks between inaccessible pages, %lu since the start", "guarded",
	     s->guarded, "", (unsigned long)s->guarded_total);
}

static void print_arenas(struct writer *w) {
	static const char kinds[][8] = {
		[REGION_MAPPED] = "regions", [REGION_BRK] = "brk", [REGION_GUARDED] = "guarded"
	};
	line(w, "arena      prefers  threads    spans   blocks out");
	struct arena_stats s;
	for (uint32_t place = 0, number = 0; stats_next_arena(&place, &s); number++)
		line(w, "%5u %12s %8u %8zu %12s%s%s", number, kinds[s.kind], s.threads, s.spans, human(s.bytes).text,
		     *s.name != 0 ? "  heap " : "", s.name);
}

static void print_classes(struct writer *w) {
	line(w, " size      spans   blocks out        bytes    fill      refills      flushes");
	for (unsigned c = 1; c < CLASS_COUNT; c++) {
		struct class_stats s;
		stats_of_class(c, &s);
		if (s.refills == 0) continue;
		size_t room = s.spans * size_classes[c].blocks;
		line(w, "%5u %10zu %12zu %12s %6zu%% %12lu %12lu", size_classes[c].size, s.spans, s.blocks_out,
		     human(s.blocks_out * size_classes[c].size).text,
		     room == 0 ? (size_t)0 : s.blocks_out * 100 / room, (unsigned long)s.refills,
		     (unsigned long)s.flushes);
	}
}

static void print_lock_holds(struct writer *w) {
	char text[128];
	if (lock_holds_line(RANKS, text, sizeof text)) line(w, "%s", text);
	for (unsigned rank = 0; rank < RANKS; rank++)
		if (lock_holds_line((enum lock_rank)rank, text, sizeof text)) line(w, "%s", text);
}

static void print_times(struct writer *w, const struct arenal_stats *s) {
	char text[128];
	bool any = false;
	for (unsigned i = 0; i < STATS_TIMES; i++) {
		if (!stats_times_line(s, i, text, sizeof text)) continue;
		if (!any) line(w, "%s", stats_times_head);
		any = true;
		line(w, "%s", text);
	}
}

static void print(struct writer *w) {
	struct arenal_stats s;
	struct heap_stats heap;
	stats_get(&s);
	heap_stats_get(&heap);
	line(w, "arenal " ARENAL_VERSION_STRING " statistics");
	print_memory(w, &s, &heap);
	print_arenas(w);
	print_classes(w);
	print_times(w, &s);
	print_lock_holds(w);
}

int stats_print(int fd) {
	struct writer w = { .fd = fd };
	print(&w);
	return w.error;
}

void stats_print_by(void (*write)(void *opaque, const char *text), void *opaque) {
	struct writer w = { .write = write, .opaque = opaque };
	print(&w);
}
