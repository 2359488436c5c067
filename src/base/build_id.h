/* Build IDs (NT_GNU_BUILD_ID) of programs and libraries as they were loaded. When somebody looks for their
 * symbols later, another file may have their name. */
#ifndef BASE_BUILD_ID_H
#define BASE_BUILD_ID_H

#include "base/base.h"

/* Linkers make them 16 or 20 bytes long. Longer ones are left out. */
#define BUILD_ID_MAX 32

struct build_id {
	uint32_t size; /* 0: there is none, or it cannot be read */
	uint8_t bytes[BUILD_ID_MAX];
};

/* Of the ELF file whose first byte is mapped at `start`, or of what is there instead: nothing faults. Takes
 * no lock. */
void build_id_read(uintptr_t start, struct build_id *out);

/* Hexadecimal, with a zero: 2 * BUILD_ID_MAX + 1 bytes. */
void build_id_text(char *text, const struct build_id *id);

/* Calls `found` for each file with mapped code that has one. Reads /proc/self/maps, or asks the loader where
 * there is none. */
void build_id_of_all(void (*found)(void *argument, uintptr_t start, const struct build_id *id),
                     void *argument);

#endif
