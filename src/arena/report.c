#include "arena/report.h"

#include <stdarg.h>

#include "arena/arena.h"
#include "arena/huge.h"
#include "arena/page_map.h"
#include "base/bitmap.h"
#include "base/print.h"

#define LINE 400

_Noreturn COLD void report_end(const char *function, const void *pointer, const char *format, ...) {
	char text[LINE];
	va_list args;
	va_start(args, format);
	print_text_args(text, sizeof text, format, args);
	va_end(args);
	lock_ignore_from_now_on();
	print_fd(2, "arenal: %s(%p): %s; the program ends here\n", function, (void *)pointer, text);
	os_abort();
}

/* Of the span's arena; a span that is empty has none any more, and counts as the first one's. */
static uint32_t arena_number(const struct span *s) {
	const struct bin *bin = span_bin(s);
	uint32_t number = 0, count = atomic_load(&arena_count);
	while (bin != NULL && number < count && arena_list[number] != bin->arena) number++;
	return number;
}

_Noreturn static COLD void end_inside(const char *function, const char *pointer, const char *start,
                                      size_t size, const char *kind) {
	report_end(function, pointer,
	           "the address is not the start of a block: it lies %zu bytes into the %s of %zu bytes at %p",
	           (size_t)(pointer - start), kind, size, (void *)start);
}

_Noreturn static COLD void end_small(const char *function, const struct span *s, const char *pointer,
                                     const char *place) {
	const struct size_class *c = &size_classes[s->class_];
	const size_t offset = (size_t)(pointer - s->start), number = offset / c->size, arena = arena_number(s);
	if (number >= c->blocks)
		report_end(
		    function, pointer,
		    "the address is not a block: it lies behind the last of the blocks of %u bytes at %p, arena %zu",
		    c->size, (void *)s->start, arena);
	if (offset % c->size != 0)
		report_end(
		    function, pointer,
		    "the address is not the start of a block: it lies %zu bytes into the block of %u bytes at %p, "
		    "arena %zu",
		    offset % c->size, c->size, (void *)(pointer - offset % c->size), arena);
	report_end(function, pointer, "the block of %u bytes, arena %zu, was freed already%s", c->size, arena,
	           place != NULL ? place : "");
}

/* In a slice that no span of small blocks has: a run, or free slices, or not ours. */
static COLD void end_run(const char *function, const struct region *r, const char *pointer) {
	const size_t slice = slice_number((uintptr_t)pointer);
	if (!bit_get(r->ours, slice)) return;
	if (bit_get(r->free, slice))
		report_end(
		    function, pointer,
		    "the address is not a block: it lies in free memory of the heap, as after a block was freed "
		    "already");
	size_t first = slice;
	while (first > 0 && r->spans[first].kind == SPAN_NONE) first--;
	const struct span *run = &r->spans[first];
	if ((run->kind != SPAN_RUN && run->kind != SPAN_KEPT) || slice >= first + run->slices) return;
	const size_t size = run->slices * SLICE_SIZE;
	if (run->kind == SPAN_KEPT)
		report_end(function, pointer, "the large block of %zu bytes at %p was freed already", size,
		           (void *)run->start);
	end_inside(function, pointer, run->start, size, "large block");
}

static COLD void end_huge(const char *function, const char *pointer) {
	struct huge_place place = huge_find(pointer);
	if (place.start == NULL) return;
	if (place.kept)
		report_end(
		    function, pointer,
		    "the address is not a block: it lies in a mapping of %zu bytes at %p that was freed already",
		    place.size, (void *)place.start);
	end_inside(function, pointer, place.start, place.size, "huge block");
}

_Noreturn COLD void report_pointer(const char *function, const void *pointer, const char *place) {
	lock_ignore_from_now_on(); /* What other threads do meanwhile may make the details wrong, but not the
	                              report. */
	const struct region *r = page_map_region((uintptr_t)pointer);
	const struct span *s = span_of(pointer);
	if (s != NULL && s->kind == SPAN_SMALL) end_small(function, s, pointer, place);
	if (r != NULL) end_run(function, r, pointer);
	end_huge(function, pointer);
	report_end(function, pointer, "the address is not a block, nor in memory that blocks are in");
}
