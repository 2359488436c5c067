/* Which stacks the report of what is lost is to ignore. The file has a line for each pattern, as those of
 * LeakSanitizer have them: "leak:PATTERN", where "*" is any text, "^" the begin and "$" the end of a name;
 * what begins with "#" is a comment. A stack is ignored when the pattern is part of the name of one of its
 * functions, as the symbol table of its file has it (mangled, of C++), or of the name of that file. */
#include <elf.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/conf.h"
#include "base/maps.h"
#include "base/os.h"
#include "observe/leaks.h"

#define FILE_MOST (64 * KIB)
#define NAME_MOST 512

/* ---- patterns ---- */

static char *patterns; /* lines that end with a zero each, and an empty one */

/* Does the text begin with the pattern? */
static bool matches_here(const char *pattern, const char *text) {
	const char *star = NULL, *retry = NULL;
	for (;;) {
		if (*pattern == 0 || (pattern[0] == '$' && pattern[1] == 0 && *text == 0)) return true;
		if (*pattern == '*') {
			star = ++pattern;
			retry = text;
		} else if (*text != 0 && *pattern == *text) {
			pattern++;
			text++;
		} else if (star != NULL && *retry != 0) {
			pattern = star;
			text = ++retry;
		} else {
			return false;
		}
	}
}

static bool matches(const char *pattern, const char *text) {
	if (*pattern == '^') return matches_here(pattern + 1, text);
	for (;; text++) {
		if (matches_here(pattern, text)) return true;
		if (*text == 0) return false;
	}
}

static bool is_named(const char *name) {
	for (const char *p = patterns; *p != 0; p += strlen(p) + 1)
		if (matches(p, name)) return true;
	return false;
}

/* Moves the patterns of the text to its begin. */
static void find_patterns(char *text) {
	char *out = text;
	patterns = text;
	for (char *line = text, *end; *line != 0; line = end) {
		end = strchrnul(line, '\n');
		if (*end != 0) *end++ = 0;
		line[strcspn(line, "\r")] = 0;
		if (strncmp(line, "leak:", 5) != 0 || line[5] == 0) continue;
		const size_t length = strlen(line + 5) + 1;
		memmove(out, line + 5, length);
		out += length;
	}
	*out = 0;
}

/* ---- addresses ---- */

/* Frames of stacks from which something is held, sorted, each once. */
static struct frame {
	uintptr_t address;
	bool is_named;
} * frames;
static size_t frame_count;

static size_t first_from(uintptr_t address) {
	size_t from = 0, to = frame_count;
	while (from < to) {
		const size_t middle = (from + to) / 2;
		if (frames[middle].address < address)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static void sift(size_t at, size_t count) {
	for (size_t child; (child = 2 * at + 1) < count; at = child) {
		if (child + 1 < count && frames[child + 1].address > frames[child].address) child++;
		if (frames[at].address >= frames[child].address) return;
		const struct frame larger = frames[child];
		frames[child] = frames[at];
		frames[at] = larger;
	}
}

static void sort_frames(void) {
	for (size_t i = frame_count / 2; i-- > 0;) sift(i, frame_count);
	for (size_t end = frame_count; end-- > 1;) {
		const struct frame last = frames[end];
		frames[end] = frames[0];
		frames[0] = last;
		sift(0, end);
	}
	size_t kept = 0;
	for (size_t i = 0; i < frame_count; i++)
		if (kept == 0 || frames[kept - 1].address != frames[i].address) frames[kept++] = frames[i];
	frame_count = kept;
}

static bool collect_frames(void) {
	static struct profile_stack s;
	size_t room = 0;
	for (uint32_t i = 0; profile_stack(i, &s); i++) room += s.counts.live_bytes > 0 ? s.frame_count : 0;
	frames = os_map(ALIGN_UP((room + 1) * sizeof *frames, os_page_size), os_page_size);
	if (frames == NULL) return false;
	for (uint32_t i = 0; profile_stack(i, &s); i++)
		for (uint32_t f = 0; s.counts.live_bytes > 0 && f < s.frame_count && frame_count < room; f++)
			frames[frame_count++].address = s.frames[f];
	sort_frames();
	return true;
}

/* ---- functions of a file ---- */

/* Code of the file that is mapped from `start` to `end`. */
struct code {
	uintptr_t start, end;
	uint64_t offset;
	int fd;
};

static void look_at_symbol(const struct code *c, const Elf64_Sym *symbol, uintptr_t shift, uint64_t names) {
	const unsigned type = ELF64_ST_TYPE(symbol->st_info);
	char name[NAME_MOST + 1] = { 0 };
	if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol->st_value == 0) return;
	const uintptr_t from = symbol->st_value + shift, to = from + symbol->st_size;
	size_t i = first_from(from > c->start ? from : c->start);
	if (i == frame_count || frames[i].address >= to || frames[i].address >= c->end) return;
	for (size_t length = 0; length < NAME_MOST &&
	                        os_read_at(c->fd, name + length, 1, names + symbol->st_name + length) &&
	                        name[length] != 0;)
		length++;
	for (const bool named = is_named(name); named && i < frame_count && frames[i].address < to; i++)
		frames[i].is_named = true;
}

static void look_at_symbols(const struct code *c, const Elf64_Shdr *table, uintptr_t shift, uint64_t names) {
	Elf64_Sym symbols[64];
	const uint64_t count = table->sh_size / sizeof *symbols;
	for (uint64_t i = 0; i < count; i += 64) {
		const size_t part = min_size(64, count - i);
		if (!os_read_at(c->fd, symbols, part * sizeof *symbols, table->sh_offset + i * sizeof *symbols))
			return;
		for (size_t k = 0; k < part; k++) look_at_symbol(c, &symbols[k], shift, names);
	}
}

/* From the file's addresses to the process's. False: the segment is not in there. */
static bool find_shift(const struct code *c, const Elf64_Ehdr *header, uintptr_t *shift) {
	Elf64_Phdr p;
	for (unsigned i = 0; i < header->e_phnum; i++) {
		if (!os_read_at(c->fd, &p, sizeof p, header->e_phoff + i * sizeof p)) return false;
		const uint64_t first = ALIGN_DOWN(p.p_offset, os_page_size);
		if (p.p_type != PT_LOAD || c->offset < first || c->offset >= p.p_offset + p.p_filesz) continue;
		*shift = c->start - c->offset + p.p_offset - p.p_vaddr;
		return true;
	}
	return false;
}

static void look_at_functions(const struct code *c) {
	Elf64_Ehdr header;
	Elf64_Shdr section, names, table = { 0 };
	uintptr_t shift;
	if (!os_read_at(c->fd, &header, sizeof header, 0) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 || !find_shift(c, &header, &shift))
		return;
	for (unsigned i = 0; i < header.e_shnum; i++) {
		if (!os_read_at(c->fd, &section, sizeof section, header.e_shoff + i * sizeof section)) return;
		if (section.sh_type == SHT_SYMTAB || (section.sh_type == SHT_DYNSYM && table.sh_type == 0))
			table = section;
	}
	if (table.sh_type != 0 &&
	    os_read_at(c->fd, &names, sizeof names, header.e_shoff + table.sh_link * sizeof names))
		look_at_symbols(c, &table, shift, names.sh_offset);
}

/* ---- files ---- */

static void look_at_line(const struct maps_line *line) {
	struct code c = { .start = line->start, .end = line->end, .offset = line->offset };
	const size_t first = first_from(c.start);
	if (line->permissions[2] != 'x' || line->file[0] != '/') return;
	if (first == frame_count || frames[first].address >= c.end) return;
	if (is_named(line->file)) {
		for (size_t i = first; i < frame_count && frames[i].address < c.end; i++) frames[i].is_named = true;
	} else if ((c.fd = os_open_file(line->file)) >= 0) {
		look_at_functions(&c);
		os_close(c.fd);
	}
}

size_t leaks_ignored(uint64_t *stacks) {
	static char text[FILE_MOST];
	static struct profile_stack s;
	size_t count = 0, length = 0;
	const int file = os_open_file(conf_files.leaks_ignore);
	if (file < 0) return SIZE_MAX;
	for (size_t part; (part = os_read(file, text + length, sizeof text - length)) > 0;) length += part;
	os_close(file);
	find_patterns(text);
	if (*patterns == 0 || !collect_frames()) return 0;
	maps_read(look_at_line);
	for (uint32_t i = 0; profile_stack(i, &s) && i < PROFILE_STACKS; i++) {
		bool ignored = false;
		for (uint32_t f = 0; f < s.frame_count && !ignored; f++) {
			const size_t at = first_from(s.frames[f]);
			ignored = at < frame_count && frames[at].address == s.frames[f] && frames[at].is_named;
		}
		if (ignored) bit_set(stacks, i);
		count += ignored;
	}
	return count;
}
