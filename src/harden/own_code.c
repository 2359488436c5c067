/* Part of the shared library only: there, Arenal's own code is all that lies between these. */
#include "harden/stack.h"

extern const char file_start[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));
/* The linker puts data behind code, and this first name of it is nobody else's (`etext` would be
 * exported). */
extern const char code_end[] __asm__("_DYNAMIC") __attribute__((visibility("hidden")));

bool stack_own_code(uintptr_t address) {
	return address - (uintptr_t)file_start < (uintptr_t)(code_end - file_start);
}
