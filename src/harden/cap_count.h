/* What counts for the cap (base/cap.h), by the records of all layers. */
#ifndef HARDEN_CAP_COUNT_H
#define HARDEN_CAP_COUNT_H

#include "base/base.h"

/* Bytes; the same as cap_bytes while no other thread allocates, frees or purges. Takes the layers' locks, one
 * after the other. */
size_t cap_count(void);

/* In the child of a fork: threads that only its parent has may have been about to map what they had
 * counted. */
void cap_after_fork(void);

#endif
