#include "harden/stack.h"

#include <elf.h>
#include <string.h>

#include "base/build_id.h"
#include "base/conf.h"
#include "base/loaded.h"
#include "base/maps.h"
#include "base/os.h"
#include "base/print.h"
#include "harden/unwind.h"

/* NULL where Arenal is part of another file. */
extern __typeof__(stack_own_code) stack_own_code __attribute__((weak, visibility("hidden")));

bool stack_is_possible(void) { return unwind_is_possible(); }

/* The frame and its callers. */
static uint32_t collect(struct unwind *frame, uintptr_t *frames, uint32_t max) {
	uint32_t count = 0;
	do frames[count++] = frame->pc;
	while (count < max && unwind_step(frame));
	return count;
}

void stack_take(struct stack *stack, uintptr_t from) {
	struct unwind frame;
	unwind_here(&frame);
	stack->thread = os_thread_id();
	bool found = unwind_step(&frame);
	while (found && from != 0 && frame.pc != from) found = unwind_step(&frame);
	if (found) {
		stack->count = collect(&frame, stack->frames, STACK_FRAMES);
	} else {
		/* Of a jump to nowhere, only this much is known. */
		stack->frames[0] = from != 0 ? from : (uintptr_t)__builtin_return_address(0) - 1;
		stack->count = 1;
	}
}

void stack_take_interrupted(struct stack *stack, const ucontext_t *context) {
	struct unwind frame;
	unwind_interrupted(&frame, context);
	stack->thread = os_thread_id();
	stack->count = collect(&frame, stack->frames, STACK_FRAMES);
}

uint32_t stack_of_program(uintptr_t *frames, uint32_t max) {
	struct unwind frame;
	unwind_here(&frame);
	if (!unwind_step(&frame)) return 0;
	while (stack_own_code != NULL && stack_own_code(frame.pc))
		if (!unwind_step(&frame)) return 0;
	return collect(&frame, frames, max);
}

/* ---- printing ---- */

/* What a frame's line says. Static: a stack that has just overflown, or a signal's, is short. */
static struct place {
	char file[200];     /* "": in none */
	uintptr_t address;  /* that the file knows it by */
	struct build_id id; /* the file's */
} places[STACK_FRAMES];

/* The file whose mappings the lines are about now. */
struct module {
	char file[sizeof places[0].file];
	uintptr_t base;
	bool is_known; /* which `id` it has */
	struct build_id id;
};

/* Programs that lie at a fixed place know their addresses as they are. */
static uintptr_t address_in_file(const struct module *module, uintptr_t address) {
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)module->base;
	return header->e_type == ET_EXEC ? address : address - module->base;
}

/* "START-END PERMISSIONS OFFSET DEVICE INODE   FILE" */
static void look_at_line(const char *line, struct module *module, const uintptr_t *frames, uint32_t count) {
	const char *at = line;
	const uintptr_t start = maps_read_hex(&at), end = (at++, maps_read_hex(&at));
	if (*at != ' ') return;
	const bool readable = at[1] == 'r';
	at = strchr(at + 1, ' ');
	if (at == NULL) return;
	at++;
	const uintptr_t offset = maps_read_hex(&at);
	const char *file = strchr(at, '/');
	if (file == NULL) return;
	if (offset == 0 && readable) {
		module->base = start;
		module->is_known = false;
		print_text(module->file, sizeof module->file, "%s", file);
	}
	if (strncmp(module->file, file, sizeof module->file - 1) != 0) return;
	for (uint32_t i = 0; i < count; i++) {
		if (frames[i] < start || frames[i] >= end) continue;
		if (!module->is_known) build_id_read(module->base, &module->id);
		module->is_known = true;
		places[i].id = module->id;
		memcpy(places[i].file, module->file, sizeof places[i].file);
		places[i].address = address_in_file(module, frames[i]);
	}
}

static bool find_in_maps(const uintptr_t *frames, uint32_t count) {
	static char text[4096 + 1]; /* the kernel gives no more of this file at once, and whole lines */
	static struct module module;
	const int file = os_open_maps();
	if (file < 0) return false;
	module.file[0] = 0;
	size_t length, kept = 0; /* of a line that is cut, the beginning is kept */
	while ((length = os_read(file, text + kept, sizeof text - kept)) > 0) {
		char *line = text, *end;
		for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
			*end = 0;
			look_at_line(line, &module, frames, count);
		}
		kept = strlen(line);
		if (kept == sizeof text - 1) kept = 0; /* in the middle of a very long name */
		memmove(text, line, kept);
	}
	os_close(file);
	return true;
}

/* Where there is no /proc, what the loader knows. */
static void find_among_loaded(const uintptr_t *frames, uint32_t count) {
	static struct loaded_segment s;
	uintptr_t begin = 0; /* of the file */
	for (size_t i = 0; loaded_segment(i, &s); i++) {
		if (s.offset == 0) begin = s.start;
		for (uint32_t f = 0; f < count; f++) {
			if (frames[f] < s.start || frames[f] >= s.end) continue;
			print_text(places[f].file, sizeof places[f].file, "%s", s.file);
			places[f].address = frames[f] - s.shift;
			build_id_read(begin, &places[f].id);
		}
	}
}

static void find_places(const uintptr_t *frames, uint32_t count) {
	memset(places, 0, sizeof places);
	if (!find_in_maps(frames, count)) find_among_loaded(frames, count);
}

static bool is_first_of_file(uint32_t place) {
	uint32_t i = 0;
	while (strcmp(places[i].file, places[place].file) != 0) i++;
	return i == place;
}

void stack_print_frames(const uintptr_t *frames, uint32_t count) {
	if (count > STACK_FRAMES) count = STACK_FRAMES;
	find_places(frames, count);
	for (uint32_t i = 0; i < count; i++) {
		void *frame = (void *)frames[i];
		char id[2 * BUILD_ID_MAX + 1];
		build_id_text(id, &places[i].id);
		if (places[i].file[0] != 0 && places[i].id.size > 0 && is_first_of_file(i))
			print_fd(2, "    %p  %s+%p (BuildId: %s)\n", frame, places[i].file, (void *)places[i].address,
			         id);
		else if (places[i].file[0] != 0)
			print_fd(2, "    %p  %s+%p\n", frame, places[i].file, (void *)places[i].address);
		else
			print_fd(2, "    %p\n", frame);
	}
}

void stack_print(const char *title, const struct stack *stack) {
	if (stack->thread >= 0)
		print_fd(2, "  %s by thread %d:\n", title, stack->thread);
	else
		print_fd(2, "  %s:\n", title); /* in a sandbox, nobody knows */
	stack_print_frames(stack->frames, stack->count);
}
