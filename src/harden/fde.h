/* The entry of an object's unwind table that an address belongs to. */
#ifndef HARDEN_FDE_H
#define HARDEN_FDE_H

#include "harden/dwarf.h"

/* A function, or a part of one ("frame description entry"), with what it has in common with others ("common
 * information entry"). Lies in the object's .eh_frame, which is mapped for as long as the code is. */
struct fde {
	const uint8_t *section;         /* where .eh_frame begins */
	uintptr_t code;                 /* where the function begins */
	struct reader initial, program; /* instructions of cfi.c, the common ones first */
	uint64_t code_align;            /* distances in the code are given in so many bytes */
	int64_t data_align;             /* distances in the frame are given in so many bytes */
	uint8_t encoding;               /* of addresses, DW_EH_PE_* */
	uint8_t return_register;        /* which holds the return address */
	bool has_data;                  /* there are letters in the common entry, and what they stand for is in
	                                   both */
	bool is_signal;                 /* it calls nothing: the kernel made it look so, when it interrupted
	                                   somebody */
};

/* False when there is none: of code that was made at run time, or by hand; or when the table makes no sense.
 * Takes no lock with glibc 2.35 and later; before, the loader's, as exceptions do. */
bool fde_find(uintptr_t address, struct fde *out);

/* An address as an entry gives it. What would have to be read elsewhere is bad. */
uintptr_t fde_read_address(struct reader *r, uint8_t encoding);

/* The index of the table of the object that the address lies in, NULL if there is none; and the way to find
 * it before glibc 2.35. */
struct header;
const struct header *fde_header(uintptr_t address);
const struct header *fde_header_by_list(uintptr_t address);

#endif
