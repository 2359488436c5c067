#include "base/loaded.h"

#include <link.h>
#include <string.h>

#include "base/os.h"
#include "base/print.h"

struct search {
	size_t left; /* segments before it */
	struct loaded_segment *out;
};

/* The program has no name here. One that is not absolute begins in the directory that the process is in, as
 * far as we know. */
static void find_name(const char *name, char *file, size_t size) {
	if (name == NULL || name[0] == 0) name = os_program();
	while (name[0] == '.' && name[1] == '/') name += 2;
	size_t length = 0;
	if (name[0] != '/' && os_directory(file, size)) {
		length = strnlen(file, size - 2);
		file[length++] = '/';
	}
	print_text(file + length, size - length, "%s", name);
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *argument) {
	(void)size;
	struct search *search = argument;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *s = &info->dlpi_phdr[i];
		if (s->p_type != PT_LOAD || search->left-- > 0) continue;
		struct loaded_segment *out = search->out;
		const uintptr_t start = info->dlpi_addr + s->p_vaddr, lead = start & (os_page_size - 1);
		out->start = start - lead;
		out->end = ALIGN_UP(start + s->p_filesz, os_page_size);
		out->shift = info->dlpi_addr;
		out->offset = s->p_offset - lead;
		out->permissions[0] = (s->p_flags & PF_R) != 0 ? 'r' : '-';
		out->permissions[1] = (s->p_flags & PF_W) != 0 ? 'w' : '-';
		out->permissions[2] = (s->p_flags & PF_X) != 0 ? 'x' : '-';
		out->permissions[3] = 'p';
		out->permissions[4] = 0;
		find_name(info->dlpi_name, out->file, sizeof out->file);
		return 1;
	}
	return 0;
}

bool loaded_segment(size_t number, struct loaded_segment *out) {
	struct search search = { number, out };
	return dl_iterate_phdr(look_at_object, &search) != 0;
}
