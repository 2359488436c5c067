/* Messages of hardened mode. */
#ifndef HARDEN_REPORT_H
#define HARDEN_REPORT_H

#include "harden/harden.h"

/* Writes one line to stderr, "arenal: FUNCTION(BLOCK): ...", and ends the program. */
_Noreturn void harden_report(const char *function, const void *block, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Ends the program with a message when a block of that size and family may not go where the claim says. */
void harden_check_claim(const void *block, size_t size, enum family family, const struct claim *claim);

#endif
