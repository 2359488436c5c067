#include "base/build_id.h"

#include <elf.h>
#include <string.h>

#include "base/loaded.h"
#include "base/os.h"
#include "base/print.h"

/* More is damaged, or made by somebody who does not want to be found. */
#define SEGMENTS_MAX 128
#define NOTES_MAX 16

/* Looks through the notes from `at` on. */
static bool read_notes(uintptr_t at, uintptr_t end, uint64_t align, struct build_id *out) {
	struct {
		Elf64_Nhdr sizes;
		char name[4];
	} note;
	const uintptr_t unit = align == 8 ? 8 : 4;
	for (int i = 0; i < NOTES_MAX && end - at >= sizeof note && os_copy_memory(&note, at, sizeof note); i++) {
		const uintptr_t contents = at + ALIGN_UP(sizeof note.sizes + (uintptr_t)note.sizes.n_namesz, unit);
		const uint32_t size = note.sizes.n_descsz;
		if (contents > end || size > end - contents) return false;
		if (note.sizes.n_type == NT_GNU_BUILD_ID && note.sizes.n_namesz == 4 &&
		    memcmp(note.name, ELF_NOTE_GNU, 4) == 0) {
			if (size > sizeof out->bytes || !os_copy_memory(out->bytes, contents, size)) return false;
			out->size = size;
			return true;
		}
		at = contents + ALIGN_UP((uintptr_t)size, unit);
		if (at > end) return false;
	}
	return false;
}

static bool read_segment(uintptr_t start, const Elf64_Ehdr *header, unsigned i, Elf64_Phdr *out) {
	return i < header->e_phnum && os_copy_memory(out, start + header->e_phoff + i * sizeof *out, sizeof *out);
}

void build_id_read(uintptr_t start, struct build_id *out) {
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	out->size = 0;
	if (!os_copy_memory(&header, start, sizeof header)) return;
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64) return;
	if (header.e_phentsize != sizeof segment || header.e_phnum > SEGMENTS_MAX) return;
	for (unsigned i = 0;; i++) {
		if (!read_segment(start, &header, i, &segment)) return;
		if (segment.p_type == PT_LOAD) break;
	}
	/* from the file's addresses to the process's */
	const uintptr_t shift = start - (segment.p_vaddr - segment.p_offset);
	for (unsigned i = 0; read_segment(start, &header, i, &segment); i++) {
		const uintptr_t at = shift + segment.p_vaddr;
		if (segment.p_type != PT_NOTE || segment.p_memsz > UINTPTR_MAX - at) continue;
		if (read_notes(at, at + segment.p_memsz, segment.p_align, out)) return;
	}
}

void build_id_text(char *text, const struct build_id *id) {
	for (uint32_t i = 0; i < id->size; i++) print_text(text + 2 * (size_t)i, 3, "%02x", id->bytes[i]);
	text[2 * (size_t)id->size] = 0;
}

/* ---- all of them ---- */

/* What a line of /proc/self/maps says: "START-END PERMISSIONS OFFSET DEVICE INODE   FILE". */
struct line {
	uintptr_t start;
	bool is_code, is_begin; /* of a file */
	char file[64];          /* its device and number */
};

static uintptr_t read_hex(const char *text) {
	uintptr_t n = 0;
	for (;; text++) {
		if (*text >= '0' && *text <= '9')
			n = n * 16 + (uintptr_t)(*text - '0');
		else if (*text >= 'a' && *text <= 'f')
			n = n * 16 + (uintptr_t)(*text - 'a') + 10;
		else
			return n;
	}
}

static bool read_line(const char *text, struct line *out) {
	const char *permissions = strchr(text, ' ');
	const char *offset = permissions != NULL ? strchr(permissions + 1, ' ') : NULL;
	const char *device = offset != NULL ? strchr(offset + 1, ' ') : NULL;
	const char *number = device != NULL ? strchr(device + 1, ' ') : NULL;
	const char *end = number != NULL ? strchr(number + 1, ' ') : NULL;
	if (end == NULL) return false;
	out->start = read_hex(text);
	out->is_code = permissions[3] == 'x';
	out->is_begin = read_hex(offset + 1) == 0 && number[1] != '0';
	print_text(out->file, sizeof out->file, "%.*s", (int)(end - device), device);
	return true;
}

/* Where there is no /proc, what the loader knows. */
static void find_among_loaded(void (*found)(void *argument, uintptr_t start, const struct build_id *id),
                              void *argument) {
	struct loaded_segment s;
	for (size_t i = 0; loaded_segment(i, &s); i++) {
		struct build_id id = { 0 };
		if (s.offset == 0) build_id_read(s.start, &id);
		if (id.size > 0) found(argument, s.start, &id);
	}
}

void build_id_of_all(void (*found)(void *argument, uintptr_t start, const struct build_id *id),
                     void *argument) {
	char text[2048 + 1];
	struct line begin = { 0 }, line;
	const int file = os_open_maps();
	if (file < 0) {
		find_among_loaded(found, argument);
		return;
	}
	size_t length, kept = 0; /* of a line that is cut, the beginning is kept */
	while ((length = os_read(file, text + kept, sizeof text - kept)) > 0) {
		char *at = text, *end;
		for (; (end = strchr(at, '\n')) != NULL; at = end + 1) {
			*end = 0;
			if (!read_line(at, &line)) continue;
			if (line.is_begin) begin = line;
			/* Once for each file. Data is not looked at: a program may have mapped a thousand files that
			 * nobody has read yet. */
			if (!line.is_code || begin.file[0] == 0 || strcmp(line.file, begin.file) != 0) continue;
			begin.file[0] = 0;
			struct build_id id;
			build_id_read(begin.start, &id);
			if (id.size > 0) found(argument, begin.start, &id);
		}
		kept = strlen(at);
		if (kept == sizeof text - 1) kept = 0; /* the middle of a very long name: no line begins so */
		memmove(text, at, kept);
	}
	os_close(file);
}
