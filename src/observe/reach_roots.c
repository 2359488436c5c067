/* Where the search for what the program can get at begins: memory of its own that is no block. */
#include <string.h>

#include "arena/heap.h"
#include "base/bitmap.h"
#include "base/maps.h"
#include "base/meta.h"
#include "base/os.h"
#include "harden/guard.h"
#include "harden/stack.h"
#include "observe/reach_inner.h"

/* Below its stack pointer, a function that calls none may have words (x86-64's red zone). */
#define RED_ZONE 128

/* What the kernel says of a page in /proc/self/pagemap. */
#define PAGE_PRESENT (UINT64_C(1) << 63)
#define PAGE_SWAPPED (UINT64_C(1) << 62)
#define PAGE_OF_FILE (UINT64_C(1) << 61)
#define ENTRIES 512

static uintptr_t words[64 * KIB / sizeof(uintptr_t)];

/* ---- memory ---- */

static void look_at(uintptr_t from, size_t size) {
	if (size > os_page_size && !os_copy_memory(words, from, size)) {
		for (size_t done = 0; done < size; done += os_page_size)
			look_at(from + done, min_size(os_page_size, size - done));
		return;
	}
	if (size <= os_page_size && !os_copy_memory(words, from, size)) return;
	for (size_t i = 0; i < size / sizeof *words; i++) reach_word(words[i]);
}

static void look_through(uintptr_t from, uintptr_t to) {
	for (size_t part; from < to && reach.problem == NULL; from += part) {
		part = min_size(to - from, sizeof words);
		look_at(from, part);
	}
}

/* Only pages that there are, of this kind: nobody ever wrote to the others. */
static void look_through_pages(uintptr_t from, uintptr_t to, uint64_t but) {
	static uint64_t entries[ENTRIES];
	from = ALIGN_DOWN(from, os_page_size);
	while (from < to && reach.problem == NULL) {
		const size_t count = min_size(ENTRIES, (to - from + os_page_size - 1) / os_page_size);
		if (!os_read_at(reach.pagemap, entries, count * sizeof *entries,
		                from / os_page_size * sizeof *entries)) {
			look_through(from, from + count * os_page_size);
			memset(entries, 0, sizeof entries);
		}
		for (size_t i = 0; i < count; i++) {
			const size_t first = i;
			while (i < count && (entries[i] & (PAGE_PRESENT | PAGE_SWAPPED)) != 0 && (entries[i] & but) == 0)
				i++;
			if (i > first) look_through(from + first * os_page_size, from + i * os_page_size);
		}
		from += count * os_page_size;
		if (os_milliseconds() >= reach.until) reach.problem = "it takes too long";
	}
}

void reach_look_through(uintptr_t from, uintptr_t to) {
	from = ALIGN_UP(from, sizeof(uintptr_t));
	if (to - from <= sizeof words)
		look_through(from, to);
	else
		look_through_pages(from, to, 0);
}

void reach_look_at_pieces(const struct os_piece *pieces, size_t count) {
	size_t size = 0;
	if (os_copy_pieces(words, pieces, count)) {
		for (size_t i = 0; i < count; i++) size += pieces[i].size;
		for (size_t i = 0; i < size / sizeof *words; i++) reach_word(words[i]);
	} else { /* one of them cannot be read */
		for (size_t i = 0; i < count; i++) look_at(pieces[i].from, pieces[i].size);
	}
}

/* ---- what is ours, and no root ---- */

/* NULL where Arenal is part of another file: what it has in its data there counts as the program's. */
extern __typeof__(stack_own_file) stack_own_file __attribute__((weak, visibility("hidden")));

struct range {
	uintptr_t from, to;
};

/* In whole pages, if it is nearer than what was found before. */
static void note(struct range *nearest, uintptr_t at, uintptr_t from, uintptr_t to) {
	to = ALIGN_UP(to, os_page_size);
	if (to > at && from < nearest->from) *nearest = (struct range){ from, to };
}

/* The first range of ours from there on. */
static struct range next_of_ours(uintptr_t at) {
	struct range nearest = { UINTPTR_MAX, UINTPTR_MAX };
	for (const struct meta_place *p = meta_places(); p != NULL; p = p->next)
		note(&nearest, at, p->start, p->end);
	for (const struct region *r = heap_regions(); r != NULL; r = r->next) {
		note(&nearest, at, (uintptr_t)r, (uintptr_t)(r + 1));
		if (at - r->base >= REGION_SIZE && r->base < at) continue;
		for (size_t i = 0; (i = bit_find(r->ours, i, REGION_SLICES, true)) < REGION_SLICES;) {
			const size_t end = bit_find(r->ours, i, REGION_SLICES, false);
			note(&nearest, at, r->base + i * SLICE_SIZE, r->base + end * SLICE_SIZE);
			i = end;
		}
	}
	const struct mapping *place = reach_next_place(at);
	if (place != NULL) note(&nearest, at, (uintptr_t)place->address, (uintptr_t)place->address + place->size);
	note(&nearest, at, (uintptr_t)reach.places, (uintptr_t)reach.places_end);
	uintptr_t start, end;
	if (stack_own_file != NULL && stack_own_file(&start, &end)) note(&nearest, at, start, end);
	note(&nearest, at, (uintptr_t)reach.own, (uintptr_t)reach.own_end);
	return nearest;
}

static void look_at_mapping(uintptr_t from, uintptr_t to, uint64_t but) {
	while (from < to && reach.problem == NULL) {
		const struct range ours = next_of_ours(from);
		if (ours.from > from) look_through_pages(from, min_size(to, ours.from), but);
		from = ours.to;
	}
}

/* ---- mappings ---- */

static uintptr_t own_frame;

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* Private memory that was written to, and what was made to be shared among processes: not files on disks, nor
 * devices, nor what is ours. */
static bool may_point(const char *permissions, const char *file) {
	if (permissions[0] != 'r' || begins(file, "/memfd:arenal") || begins(file, "[v")) return false;
	if (permissions[3] == 'p') return permissions[1] == 'w' || file[0] == 0;
	return begins(file, "/dev/zero") || begins(file, "/dev/shm/") || begins(file, "/memfd:") ||
	       begins(file, "/SYSV");
}

/* Where the words begin that a thread uses on the stack, if this is one: below it is what functions have left
 * that returned. Only a stack that libc or the kernel has made is known to be a mapping of its own. */
static uintptr_t used_from(uintptr_t from, uintptr_t to, bool is_first) {
	uintptr_t used = UINTPTR_MAX;
	const uintptr_t own_pointer = (uintptr_t)__builtin_thread_pointer();
	if (own_frame - from < to - from && (is_first || (own_pointer > own_frame && own_pointer < to)))
		used = own_frame;
	for (size_t i = 0; i < reach.others.count; i++) {
		const struct standing_thread *t = &reach.others.threads[i];
		const uintptr_t sp = t->registers[UNWIND_SP] - RED_ZONE;
		if (sp - from < to - from && sp < used &&
		    (is_first || (t->thread_pointer > sp && t->thread_pointer < to)))
			used = sp;
	}
	return used == UINTPTR_MAX ? from : ALIGN_DOWN(used, sizeof(uintptr_t));
}

static void look_at_stack(uintptr_t from, uintptr_t used, uintptr_t to) {
	const uintptr_t page = min_size(ALIGN_UP(used, os_page_size), to);
	if (used > from) look_through(used, page);
	look_at_mapping(used > from ? page : from, to, 0);
}

static void look_at_line(const struct maps_line *line) {
	const bool has_file = line->file[0] == '/';
	if (!may_point(line->permissions, line->file)) return;
	const uintptr_t used = used_from(line->start, line->end, strcmp(line->file, "[stack]") == 0);
	if (used > line->start)
		look_at_stack(line->start, used, line->end);
	else /* of a file's own pages nobody has written to */
		look_at_mapping(line->start, line->end, has_file && line->permissions[3] == 'p' ? PAGE_OF_FILE : 0);
}

/* Below the registers that the callers want back. */
static NOINLINE void look_at_all(void) {
	own_frame = (uintptr_t)__builtin_frame_address(0);
	if (!maps_read(look_at_line)) reach.problem = "there is no /proc";
	for (size_t i = 0; i < reach.others.count; i++)
		for (size_t k = 0; k < UNWIND_REGISTERS; k++) reach_word(reach.others.threads[i].registers[k]);
}

void reach_roots(void) {
	struct unwind own;
	unwind_here(&own);
	for (size_t i = 0; i < UNWIND_REGISTERS; i++) reach_word(own.registers[i]);
	look_at_all();
}
