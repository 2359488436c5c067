/* Part of the shared library only: there, Arenal's own code is all that lies between these. */
#include "harden/stack.h"

#include <elf.h>

extern const char file_start[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));
/* The linker puts data behind code, and this first name of it is nobody else's (`etext` would be
 * exported). */
extern const char code_end[] __asm__("_DYNAMIC") __attribute__((visibility("hidden")));

/* Its head says so: the linker's name for the end would be exported. */
bool stack_own_file(uintptr_t *start, uintptr_t *end) {
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)file_start;
	const Elf64_Phdr *p = (const Elf64_Phdr *)(file_start + head->e_phoff);
	*start = *end = (uintptr_t)file_start;
	for (unsigned i = 0; i < head->e_phnum; i++)
		if (p[i].p_type == PT_LOAD) *end = (uintptr_t)file_start + p[i].p_vaddr + p[i].p_memsz;
	return true;
}

bool stack_own_code(uintptr_t address) {
	return address - (uintptr_t)file_start < (uintptr_t)(code_end - file_start);
}
